// Programs: straight-line code over registers (docs/program.md), a builder that writes them, and their derivatives.
// Nothing here computes: the core does. The rules of derivatives are those of pynode/programs/rules.py.

/** Thrown for what is wrong with an argument; the words are the core's own wherever the core found it. */
export class PynodeError extends Error {
  constructor(message, status = "") {
    super(message);
    this.name = "PynodeError";
    this.status = status;
  }
}

export const ACCUMULATING = new Set(["ACC", "ACC_OUTER"]);
const OPERANDS = {
  CONST: 0, PARAM: 0, AFFINE: 1, AFFINE_T: 1, MATVEC: 2, MATVEC_T: 2, OUTER: 2, NEG: 1, ABS: 1, SIGN: 1, SQUARE: 1, RECIP: 1,
  SQRT: 1, EXP: 1, EXPM1: 1, LOG: 1, LOG1P: 1, SIN: 1, COS: 1, TANH: 1, SIGMOID: 1, SOFTPLUS: 1, RELU: 1, STEP: 1, ERF: 1,
  ATAN: 1, ADD: 2, SUB: 2, MUL: 2, DIV: 2, POW: 2, MAX: 2, MIN: 2, LT: 2, LE: 2, EQ: 2, DTANH: 2, DSIGMOID: 2, DMUL: 2,
  DDIV: 2, WHERE: 3, BCAST: 1, SUM: 1, SLICE: 1, CONCAT: 2, GATHER: 1, SCATTER: 1, ACC: 1, ACC_OUTER: 2,
};
export const OPERATIONS = Object.keys(OPERANDS);

const fillOf = (size, value) => new Array(size).fill(value);
const range = (n, start = 0, step = 1) => Array.from({ length: n }, (_, i) => start + i * step);

/** Writes a program: one method an operation, equal instructions once, dead ones left out. Registers are integers. */
export class Builder {
  constructor(slotSizes, nTheta = 0, nGrad = null) {
    this.sizes = [...slotSizes];
    this.nSlots = slotSizes.length;
    this.nTheta = nTheta;
    this.nGrad = nGrad;
    this.made = slotSizes.map(() => null);
    this.varying = slotSizes.map(() => true);
    this.accumulated = [];
    this.seen = new Map();
  }

  emit(op, size, operands = [], more = {}) {
    const ins = { op, operands, p: 0, q: 0, values: null, index: null, ...more };
    const key = JSON.stringify([op, size, operands, ins.p, ins.q, ins.values && ins.values.map(String), ins.index]);
    const found = this.seen.get(key);
    if (found !== undefined) return found;
    const out = this.sizes.length;
    this.sizes.push(size);
    this.made.push(ins);
    this.varying.push(operands.some((r) => this.varying[r]));
    this.seen.set(key, out);
    return out;
  }

  const(values) { return this.emit("CONST", values.length, [], { values: [...values] }); }
  full(size, value) { return this.const(fillOf(size, value)); }
  param(p, size) { return this.emit("PARAM", size, [], { p }); }
  valueOf(r) { const ins = this.made[r]; return ins && ins.op === "CONST" ? ins.values : null; }

