// Fields: from Python's JSON, an MLP, or instructions written with a Builder.
import { CoreProgram, evaluate } from "./core.mjs";
import { Builder, fromData, jacobianProgram, PynodeError, vjpProgram } from "./program.mjs";

/** Mulberry32 and Box-Muller: numbers that are the same in every browser (not those of NumPy). */
export function normals(seed, n) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return (((x ^ (x >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  return Array.from({ length: n }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

const product = (shape) => shape.reduce((a, b) => a * b, 1);

function drawn({ shape, init }, seed) {
  const [kind, value] = init;
  const n = product(shape);
  if (kind === "normal") return normals(seed, n).map((x) => x * value);
  if (kind === "value") return [value].flat(Infinity).map(Number);
  return new Array(n).fill(0);
}

function checkSpec(spec, nTheta) {
  const good = ({ name, shape, offset, init }) =>
    typeof name === "string" && Array.isArray(shape) && Number.isInteger(offset) && offset >= 0 && Array.isArray(init) &&
    offset + product(shape) <= nTheta;
  if (!Array.isArray(spec) || !spec.every(good)) throw new PynodeError("field: its parameters do not fit its program");
}

export class Field {
  /** `program`: plain data, slots t, y, u and one output; `spec`: its parameters by name. */
  constructor(program, { name = "field", spec = [], states = [], breaks = [] } = {}) {
    this.program = program;
    this.name = name;
    this.spec = spec;
    this.states = states;
    this.breaks = breaks;
    this.made = new Map();
    this.core("field"); // the core looks at everything
    const { sizes, nSlots, outputs, nTheta } = program;
    if (nSlots !== 3 || sizes[0] !== 1 || outputs.length !== 1 || outputs[0] < 0 || nTheta.length !== 1)
      throw new PynodeError("field: not the program of a field (slots t, y, u; one output; one theta)");
    checkSpec(spec, nTheta[0]);
  }

  /** A field from the text that `field.to_json()` gives in Python; `breaks`: its `program.breaks`, where it has any. */
  static fromJSON(text, { breaks = [] } = {}) {
    let data;
    try {
      data = typeof text === "string" ? JSON.parse(text) : text;
    } catch (error) {
      throw new PynodeError(`field: not JSON: ${error.message}`);
    }
    if (data === null || typeof data !== "object") throw new PynodeError("field: it must be an object");
    if (data.format !== "pynode-field" || data.version !== 1)
      throw new PynodeError(`field: format ${data.format}, version ${data.version}: this reads pynode-field, version 1`);
    if (!Array.isArray(data.parameters) || !Array.isArray(data.states))
      throw new PynodeError("field: parameters and states must be lists");
    return new Field(fromData(data.program), {
      name: String(data.name), spec: data.parameters, states: data.states.map((state) => state.name), breaks,
    });
  }

  get d() { return this.program.sizes[1]; }
  get inputs() { return this.program.sizes[2]; }
  get nParams() { return this.program.nTheta[0]; }

  /** One of the core's programs: "field", "reverse", "jacobian", "jacobianReverse"; made when first asked for. */
  core(which) {
    if (!this.made.has(which)) {
      const data = {
        field: () => this.program,
        reverse: () => vjpProgram(this.program),
        jacobian: () => jacobianProgram(this.program),
        jacobianReverse: () => vjpProgram(jacobianProgram(this.program)),
      }[which]();
      this.made.set(which, new CoreProgram(data));
    }
    return this.made.get(which);
  }

  /** The value at one point. */
  evaluate(t, y, theta = [], u = []) {
    const { sizes, outputs } = this.program;
    if (y.length !== this.d || u.length !== this.inputs || theta.length !== this.nParams)
      throw new PynodeError(
        `${this.name} takes ${this.d} states, ${this.inputs} inputs and ${this.nParams} parameters, ` +
          `not ${y.length}, ${u.length} and ${theta.length}`,
      );
    return evaluate(this.core("field"), [[t], y, u], theta, [sizes[outputs[0]]])[0];
  }

  /** Values (n, nOut), row by row, at n states (n, d), all at one time. */
  evaluateMany(t, y, theta = []) {
    const n = y.length / this.d;
    if (this.inputs || !Number.isInteger(n)) throw new PynodeError(`${this.name}: give n times ${this.d} states, and no inputs`);
    const { sizes, outputs } = this.program;
    return evaluate(this.core("field"), [new Float64Array(n).fill(t), y, []], theta, [n * sizes[outputs[0]]], n)[0];
  }

  /** Initial parameters, drawn as `field.init(seed)` draws them, by another generator. */
  init(seed = 0) {
    const theta = new Float64Array(this.nParams);
    this.spec.forEach((parameter, i) => {
      const values = drawn(parameter, seed * 1000 + i + 1);
      for (let k = 0; k < product(parameter.shape); k++) theta[parameter.offset + k] = values[k % values.length];
    });
    return theta;
  }

  /** Free what the core holds; the field makes it again when it is used again. */
  free() {
    for (const program of this.made.values()) program.free();
    this.made.clear();
  }
}

/** A field from a function that writes it: write(b, t, y, u, theta) -> register, with `b` a Builder, `y` a register of d
 * numbers and `theta(name)` the registers of the parameters. `theta`: name -> initial value, a number or a list. */
export function field({ state, inputs = 0, theta = {}, name = "field", states = [] }, write) {
  let offset = 0;
  const spec = Object.entries(theta).map(([key, value]) => {
    const shape = Array.isArray(value) ? [value.length] : [];
    const parameter = { name: key, shape, offset, init: ["value", value] };
    offset += product(shape);
    return parameter;
  });
  const b = new Builder([1, state, inputs], offset);
  const register = (key) => {
    const found = spec.find((p) => p.name === key);
    if (!found) throw new PynodeError(`theta has no ${key}; it has ${Object.keys(theta).join(", ")}`);
    return b.param(found.offset, product(found.shape));
  };
  const out = write(b, 0, 1, 2, register);
  return new Field(b.finish([out]), { name, spec, states });
}

const ACTIVATIONS = {
  tanh: (b, x) => b.same("TANH", x),
  sigmoid: (b, x) => b.same("SIGMOID", x),
  softplus: (b, x) => b.same("SOFTPLUS", x),
  relu: (b, x) => b.same("RELU", x),
  silu: (b, x) => b.mul(x, b.same("SIGMOID", x)),
  sin: (b, x) => b.same("SIN", x),
  identity: (b, x) => x,
};

/** A multilayer perceptron, the last layer linear; theta holds W0, b0, W1, b1, ... row by row, as in Python. */
export function mlp(dIn, hidden, dOut = dIn, activation = "tanh", { time = false, inputs = 0, gain = 1 } = {}) {
  const act = ACTIVATIONS[activation];
  if (!act) throw new PynodeError(`activation=${activation} is not one of ${Object.keys(ACTIVATIONS).join(", ")}`);
  const widths = [dIn + (time ? 1 : 0) + inputs, ...[hidden].flat(), dOut];
  if (!widths.every((n) => Number.isInteger(n) && n > 0))
    throw new PynodeError(`the widths must be whole numbers above 0, not ${widths.join(", ")}`);
  const spec = [];
  let offset = 0;
  for (let i = 0; i + 1 < widths.length; i++) {
    const [n, m] = [widths[i], widths[i + 1]];
    spec.push({ name: `W${i}`, shape: [m, n], offset, init: ["normal", gain / Math.sqrt(n)] });
    spec.push({ name: `b${i}`, shape: [m], offset: offset + m * n, init: ["value", 0] });
    offset += m * n + m;
  }
  const b = new Builder([1, dIn, inputs], offset);
  let x = 1;
  if (time) x = b.concat(x, 0);
  if (inputs) x = b.concat(x, 2);
  for (let i = 0; i + 1 < widths.length; i++) {
    x = b.affine(x, widths[i + 1], spec[2 * i].offset, spec[2 * i + 1].offset);
    if (i + 2 < widths.length) x = act(b, x);
  }
  return new Field(b.finish([x]), { name: "mlp", spec });
}
