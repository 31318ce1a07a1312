// solve, lossAndGrad, sensitivities: arguments checked and laid out, one call of the core, results copied out.
import { framed, methods, solveCall, statusName, statusText, tableau } from "./core.mjs";
import { PynodeError } from "./program.mjs";

const LOSSES = { mse: [1, true], sse: [1, false], mae: [2, true], huber: [3, true], student: [4, true] };
const GRADIENT = { none: 0, discrete: 1 };
const STABILITY = 3.31; // dopri5's real stability interval, as pynode/engine/stiffness.py has it
const AUTO = ["dopri5", "rodas5p"];
const MOST_STEPS = 1e8;
const MOST_DENSE = 200;
const OPTIONS = [
  "method", "rtol", "atol", "step", "save", "maxSteps", "firstStep", "maxStep", "inputs", "mass", "event", "errors",
  "loss", "weight", "lossScale", "lossDof", "wrt", "memory", "steps",
];

const isList = (x) => Array.isArray(x) || ArrayBuffer.isView(x);

function numbers(name, x) {
  const flat = ArrayBuffer.isView(x) ? Float64Array.from(x) : Float64Array.from([x].flat(Infinity), Number);
  if (flat.some((v) => !Number.isFinite(v))) throw new PynodeError(`${name} must be finite numbers`);
  return flat;
}

function positive(name, x, zero = false) {
  if (typeof x !== "number" || !Number.isFinite(x) || x < 0 || (x === 0 && !zero))
    throw new PynodeError(`${name}=${x} must be ${zero ? "0 or " : ""}a positive number`);
  return x;
}

// (B, d) states and (T) times, or (B, T): each sample its own
function batchOf(f, y0, t) {
  const many = isList(y0) && isList(y0[0]);
  const y = numbers("y0", y0);
  const n = many ? y0.length : 1;
  if (y.length !== n * f.d) throw new PynodeError(`y0 has ${y.length} numbers: ${f.name} has ${f.d} states`);
  const each = isList(t) && isList(t[0]);
  const times = numbers("t", t);
  const nTimes = each ? times.length / n : times.length;
  if (nTimes < 1 || !Number.isInteger(nTimes) || (each && t.length !== n))
    throw new PynodeError(`t has ${times.length} numbers for ${n} samples: one list for all, or one as long for each`);
  return { y, times, n, nTimes, each, single: !many };
}

// piecewise polynomials of an input, shared by all samples
function signalOf(f, inputs, last) {
  if (!f.inputs) {
    if (inputs) throw new PynodeError(`inputs are given, but ${f.name} takes none`);
    return { knots: [], coef: [], degree: -1 };
  }
  if (!inputs) throw new PynodeError(`inputs are missing: ${f.name} takes ${f.inputs}`);
  const m = f.inputs;
  const kind = inputs.kind ?? (inputs.t ? "linear" : "constant");
  const u = numbers("inputs.u", inputs.u);
  if (kind === "constant") {
    if (u.length !== m) throw new PynodeError(`inputs.u has ${u.length} numbers, ${f.name} takes ${m}`);
    return { knots: [-1e300, 1e300], coef: u, degree: 0 };
  }
  const t = numbers("inputs.t", inputs.t);
  if (kind !== "previous" && kind !== "linear")
    throw new PynodeError(`inputs.kind=${kind} is not one of constant, previous, linear`);
  if (u.length !== t.length * m || t.length < (kind === "linear" ? 2 : 1))
    throw new PynodeError(`inputs: ${t.length} knots and ${u.length} values of ${m} inputs`);
  if (kind === "previous") return { knots: [...t, Math.max(last, t[t.length - 1]) + 1], coef: u, degree: 0 };
  const coef = [];
  for (let j = 0; j + 1 < t.length; j++) {
    const [a, b] = [u.slice(j * m, (j + 1) * m), u.slice((j + 1) * m, (j + 2) * m)];
    coef.push(...a, ...a.map((value, i) => (b[i] - value) / (t[j + 1] - t[j])));
  }
  return { knots: [...t], coef, degree: 1 };
}

