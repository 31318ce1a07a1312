// From the trees of expressions.mjs to a field of the core: each number in a register of its own.
import { CONSTANTS, ExpressionError } from "./expressions.mjs";
import { Field } from "./field.mjs";
import { Builder } from "./program.mjs";

const MOST_WHOLE = 16; // of an exponent that becomes multiplications
const MOST_PARAMETERS = 3000;
const SIMPLE = {
  negative: "NEG", "+": "ADD", "-": "SUB", "*": "MUL", "/": "DIV", sin: "SIN", cos: "COS", atan: "ATAN", exp: "EXP", log: "LOG", sqrt: "SQRT",
  abs: "ABS", tanh: "TANH", sigmoid: "SIGMOID", softplus: "SOFTPLUS", relu: "RELU", erf: "ERF", where: "WHERE", min: "MIN", max: "MAX",
  "<": "LT", "<=": "LE",
};

/** All networks of a model, in the order of the text. */
export function netsOf({ states, definitions }) {
  const within = (tree) => [...tree.of.flatMap(within), ...(tree.op === "net" ? [tree] : [])];
  return [...definitions, ...states].flatMap(({ tree }) => within(tree));
}

// parameters as Python's field has them: named numbers, then W0, b0, ... of each network
function specOf(model) {
  const spec = model.parameters.map(({ name, value }, offset) => ({ name, shape: [], offset, init: ["value", value] }));
  let offset = spec.length;
  const add = (name, shape, init) => {
    spec.push({ name, shape, offset, init });
    offset += shape.reduce((a, b) => a * b, 1);
  };
  netsOf(model).forEach((tree, k) => {
    const widths = [tree.of.length, ...tree.widths, 1];
    for (let i = 0; i + 1 < widths.length; i++) {
      add(`net${k}.W${i}`, [widths[i + 1], widths[i]], ["normal", 1 / Math.sqrt(widths[i])]);
      add(`net${k}.b${i}`, [widths[i + 1]], ["value", 0]);
    }
  });
  if (offset > MOST_PARAMETERS) throw new ExpressionError(`${offset} weights; at most ${MOST_PARAMETERS} are solved here: take fewer hidden units.`);
  return { spec, nTheta: offset };
}

/** Writes the trees of a model; `values`: name -> register. */
class Writer {
  constructor(model) {
    const { spec, nTheta } = specOf(model);
    Object.assign(this, { spec, nets: netsOf(model), breaks: new Map() });
    const d = model.states.length;
    const b = (this.b = new Builder([1, d, 0], nTheta));
    this.values = new Map([["t", 0]]);
    for (const [name, value] of CONSTANTS) this.values.set(name, b.full(1, value));
    model.parameters.forEach(({ name }, i) => this.values.set(name, b.param(i, 1)));
    model.states.forEach(({ name }, i) => this.values.set(name, b.slice(1, i, 1)));
    for (const { name, tree } of model.definitions) this.values.set(name, this.write(tree));
    this.out = b.concat(...model.states.map(({ tree }) => this.write(tree)));
  }

  write(tree) {
    const { b } = this;
    if (tree.op === "number") return b.full(1, tree.value);
    if (tree.op === "name") return this.values.get(tree.name);
    if (tree.op === "^") return this.power(tree);
    const of = tree.of.map((part) => this.write(part));
    if (tree.op === "net") return this.net(tree, of);
    if (tree.op === "tan") return b.div(b.same("SIN", of[0]), b.same("COS", of[0]));
    if (tree.op === ">" || tree.op === ">=") of.reverse();
    if ("<>".includes(tree.op[0])) this.noteBreak(tree);
    const op = SIMPLE[tree.op.replace(">", "<")];
    return tree.op === "min" || tree.op === "max" ? of.reduce((x, y) => b.same(op, x, y)) : b.same(op, ...of);
  }

  power({ of: [base, exponent] }) {
    const { b } = this;
    const n = constant(exponent);
    const x = this.write(base);
    if (!Number.isInteger(n) || Math.abs(n) > MOST_WHOLE) return b.pow(x, this.write(exponent));
    const whole = (k) => (k === 0 ? b.full(1, 1) : k === 1 ? x : k % 2 ? b.mul(whole(k - 1), x) : b.same("SQUARE", whole(k / 2)));
    return n < 0 ? b.same("RECIP", whole(-n)) : whole(n);
  }

  net(tree, of) {
    const { b } = this;
    const mine = this.spec.filter(({ name }) => name.startsWith(`net${this.nets.indexOf(tree)}.`));
    let x = b.concat(...of);
    for (let i = 0; 2 * i < mine.length; i++) {
      const [{ shape, offset }, bias] = [mine[2 * i], mine[2 * i + 1]];
      x = b.affine(x, shape[0], offset, bias.offset);
      if (2 * i + 2 < mine.length) x = b.same("TANH", x);
    }
    return x;
  }

  /** A comparison of t with numbers: the solver steps to the time at which it changes. */
  noteBreak({ of: [left, right] }) {
    const [a, c] = [affine(left), affine(right)];
    if (!a || !c || a[0] === c[0]) return;
    const at = (c[1] - a[1]) / (a[0] - c[0]);
    if (Number.isFinite(at)) this.breaks.set(at, Math.max(Math.abs(at), Math.abs(a[1] / (a[0] - c[0])), Math.abs(c[1] / (a[0] - c[0]))));
  }
}

const FOLD = { negative: (a) => -a, "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b, "/": (a, b) => a / b };

/** The number that a tree of numbers is, or null. */
export function constant(tree) {
  if (tree.op === "number") return tree.value;
  if (tree.op === "name") return CONSTANTS.get(tree.name) ?? null;
  const of = tree.of.map(constant);
  return Object.hasOwn(FOLD, tree.op) && !of.includes(null) ? FOLD[tree.op](...of) : null;
}

// [a, b] of a t + b, or null
function affine(tree) {
  if (tree.op === "name" && tree.name === "t") return [1, 0];
  const number = constant(tree);
  if (number !== null) return [0, number];
  const of = tree.of.map(affine);
  if (!Object.hasOwn(FOLD, tree.op) || of.includes(null)) return null;
  if (!["*", "/"].includes(tree.op)) return [0, 1].map((k) => FOLD[tree.op](...of.map((part) => part[k])));
  const [x, y] = tree.op === "*" && of[0][0] === 0 ? [of[1], of[0]] : of;
  return y[0] === 0 ? x.map((part) => FOLD[tree.op](part, y[1])) : null;
}

/** The field of a model from `parse`; theta has its parameters by name, then the weights of its networks. */
export function compile(model) {
  const { b, out, spec, breaks } = new Writer(model);
  return new Field(b.finish([out]), {
    name: "field", spec, states: model.states.map(({ name }) => name), breaks: [...breaks].sort((x, y) => x[0] - y[0]),
  });
}
