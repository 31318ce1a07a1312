// Lesson 02: two Euler steps of one unit, the loss, its gradient by the chain rule, and an update, stage by stage.
import { field } from "./field.mjs";
import { begin, byId, knobs, say } from "./live.mjs";
import { Plot, shown } from "./plot.mjs";
import { grid, publish } from "./report.mjs";
import { lossAndGrad, solve } from "./solve.mjs";

const H = 0.25;
const THETA = ["w1", "b1", "w2", "b2"];
const COURSE = { w1: 1.5, b1: 0, w2: -2, b2: 0, y0: 1, target: 0.37, rate: 1 };
const LIMITS = [-1.7, 1.7];
const num = (x) => shown(x, 6);
const inner = (x) => (x < 0 ? `(${num(x)})` : num(x)); // a factor
const plus = (x) => (x < 0 ? `\u2212 ${num(-x)}` : `+ ${num(x)}`); // a further summand

const unit = () =>
  field({ state: 1, theta: { w1: 1, b1: 0, w2: 1, b2: 0 }, name: "unit" }, (b, t, y, u, th) =>
    b.add(b.mul(th("w2"), b.same("TANH", b.add(b.mul(th("w1"), y), th("b1")))), th("b2")));

/** All numbers of the example. */
function worked({ w1, b1, w2, b2, y0, target }) {
  const tanh = (y) => Math.tanh(w1 * y + b1);
  const f = (y) => w2 * tanh(y) + b2;
  const y = [y0];
  for (const n of [0, 1]) y.push(y[n] + H * f(y[n]));
  const bend = y.map((v) => 1 - tanh(v) ** 2);
  const slope = bend.map((v) => w1 * w2 * v);
  const a2 = y[2] - target;
  const a1 = a2 * (1 + H * slope[1]);
  const a = [a1 * (1 + H * slope[0]), a1, a2];
  const sum = (part) => H * (a[1] * part(0) + a[2] * part(1));
  const gradient = {
    w1: sum((n) => w2 * bend[n] * y[n]), b1: sum((n) => w2 * bend[n]), w2: sum((n) => tanh(y[n])), b2: sum(() => 1),
  };
  return { f: y.map(f), y, tanh: y.map(tanh), slope, a, gradient, loss: a2 ** 2 / 2 };
}

