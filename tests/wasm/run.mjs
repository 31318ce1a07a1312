// Runs calls of the module, given as JSON on standard input, and writes their results: node run.mjs FOLDER MODULE.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , folder, module] = process.argv;
const pn = await import(pathToFileURL(`${folder}/pynode.mjs`));
await pn.init(readFileSync(module));

const plain = (x) =>
  ArrayBuffer.isView(x) || Array.isArray(x)
    ? Array.from(x, plain)
    : x && typeof x === "object"
      ? Object.fromEntries(Object.entries(x).map(([name, value]) => [name, plain(value)]))
      : typeof x === "number" && !Number.isFinite(x)
        ? String(x)
        : x;

const calls = {
  solve: (c, f) => pn.solve(f, c.y0, c.t, c.theta, c.options),
  lossAndGrad: (c, f) => pn.lossAndGrad(f, c.y0, c.t, c.theta, c.target, c.options),
  sensitivities: (c, f) => pn.sensitivities(f, c.y0, c.t, c.theta, c.options),
  evaluate: (c, f) => f.evaluate(c.t, c.y0, c.theta, c.u),
  levenbergMarquardt: (c, f) => pn.levenbergMarquardt(pn.residualsOf(f, c.y0, c.t, c.target, c.options), c.theta),
  adam: (c, f) => pn.adam((theta) => pn.lossAndGrad(f, c.y0, c.t, theta, c.target, c.options), c.theta, c.fit),
};

const input = JSON.parse(readFileSync(0, "utf8"));
const before = [];
const answers = [];
for (let round = 0; round < (input.rounds ?? 1); round++) {
  answers.length = 0;
  for (const call of input.calls) {
    try {
      const f = call.mlp ? pn.mlp(...call.mlp) : pn.Field.fromJSON(call.field, { breaks: call.breaks ?? [] });
      answers.push(plain(calls[call.call](call, f)));
      f.free();
    } catch (error) {
      if (!(error instanceof pn.PynodeError)) throw error;
      answers.push({ error: error.message, status: error.status });
    }
  }
  before.push(pn.memoryBytes());
}
console.log(JSON.stringify({ answers, memory: before }));
