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
  // the ball: a solve that ends at an event, again from the reset state, so many times
  bounces: (c, f) => {
    const g = pn.field({ state: 2 }, (b, t, y) => b.slice(y, 0, 1));
    const times = [];
    let [t, y] = [c.t[0], c.y0];
    for (let k = 0; k < c.bounces; k++) {
      const s = pn.solve(f, y, [t, c.t.at(-1)], c.theta, { ...c.options, event: { field: g, direction: -1 } });
      t = s.stopT[0];
      y = [0, -0.8 * s.eventY[0][1]];
      times.push(t);
    }
    g.free();
    return times;
  },
  written: (c) => {
    const f = pn.field({ state: 2, theta: { k: 2, a: [0.1, 0.2] } }, (b, t, y, u, th) =>
      b.concat(b.slice(y, 1, 1), b.sub(b.sum(b.mul(th("a"), y)), b.mul(th("k"), b.same("SIN", b.slice(y, 0, 1))))));
    return pn.lossAndGrad(f, c.y0, c.t, f.init(), c.target, c.options);
  },
  simd: () => pn.hasSimd(),
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