  /** An elementwise operation; operands of size 1 are broadcast. */
  same(op, ...x) {
    const size = Math.max(...x.map((r) => this.sizes[r]));
    return this.emit(op, size, x.map((r) => this.broadcast(r, size)));
  }
  add(a, b) { return this.same("ADD", a, b); }
  sub(a, b) { return this.same("SUB", a, b); }
  mul(a, b) { return this.same("MUL", a, b); }
  div(a, b) { return this.same("DIV", a, b); }
  pow(a, b) { return this.same("POW", a, b); }
  neg(a) { return this.same("NEG", a); }
  where(mask, a, b) { return this.same("WHERE", mask, a, b); }
  scale(factor, a) { return this.mul(this.full(this.sizes[a], factor), a); }
  broadcast(x, size) { return this.sizes[x] === size ? x : this.emit("BCAST", size, [x]); }
  sum(x) { return this.sizes[x] === 1 ? x : this.emit("SUM", 1, [x]); }
  affine(x, m, p, q = -1) { return this.emit("AFFINE", m, [x], { p, q }); }
  matvec(A, x) { return this.emit("MATVEC", this.sizes[A] / this.sizes[x], [A, x]); }
  matvecT(A, x) { return this.emit("MATVEC_T", this.sizes[A] / this.sizes[x], [A, x]); }
  outer(x, y) { return this.emit("OUTER", this.sizes[x] * this.sizes[y], [x, y]); }
  concat(first, ...rest) {
    return rest.reduce((x, y) => this.emit("CONCAT", this.sizes[x] + this.sizes[y], [x, y]), first);
  }
  slice(x, start, size, step = 1) {
    if (start === 0 && size === this.sizes[x] && step === 1) return x;
    return this.emit("SLICE", size, [x], { p: start, q: step });
  }
  gather(x, index) { return this.emit("GATHER", index.length, [x], { index: [...index] }); }
  scatter(x, index, size) { return this.emit("SCATTER", size, [x], { index: [...index] }); }
  acc(p, a) { this.accumulated.push({ op: "ACC", operands: [a], p, q: 0 }); }
  accOuter(p, a, b) { this.accumulated.push({ op: "ACC_OUTER", operands: [a, b], p, q: 0 }); }

  /** Another program's instructions written here: the register here of each register there. */
  replay(program, slots) {
    const env = [...slots];
    for (const ins of program.instructions) {
      if (ACCUMULATING.has(ins.op)) continue;
      const { p, q, values, index } = ins;
      env[ins.out] = this.emit(ins.op, program.sizes[ins.out], ins.operands.map((r) => env[r]), { p, q, values, index });
    }
    return env;
  }

  needed(roots) {
    const needed = new Array(this.sizes.length).fill(false);
    for (const r of roots) if (r >= 0) needed[r] = true;
    for (let r = this.sizes.length - 1; r >= this.nSlots; r--)
      if (needed[r]) for (const x of this.made[r].operands) needed[x] = true;
    return needed;
  }

  /** The program. `forward`: how many outputs the forward segment computes, default all. */
  finish(outputs, forward = outputs.length) {
    const roots = outputs.map((r) => (r === null ? -1 : r));
    const early = this.needed(roots.slice(0, forward));
    const live = this.needed([...roots, ...this.accumulated.flatMap((ins) => ins.operands)]);
    const written = range(this.sizes.length - this.nSlots, this.nSlots).filter((r) => live[r]);
    const parts = [
      written.filter((r) => !this.varying[r]),
      written.filter((r) => this.varying[r] && early[r]),
      written.filter((r) => this.varying[r] && !early[r]),
    ];
    const now = new Map([[-1, -1], ...range(this.nSlots).map((r) => [r, r])]);
    const sizes = this.sizes.slice(0, this.nSlots);
    const instructions = [];
    for (const r of parts.flat()) {
      const ins = this.made[r];
      now.set(r, sizes.length);
      instructions.push({ ...ins, out: sizes.length, operands: ins.operands.map((x) => now.get(x)) });
      sizes.push(this.sizes[r]);
    }
    for (const ins of this.accumulated)
      instructions.push({ ...ins, out: -1, operands: ins.operands.map((x) => now.get(x)) });
    return {
      sizes,
      nSlots: this.nSlots,
      instructions,
      outputs: roots.map((r) => now.get(r)),
      nTheta: [this.nTheta],
      nGrad: this.nGrad === null ? [] : [this.nGrad],
      segments: parts.map((part) => part.length),
    };
  }
}

// ---- derivatives --------------------------------------------------------------------------------------------------------

// v z of a cotangent v: 0 where either is 0, whatever the other is (an infinite slope of what was not used)
const times = (b, v, z) => b.same("DMUL", v, z);
// v / z: 0 where v is 0
const over = (b, v, z) => b.same("DDIV", v, z);
const one = (b, x) => b.full(b.sizes[x], 1);
const zero = (b, x) => b.full(b.sizes[x], 0);
const KEEP_SQUARES = new Set(["ADD", "MUL", "DIV", "MATVEC", "SUM", "BCAST", "SLICE", "GATHER", "CONCAT"]);

