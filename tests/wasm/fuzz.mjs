// Hostile programs: node fuzz.mjs FOLDER MODULE [HOW MANY = 1000] [SEED = 1]. A good program is damaged in a few places, or made
// of random numbers; each must be refused with a PynodeError or run. A trap (RuntimeError) ends this with exit status 1.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , folder, module, many = "1000", seed = "1"] = process.argv;
const pn = await import(pathToFileURL(`${folder}/pynode.mjs`));
await pn.init(readFileSync(module));

let state = Number(seed) >>> 0;
const uniform = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 4294967296;
};
const below = (n) => Math.floor(uniform() * n);
const pick = (list) => list[below(list.length)];
const NASTY = [0, -1, 1, 2, 3, 7, 8, 64, 255, 65536, 2 ** 20, 2 ** 24, 2 ** 31 - 1, -(2 ** 31), 1e300, NaN, 0.5, null, "x", [], {}];
const nasty = () => (uniform() < 0.7 ? below(40) - 4 : pick(NASTY));

const OPS = [
  "CONST", "PARAM", "AFFINE", "AFFINE_T", "MATVEC", "MATVEC_T", "OUTER", "NEG", "SQRT", "EXP", "LOG", "TANH", "RELU", "ADD", "MUL",
  "DIV", "POW", "MAX", "LT", "DTANH", "DDIV", "WHERE", "BCAST", "SUM", "SLICE", "CONCAT", "GATHER", "SCATTER", "ACC", "ACC_OUTER",
  "CALL", "NOTHING",
];

function good() {
  const net = pn.mlp(2, [4, 3], 2, pick(["tanh", "sigmoid", "relu", "silu", "softplus"]), { time: uniform() < 0.5 });
  const names = [...new Set(net.program.instructions.map((ins) => ins.op))];
  const program = {
    ops: names, sizes: [...net.program.sizes], n_slots: 3, consts: [1, 2, 3], index: [0, 1, 0],
    code: net.program.instructions.map(({ op, out, operands: [a = -1, b = -1, c = -1], p, q }) => [names.indexOf(op), out, a, b, c, p, q, 0]),
    outputs: net.program.outputs, n_theta: [net.nParams], n_grad: [], segments: net.program.segments,
  };
  net.free();
  return { format: "pynode-field", version: 1, name: "hostile", parameters: [], states: [], program };
}

function random() {
  const list = (most, make) => Array.from({ length: below(most) }, make);
  const program = {
    ops: list(6, () => pick(OPS)), sizes: [1, 2, 0, ...list(8, () => 1 + below(6))], n_slots: 3, consts: list(20, uniform),
    index: list(20, () => below(6)), outputs: [below(10)], n_theta: [below(60)], n_grad: uniform() < 0.8 ? [] : [below(60)], segments: [0, 0, 0],
  };
  const used = program.ops.length || 1;
  program.code = list(6, (_, i) => [below(used), 3 + i, below(6), below(6), below(6), below(20), below(4) - 1, 0]);
  program.segments = [0, program.code.length, 0];
  return { format: "pynode-field", version: 1, name: "hostile", parameters: [], states: [], program };
}

function damage(field) {
  const { program } = field;
  for (let k = 1 + below(3); k > 0; k--) {
    const name = pick(Object.keys(program));
    const list = program[name];
    if (!Array.isArray(list) || uniform() < 0.05) program[name] = nasty();
    else if (list.length && Array.isArray(list[0])) {
      const row = pick(list);
      if (Array.isArray(row)) row[below(8)] = nasty();
    } else if (list.length && uniform() < 0.8) list[below(list.length)] = name === "ops" ? pick(OPS) : nasty();
    else list.push(nasty());
  }
  return field;
}

const counts = { refused: 0, ran: 0, failed: 0 };
for (let i = 0; i < Number(many); i++) {
  const draw = uniform();
  const data = draw < 0.55 ? damage(good()) : draw < 0.9 ? random() : damage(random());
  let field = null;
  try {
    field = pn.Field.fromJSON(data);
    const theta = Array.from({ length: Math.min(field.nParams, 1e5) }, () => uniform() - 0.5);
    const y0 = new Array(field.d).fill(0.5);
    const options = { method: pick(["dopri5", "rk4", "rodas5p"]), maxSteps: 50, errors: "ignore" };
    if (options.method === "rk4") options.step = 0.25;
    if (uniform() < 0.5) pn.solve(field, y0, [0, 0.5, 1], theta, options);
    else pn.lossAndGrad(field, y0, [0, 0.5, 1], theta, new Float64Array(3 * field.d), options);
    counts.ran += 1;
  } catch (error) {
    if (!(error instanceof pn.PynodeError)) {
      console.error(`program ${i} of seed ${seed}:`, JSON.stringify(data), error);
      process.exit(1);
    }
    counts[field ? "failed" : "refused"] += 1;
  } finally {
    field?.free();
  }
}
console.log(JSON.stringify({ ...counts, memory: pn.memoryBytes() }));