// pairs of times around those at which a field changes its form
function stopsOf(f, times) {
  const low = Math.min(...times);
  const high = Math.max(...times);
  const eps = 2 ** -52;
  const pairs = [];
  for (const [t, size] of f.breaks) {
    const width = Math.max(5 * eps * size, eps ** 2 * Math.max(Math.abs(low), Math.abs(high)));
    if (t + width < low || t - width > high) continue;
    const lastPair = pairs[pairs.length - 1];
    if (lastPair && t - width <= lastPair[1]) lastPair[1] = Math.max(t + width, lastPair[1]);
    else pairs.push([t - width, t + width]);
  }
  return pairs.flat();
}

function methodMembers(frame, f, options, derivatives, moving) {
  const name = options.method ?? "dopri5";
  const [explicit, stiff] = name === "auto" ? AUTO : [name, null];
  const facts = methods()[explicit];
  const members = { tableau: tableau(frame, explicit), beta: facts?.errorOrder ? 0.2 : 0 };
  const fixed = options.step !== undefined;
  if (!fixed && facts.errorOrder === 0) {
    const able = Object.keys(methods()).filter((other) => methods()[other].errorOrder);
    throw new PynodeError(`method=${name} has no error estimate: give step, or take one of ${able.join(", ")}`);
  }
  if (fixed && stiff) throw new PynodeError("method=auto changes methods where steps are chosen: with step name one method");
  if (facts.implicit || stiff) {
    if (f.d > MOST_DENSE) throw new PynodeError(`method=${name} solves dense systems here: ${f.d} states are more than ${MOST_DENSE}`);
    if (moving) throw new PynodeError(`method=${name} takes constant or previous inputs here, not linear ones`);
    members.jacobian = f.core("jacobian").at;
    if (derivatives) members.jacobian_reverse = f.core("jacobianReverse").at;
    if (options.mass) members.mass = frame.put(massOf(f, options.mass));
    if (stiff) Object.assign(members, { stiff: tableau(frame, stiff), stability: STABILITY });
  } else if (options.mass) throw new PynodeError(`mass needs a method that solves linear systems; method=${name} does not`);
  return members;
}

function massOf(f, mass) {
  const values = numbers("mass", mass);
  if (values.length === f.d * f.d) return values;
  if (values.length !== f.d) throw new PynodeError(`mass has ${values.length} numbers: give ${f.d} or ${f.d} by ${f.d}`);
  const full = new Float64Array(f.d * f.d);
  values.forEach((value, i) => { full[i * f.d + i] = value; });
  return full;
}

function controlMembers(frame, f, options, times) {
  const fixed = options.step !== undefined;
  const rtol = positive("rtol", options.rtol ?? 1e-6, true);
  if (rtol >= 1) throw new PynodeError(`rtol=${rtol} asks for no correct digit: it must be below 1`);
  const atol = numbers("atol", options.atol ?? 1e-8);
  if (atol.length !== 1 && atol.length !== f.d) throw new PynodeError(`atol has ${atol.length} numbers: give 1 or ${f.d}`);
  const span = Math.max(...times) - Math.min(...times);
  const maxSteps = options.maxSteps ?? (fixed ? MOST_STEPS : 100000);
  const step = fixed ? positive("step", options.step) : 0;
  if (fixed && span / step > MOST_STEPS) throw new PynodeError(`step=${step} takes more than ${MOST_STEPS} steps over ${span}`);
  const save = options.save ?? "interpolate";
  if (save !== "interpolate" && save !== "land") throw new PynodeError(`save=${save} must be interpolate or land`);
  return {
    adaptive: fixed ? 0 : 1,
    step,
    rtol,
    atol: frame.put(atol.length === f.d ? atol : new Float64Array(f.d).fill(atol[0])),
    first_step: options.firstStep === undefined ? 0 : positive("firstStep", options.firstStep),
    max_step: options.maxStep === undefined ? 0 : positive("maxStep", options.maxStep),
    max_steps: Math.min(positive("maxSteps", maxSteps), 2 ** 31 - 1),
    land: save === "land" ? 1 : 0,
    memory: options.memory === undefined ? 0 : Math.min(positive("memory", options.memory), 2 ** 31 - 1),
  };
}