function isSumOfSquares(b, x) {
  const ins = b.made[x];
  if (ins === null) return false;
  if (ins.op === "SQUARE" || (ins.op === "CONST" && ins.values.every((v) => v >= 0))) return true;
  return KEEP_SQUARES.has(ins.op) && ins.operands.every((r) => isSumOfSquares(b, r));
}

// where v is 0 altogether, 0 in place of what is infinite or NaN in z
function settled(b, z, v) {
  const some = b.broadcast(b.sum(b.same("ABS", v)), b.sizes[z]);
  return b.where(b.add(some, b.same("EQ", b.sub(z, z), zero(b, z))), z, zero(b, z));
}

// op -> (b, y, ...x) -> for each operand v -> (dy / dx_i) v, or null where that is 0
const ELEMENTWISE = {
  NEG: (b) => [(v) => b.neg(v)],
  ABS: (b, y, x) => [(v) => times(b, v, b.same("SIGN", x))],
  SQUARE: (b, y, x) => [(v) => times(b, v, b.scale(2, x))],
  RECIP: (b, y) => [(v) => b.neg(times(b, v, b.same("SQUARE", y)))],
  SQRT: (b, y, x) => [
    (v) => over(b, isSumOfSquares(b, x) ? b.where(y, v, zero(b, x)) : v, b.scale(2, y)),
  ],
  EXP: (b, y) => [(v) => times(b, v, y)],
  EXPM1: (b, y, x) => [(v) => times(b, v, b.same("EXP", x))],
  LOG: (b, y, x) => [(v) => over(b, v, x)],
  LOG1P: (b, y, x) => [(v) => over(b, v, b.add(x, one(b, x)))],
  SIN: (b, y, x) => [(v) => times(b, v, b.same("COS", x))],
  COS: (b, y, x) => [(v) => b.neg(times(b, v, b.same("SIN", x)))],
  TANH: (b, y) => [(v) => b.same("DTANH", v, y)],
  SIGMOID: (b, y) => [(v) => b.same("DSIGMOID", v, y)],
  SOFTPLUS: (b, y, x) => [(v) => times(b, v, b.same("SIGMOID", x))],
  RELU: (b, y, x) => [(v) => times(b, v, b.same("STEP", x))],
  ERF: (b, y, x) => [(v) => times(b, v, b.scale(2 / Math.sqrt(Math.PI), b.same("EXP", b.neg(b.same("SQUARE", x)))))],
  ATAN: (b, y, x) => [(v) => over(b, v, b.add(b.same("SQUARE", x), one(b, x)))],
  ADD: () => [(v) => v, (v) => v],
  SUB: (b) => [(v) => v, (v) => b.neg(v)],
  MUL: (b, y, x, z) => [(v) => times(b, v, z), (v) => times(b, v, x)],
  DIV: (b, y, x, z) => [(v) => over(b, v, z), (v) => b.neg(over(b, times(b, v, y), z))],
  POW: (b, y, x, e) => {
    const oneLess = b.where(b.same("EQ", e, zero(b, e)), one(b, e), b.sub(e, one(b, e)));
    const base = b.where(b.same("EQ", x, zero(b, x)), one(b, x), x);
    return [(v) => times(b, v, b.mul(e, b.pow(x, oneLess))), (v) => times(b, v, b.mul(y, b.same("LOG", base)))];
  },
  MAX: (b, y, x, z) => larger(b, b.same("LE", z, x)),
  MIN: (b, y, x, z) => larger(b, b.same("LE", x, z)),
  DTANH: (b, y, x, z) => [(v) => b.same("DTANH", v, z), (v) => times(b, b.scale(-2, v), times(b, x, z))],
  DSIGMOID: (b, y, x, z) => [
    (v) => b.same("DSIGMOID", v, z),
    (v) => times(b, v, times(b, x, b.sub(one(b, z), b.scale(2, z)))),
  ],
  DMUL: (b, y, x, z) => [(v) => times(b, v, z), (v) => times(b, v, x)],
  DDIV: (b, y, x, z) => [(v) => over(b, v, z), (v) => b.neg(over(b, times(b, v, y), z))],
  WHERE: (b, y, mask, x, z) => [null, (v) => b.where(mask, v, zero(b, x)), (v) => b.where(mask, zero(b, x), v)],
  SIGN: () => [null], STEP: () => [null], LT: () => [null, null], LE: () => [null, null], EQ: () => [null, null],
};
const larger = (b, first) => [(v) => b.where(first, v, zero(b, v)), (v) => b.where(first, zero(b, v), v)];