const step = (n) => ({
  title: `Step ${n + 1}: from y${n} to y${n + 1}`,
  lines: (x, v) => [
    `f(y${n}) = w2 tanh(w1 y${n} + b1) + b2 = ${num(v.w2)} \u00b7 tanh(${num(v.w1)} \u00b7 ${inner(x.y[n])} ${plus(v.b1)}) ${plus(v.b2)}`,
    `= ${num(v.w2)} \u00b7 ${inner(x.tanh[n])} ${plus(v.b2)} = ${num(x.f[n])}`,
    `y${n + 1} = y${n} + h f(y${n}) = ${num(x.y[n])} + 0.25 \u00b7 ${inner(x.f[n])} = ${num(x.y[n + 1])}`,
  ],
  known: n + 1, looks: [n],
});
const back = (n) => ({
  title: `Back through step ${n + 1}: from a${n + 1} to a${n}`,
  lines: (x, v) => [
    `The step was y${n + 1} = y${n} + h f(y${n}), so a${n} = a${n + 1} (1 + h f\u2032(y${n})).`,
    `f\u2032(y${n}) = w1 w2 (1 \u2212 tanh\u00b2) = ${num(v.w1 * v.w2)} \u00b7 (1 \u2212 ${inner(x.tanh[n])}\u00b2) = ${num(x.slope[n])}`,
    `a${n} = ${num(x.a[n + 1])} \u00b7 (1 + 0.25 \u00b7 ${inner(x.slope[n])}) = ${num(x.a[n])}`,
  ],
  known: 2, looks: [n], back: n,
});
const partsOf = (x, name) => {
  const other = { w2: (n) => inner(x.tanh[n]), b2: () => "1" }[name];
  return `dL/d${name} = 0.25 \u00b7 (${num(x.a[1])} \u00b7 ${other(0)} ${plus(x.a[2])} \u00b7 ${other(1)}) = ${num(x.gradient[name])}`;
};
const STAGES = [
  step(0),
  step(1),
  {
    title: "The loss, and a2", known: 2, looks: [], back: 2,
    lines: (x, v) => [
      `L = \u00bd (y2 \u2212 y*)\u00b2 = \u00bd (${num(x.y[2])} \u2212 ${inner(v.target)})\u00b2 = ${num(x.loss)}`,
      `a2 = dL/dy2 = y2 \u2212 y* = ${num(x.a[2])}`,
      x.a[2] < 0 ? "It is negative: a push upwards at the end (orange bar) lowers the loss." : "It is positive: a push downwards at the end (orange bar) lowers the loss.",
    ],
  },
  back(1),
  back(0),
  {
    title: "The gradient: each weight acts in both steps", known: 2, looks: [0, 1], back: 0,
    lines: (x) => [
      "dL/d\u03b8 = h (a1 \u2202f/\u2202\u03b8(y0) + a2 \u2202f/\u2202\u03b8(y1)), and \u2202f/\u2202w2 = tanh, \u2202f/\u2202b2 = 1:",
      partsOf(x, "w2"),
      partsOf(x, "b2"),
      `Likewise dL/dw1 = ${num(x.gradient.w1)} and dL/db1 = ${num(x.gradient.b1)}.`,
    ],
  },
  {
    title: "Update: a step downhill", known: 2, looks: [], back: 2, update: true,
    lines: (x, v, after) => [
      ...["w1", "b1", "w2", "b2"].map((name) =>
        `${name} \u2190 ${num(v[name])} \u2212 ${num(v.rate)} \u00b7 ${inner(x.gradient[name])} = ${num(v[name] - v.rate * x.gradient[name])}`),
      `With these weights (dashed) the loss is ${num(after.loss)} in place of ${num(x.loss)}. Next: take them, and begin again.`,
    ],
  },
];

class Example {
  constructor() {
    this.path = new Plot(byId("path"), { xLabel: "time t", yLabel: "y" });
    this.slope = new Plot(byId("field"), { xLabel: "y", yLabel: "dy/dt" });
    this.f = unit();
    this.stage = this.updates = 0;
    this.knobs = knobs([...THETA, "y0", "target", "rate"], () => this.draw());
    byId("next").addEventListener("click", () => this.go(1));
    byId("back").addEventListener("click", () => this.go(-1));
    byId("reset").addEventListener("click", () => {
      for (const [id, x] of Object.entries(COURSE)) this.knobs.set(id, x);
      this.stage = this.updates = 0;
      this.draw();
    });
    this.path.onDrag((t, y) => {
      this.knobs.set(t < H ? "y0" : "target", Math.min(Math.max(y, -1.5), 1.5));
      this.draw();
    });
    this.draw();
  }

  go(by) {
    if (by > 0 && STAGES[this.stage].update) {
      const now = this.knobs.read();
      for (const [id, x] of Object.entries(updated(now))) if (THETA.includes(id)) this.knobs.set(id, x);
      this.updates += 1;
      this.stage = 0;
    } else this.stage = Math.min(Math.max(this.stage + by, 0), STAGES.length - 1);
    this.draw();
  }

  draw() {
    const v = this.knobs.read();
    const x = worked(v);
    const stage = STAGES[this.stage];
    const after = stage.update ? worked(updated(v)) : null;
    const times = grid(0, 2 * H, 100);
    const exact = solve(this.f, [v.y0], times, THETA.map((name) => v[name]), { rtol: 1e-9, atol: 1e-11 }).y;
    this.drawPath(x, v, stage, { times, exact, after });
    this.drawField(x, v, stage);
    this.write(stage, x, v, after);
    this.tell(x, v, exact);
  }

  /** The stage's arithmetic. */
  write(stage, x, v, after) {
    byId("place").textContent = `Stage ${this.stage + 1} of ${STAGES.length}` + (this.updates ? `, after ${this.updates} ${this.updates > 1 ? "updates" : "update"}` : "");
    byId("stage").textContent = stage.title;
    byId("lines").replaceChildren(...stage.lines(x, v, after).map(paragraph));
  }