// the members of every solve, and the addresses of its results
function prepare(frame, f, y0, t, theta, options, derivatives) {
  const unknown = Object.keys(options).filter((name) => !OPTIONS.includes(name));
  if (unknown.length) throw new PynodeError(`unknown option ${unknown[0]}; the options are ${OPTIONS.join(", ")}`);
  const batch = batchOf(f, y0, t);
  const { y, times, n, nTimes } = batch;
  const parameters = numbers("theta", theta ?? []);
  const thetaEach = parameters.length === n * f.nParams && parameters.length !== f.nParams ? 1 : 0;
  if (!thetaEach && parameters.length !== f.nParams)
    throw new PynodeError(`theta has ${parameters.length} numbers: ${f.name} has ${f.nParams} parameters`);
  const signal = signalOf(f, options.inputs, Math.max(...times));
  const stops = stopsOf(f, times);
  const at = {
    y: frame.room(n * nTimes * f.d), status: frame.room(n, Int32Array), stop_t: frame.room(n),
    stop_component: frame.room(n, Int32Array), counts: frame.room(3 * n),
  };
  const members = {
    ...methodMembers(frame, f, options, derivatives, signal.degree > 0),
    ...controlMembers(frame, f, options, times),
    ...at,
    field: f.core("field").at, reverse: derivatives ? f.core("reverse").at : 0,
    theta: frame.put(parameters), n_theta: f.nParams, theta_each: thetaEach,
    d: f.d, m: f.inputs, n, y0: frame.put(y), t: frame.put(times), n_times: nTimes, times_each: batch.each ? 1 : 0,
    degree: signal.degree, loss_scale: 1, loss_dof: 4,
  };
  if (f.inputs) Object.assign(members, { knot: frame.put(signal.knots), n_knots: signal.knots.length, coef: frame.put(signal.coef) });
  if (stops.length) Object.assign(members, { stops: frame.put(stops), n_stops: stops.length });
  return { batch, members, at, thetaEach };
}

function solution(frame, f, { batch, at, steps }, options) {
  const { n, nTimes, single, times, each } = batch;
  const status = frame.get(at.status, n, Int32Array);
  const counts = frame.get(at.counts, 3 * n);
  const failed = status.findIndex((s) => s !== 0);
  const stopT = frame.get(at.stop_t, n);
  if (failed >= 0 && (options.errors ?? "raise") !== "ignore")
    throw new PynodeError(
      `sample ${failed} stopped at t = ${stopT[failed]}: ${statusText(status[failed])}`, statusName(status[failed]),
    );
  const of = (k) => Array.from({ length: n }, (_, i) => counts[3 * i + k]);
  return {
    t: each ? times : times.slice(),
    y: frame.get(at.y, n * nTimes * f.d),
    shape: single ? [nTimes, f.d] : [n, nTimes, f.d],
    status: Array.from(status, statusName),
    stopT,
    nfe: of(0),
    accepted: of(1),
    rejected: of(2),
    ...(steps ? { steps } : {}),
  };
}

function addEvent(frame, f, event, members, n) {
  const g = event.field;
  if (g.d !== f.d || g.inputs) throw new PynodeError(`event: it must be a function of t and the ${f.d} states`);
  const count = g.program.sizes[g.program.outputs[0]];
  const direction = [event.direction ?? 0].flat();
  if (direction.length !== count) throw new PynodeError(`event: ${direction.length} directions for ${count} functions`);
  const theta = numbers("event.theta", event.theta ?? []);
  if (theta.length !== g.nParams) throw new PynodeError(`event.theta has ${theta.length} numbers, not ${g.nParams}`);
  if (members.theta_each && g.nParams) throw new PynodeError("event: with a theta for each sample it takes no parameters");
  Object.assign(members, {
    event: g.core("field").at, event_theta: frame.put(theta), event_direction: frame.put(direction, Int32Array),
    event_side: frame.room(n * count, Int32Array), event_which: frame.put(new Int32Array(n).fill(-1), Int32Array),
    event_y: frame.room(2 * n * f.d),
  });
}