// op -> (b, ins, x, v, sizes) -> for each operand a cotangent; parameters are added to the gradient if there is one
const SHAPE_RULES = {
  CONST: () => [],
  PARAM: (b, ins, x, v) => { if (b.nGrad !== null) b.acc(ins.p, v); return []; },
  AFFINE: (b, ins, x, v) => {
    if (b.nGrad !== null) {
      b.accOuter(ins.p, v, settled(b, x[0], v));
      if (ins.q >= 0) b.acc(ins.q, v);
    }
    return [() => b.emit("AFFINE_T", b.sizes[x[0]], [v], { p: ins.p })];
  },
  AFFINE_T: (b, ins, x, v) => {
    if (b.nGrad !== null) b.accOuter(ins.p, settled(b, x[0], v), v);
    return [() => b.affine(v, b.sizes[x[0]], ins.p)];
  },
  MATVEC: (b, ins, [A, x], v) => [() => b.outer(v, settled(b, x, v)), () => b.matvecT(settled(b, A, v), v)],
  MATVEC_T: (b, ins, [A, x], v) => [() => b.outer(settled(b, x, v), v), () => b.matvec(settled(b, A, v), v)],
  OUTER: (b, ins, [x, z], v) => [() => b.matvec(v, settled(b, z, v)), () => b.matvecT(v, settled(b, x, v))],
  BCAST: (b, ins, x, v) => [() => b.sum(v)],
  SUM: (b, ins, x, v) => [() => b.broadcast(v, b.sizes[x[0]])],
  SLICE: (b, ins, x, v) => [() => b.scatter(v, range(b.sizes[v], ins.p, ins.q), b.sizes[x[0]])],
  GATHER: (b, ins, x, v) => [() => b.scatter(v, ins.index, b.sizes[x[0]])],
  SCATTER: (b, ins, x, v) => [() => b.gather(v, ins.index)],
  CONCAT: (b, ins, [x, z], v) => [() => b.slice(v, 0, b.sizes[x]), () => b.slice(v, b.sizes[x], b.sizes[z])],
};

/** Reverse mode: the cotangents of the slots `wanted` (null: zero), from the seed of output 0; `env` from `replay`. */
export function pullback(b, program, env, seed, wanted) {
  const active = program.sizes.map((_, r) => wanted.includes(r));
  for (const ins of program.instructions) {
    if (ins.out < 0) throw new PynodeError("a program that accumulates a gradient cannot be differentiated again here");
    const reads = b.nGrad !== null && ["PARAM", "AFFINE", "AFFINE_T"].includes(ins.op);
    active[ins.out] = reads || ins.operands.some((r) => active[r]);
  }
  const bar = program.sizes.map(() => null);
  if (program.outputs[0] >= 0) bar[program.outputs[0]] = seed;
  for (const ins of [...program.instructions].reverse()) {
    const v = bar[ins.out];
    if (v === null || !active[ins.out]) continue;
    const x = ins.operands.map((r) => env[r]);
    const rule = ELEMENTWISE[ins.op];
    const pulls = rule ? rule(b, env[ins.out], ...x).map((f) => f && (() => f(v))) : SHAPE_RULES[ins.op](b, ins, x, v);
    ins.operands.forEach((r, i) => {
      if (!pulls[i] || !active[r]) return;
      const part = pulls[i]();
      bar[r] = bar[r] === null ? part : b.add(bar[r], part);
    });
  }
  return wanted.map((slot) => bar[slot]);
}