  drawPath(x, v, stage, { times, exact, after }) {
    const t = [0, H, 2 * H].slice(0, stage.known + 1);
    const dashed = after ? [{ x: [0, H, 2 * H], y: after.y, color: 2, dash: [6, 4] }] : [];
    const wanted = [0, 1, 2].filter((n) => n >= (stage.back ?? 3));
    const seen = [...x.y, ...exact, v.target, ...wanted.map((n) => x.y[n] - x.a[n])].map((y) => Math.min(Math.max(y, -4), 4));
    this.path.draw({
      lines: [
        { x: times, y: exact, color: "soft", width: 1.5 },
        { x: t, y: x.y.slice(0, t.length), color: 0 },
        ...dashed,
        ...wanted.map((n) => ({ x: [n * H, n * H], y: [x.y[n], x.y[n] - x.a[n]], color: 1, width: 4 })),
      ],
      points: [
        { x: t, y: x.y.slice(0, t.length), color: 0, size: 5 },
        { x: [2 * H], y: [v.target], color: "ink", size: 7, open: true },
      ],
      xRange: [-0.02, 2 * H + 0.03],
      yRange: [Math.min(-0.2, ...seen) - 0.1, Math.max(1.1, ...seen) + 0.1],
    });
    this.path.describe(`Euler's points ${x.y.slice(0, t.length).map((y) => shown(y)).join(", ")}; observed at t = 0.5: ${shown(v.target)}; ` +
      `the exact solution ends at ${shown(exact.at(-1))}`);
  }

  drawField(x, v, stage) {
    const y = grid(...LIMITS, 120);
    const f = this.f.evaluateMany(0, y, THETA.map((name) => v[name]));
    const tangent = stage.back < 2 && stage.looks.length === 1 ? stage.looks : [];
    const reach = [-0.4, 0.4];
    this.slope.draw({
      lines: [
        { x: y, y: f, color: 0 },
        ...tangent.map((n) => ({ x: reach.map((d) => x.y[n] + d), y: reach.map((d) => x.f[n] + d * x.slope[n]), color: 1 })),
      ],
      points: stage.looks.map((n) => ({ x: [x.y[n]], y: [x.f[n]], color: 1, size: 5 })),
      xRange: LIMITS,
    });
    this.slope.describe(`The field between ${shown(Math.min(...f))} and ${shown(Math.max(...f))}; at y0 it is ${shown(x.f[0])}, at y1 ${shown(x.f[1])}`);
  }

  /** The same numbers from the core, as a witness. */
  tell(x, v, exact) {
    const theta = THETA.map((name) => v[name]);
    const core = lossAndGrad(this.f, [v.y0], [0, 2 * H], theta, [[NaN], [v.target]], { method: "euler", step: H, loss: "sse", wrt: ["theta", "y0"] });
    const off = Math.max(...THETA.map((name, i) => Math.abs(core.grad[i] / 2 - x.gradient[name])), Math.abs(core.gradY0[0] / 2 - x.a[0]));
    say(`y2 = ${num(x.y[2])}, L = ${num(x.loss)}, dL/dw2 = ${num(x.gradient.w2)}. The core, asked for the same, ${off ? `differs by ${off.toExponential(0)}` : "gives the same to the last bit"}. ` +
      `The exact solution ends at ${num(exact.at(-1))}.`);
    publish({
      stage: this.stage, y1: x.y[1], y2: x.y[2], loss: x.loss, a1: x.a[1], a0: x.a[0], exact: exact.at(-1), off,
      gradW1: x.gradient.w1, gradB1: x.gradient.b1, gradW2: x.gradient.w2, gradB2: x.gradient.b2, slope2: x.slope[2],
    });
  }
}

function updated(v) {
  const { gradient } = worked(v);
  return { ...v, ...Object.fromEntries(THETA.map((name) => [name, v[name] - v.rate * gradient[name]])) };
}

function paragraph(text) {
  const made = document.createElement("p");
  made.textContent = text;
  return made;
}

await begin(() => new Example());