/** Solve y' = f(t, y; theta). With `event` each sample ends where the first event function changes its sign. */
export function solve(f, y0, t, theta = [], options = {}) {
  return framed((frame) => {
    const call = prepare(frame, f, y0, t, theta, options, false);
    const { n } = call.batch;
    if (options.event) addEvent(frame, f, options.event, call.members, n);
    solveCall(frame, call, options);
    const result = solution(frame, f, call, options);
    if (options.event) {
      const ends = frame.get(call.members.event_y, 2 * n * f.d);
      result.eventWhich = Array.from(frame.get(call.members.event_which, n, Int32Array));
      result.eventY = Array.from({ length: n }, (_, i) => Array.from(ends.slice((2 * i + 1) * f.d, (2 * i + 2) * f.d)));
    }
    return result;
  });
}

/** The loss of a solve against data (NaN: not observed), and its gradient, the exact one of the steps taken. */
export function lossAndGrad(f, y0, t, theta, target, options = {}) {
  return framed((frame) => {
    const name = options.loss ?? "mse";
    if (!Object.hasOwn(LOSSES, name)) throw new PynodeError(`loss=${name} is not one of ${Object.keys(LOSSES).join(", ")}`);
    const [loss, isMean] = LOSSES[name];
    const call = prepare(frame, f, y0, t, theta, options, true);
    const { n, nTimes } = call.batch;
    const rows = Float64Array.from(ArrayBuffer.isView(target) ? target : target.flat(Infinity), Number);
    if (rows.length !== n * nTimes * f.d)
      throw new PynodeError(`target has ${rows.length} numbers, the solution ${n} x ${nTimes} x ${f.d}`);
    const weight = options.weight === undefined ? null : numbers("weight", options.weight);
    if (weight && (weight.length !== rows.length || weight.some((w) => w < 0)))
      throw new PynodeError(`weight must be ${rows.length} numbers of at least 0`);
    const wants = [options.wrt ?? "theta"].flat();
    const at = {
      sample_loss: frame.room(n), sample_weight: frame.room(n), g_y0: frame.room(n * f.d),
      g_theta: frame.room(f.nParams * (call.thetaEach ? n : 1)), g_t: frame.room(n * nTimes),
    };
    Object.assign(call.members, at, {
      loss, gradient: GRADIENT.discrete, target: frame.put(rows), weight: weight ? frame.put(weight) : 0,
      loss_scale: positive("lossScale", options.lossScale ?? 1), loss_dof: positive("lossDof", options.lossDof ?? 4),
    });
    if (!wants.includes("t")) call.members.g_t = 0;
    solveCall(frame, call, options);
    const sum = (list) => list.reduce((a, b) => a + b, 0);
    const total = sum(frame.get(at.sample_weight, n));
    const scale = isMean ? 1 / (total || 1) : 1;
    const scaled = (list) => list.map((x) => x * scale);
    return {
      ...solution(frame, f, call, options),
      loss: sum(frame.get(at.sample_loss, n)) * scale,
      grad: scaled(frame.get(at.g_theta, f.nParams * (call.thetaEach ? n : 1))),
      gradY0: scaled(frame.get(at.g_y0, n * f.d)),
      gradT: wants.includes("t") ? scaled(frame.get(at.g_t, n * nTimes)) : null,
    };
  });
}

/** Solve with dy/dtheta (.., d, p) and dy/dy0 (.., d, d), the exact ones of the steps taken. */
export function sensitivities(f, y0, t, theta = [], options = {}) {
  return framed((frame) => {
    const call = prepare(frame, f, y0, t, theta, options, true);
    const { n, nTimes } = call.batch;
    const columns = f.nParams + f.d;
    const rows = n * nTimes * f.d;
    call.members.sensitivity = frame.room(rows * columns);
    solveCall(frame, call, options);
    const all = frame.get(call.members.sensitivity, rows * columns);
    const part = (from, width) => {
      const out = new Float64Array(rows * width);
      for (let r = 0; r < rows; r++) out.set(all.subarray(r * columns + from, r * columns + from + width), r * width);
      return out;
    };
    return { ...solution(frame, f, call, options), theta: part(0, f.nParams), y0: part(f.nParams, f.d) };
  });
}