/** [f, s f_y, s f_t, s f_u] of a field's program (slots t, y, u), with a seed in slot 3; accumulates s f_theta. */
export function vjpProgram(program) {
  const out = program.outputs[0];
  const b = new Builder([...program.sizes.slice(0, 3), program.sizes[out]], program.nTheta[0], program.nTheta[0]);
  const env = b.replay(program, [0, 1, 2]);
  const [gt, gy, gu] = pullback(b, program, env, 3, [0, 1, 2]);
  return b.finish([env[out], gy, gt, gu], 1);
}

/** [df/dy (d d), df/dt (d)] of a field's program, for Rosenbrock methods; d reverse sweeps. */
export function jacobianProgram(program) {
  const d = program.sizes[1];
  const b = new Builder(program.sizes.slice(0, 3), program.nTheta[0]);
  const env = b.replay(program, [0, 1, 2]);
  const rows = [];
  const slopes = [];
  for (let i = 0; i < d; i++) {
    const seed = b.const(range(d).map((j) => (i === j ? 1 : 0)));
    const [gt, gy] = pullback(b, program, env, seed, [0, 1]);
    rows.push(gy === null ? b.full(d, 0) : gy);
    slopes.push(gt === null ? b.full(1, 0) : gt);
  }
  return b.finish([b.concat(...rows, ...slopes)]);
}

// ---- plain data -----------------------------------------------------------------------------------------------------------

const NAMED = { inf: Infinity, "-inf": -Infinity, nan: NaN };

function number(x) {
  if (typeof x === "number") return x;
  if (Object.hasOwn(NAMED, x)) return NAMED[x];
  throw new PynodeError(`program: consts must be numbers, not ${x}`);
}

const whole = (x) => Number.isInteger(x) && Math.abs(x) < 2 ** 31;

function integers(name, x) {
  if (!Array.isArray(x) || !x.every(whole)) throw new PynodeError(`program: ${name} must be a list of whole numbers`);
  return x;
}

/** A program from plain data, as Program.to_dict() in Python gives it; the core checks every index and size later. */
export function fromData(data) {
  if (data === null || typeof data !== "object") throw new PynodeError("program: it must be an object");
  const names = data.ops;
  if (!Array.isArray(names)) throw new PynodeError("program: ops must be a list of names");
  const unknown = names.filter((name) => !Object.hasOwn(OPERANDS, name));
  if (unknown.length) throw new PynodeError(`program: operations that are not known here: ${unknown.join(", ")}`);
  const sizes = integers("sizes", data.sizes);
  if (!Array.isArray(data.code)) throw new PynodeError("program: code must be a list of rows");
  if (!Array.isArray(data.consts)) throw new PynodeError("program: consts must be a list of numbers");
  const consts = data.consts.map(number);
  const index = integers("index", data.index);
  const instructions = data.code.map((row, i) => {
    if (integers(`code[${i}]`, row).length !== 8) throw new PynodeError(`program: code[${i}] must have 8 entries`);
    const [number, out, a, b, c, p, q, k] = row;
    const op = names[number];
    if (op === undefined) throw new PynodeError(`program: code[${i}] has operation ${number} of ${names.length}`);
    const operands = [a, b, c].slice(0, OPERANDS[op]);
    const size = (r) => sizes[r] ?? 0;
    const length = op === "GATHER" || op === "CONST" ? size(out) : op === "SCATTER" ? size(a) : 0;
    const pool = op === "CONST" ? consts : index;
    if (length && !(p >= 0 && p + length <= pool.length))
      throw new PynodeError(`program: code[${i}] (${op}) reads beyond ${op === "CONST" ? "consts" : "index"}`);
    const part = length ? pool.slice(p, p + length) : null;
    return {
      op, out, operands, q, k, p: length ? 0 : p,
      values: op === "CONST" ? part : null,
      index: op === "GATHER" || op === "SCATTER" ? part : null,
    };
  });
  return {
    sizes,
    nSlots: integers("n_slots", [data.n_slots])[0],
    instructions,
    outputs: integers("outputs", data.outputs),
    nTheta: integers("n_theta", data.n_theta),
    nGrad: integers("n_grad", data.n_grad),
    segments: integers("segments", data.segments),
  };
}
