// Lesson 08: Euler, midpoint and RK4 with the same step; errors against the step.
import { field } from "./field.mjs";
import { begin, byId, knobs, say } from "./live.mjs";
import { Plot, shown } from "./plot.mjs";
import { column, fillTable, grid, publish } from "./report.mjs";
import { solve } from "./solve.mjs";

const END = 4;
const COUNTS = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128].reverse(); // steps of the slider's places
const METHODS = [
  { name: "euler", title: "Euler", color: 1, stages: 1 },
  { name: "midpoint", title: "midpoint", color: 2, stages: 2 },
  { name: "rk4", title: "RK4", color: 0, stages: 4 },
];
const PROBLEMS = {
  decay: {
    make: () => field({ state: 1, name: "decay" }, (b, t, y) => b.neg(y)),
    start: [1],
    exact: (t) => [Math.exp(-t)],
    yRange: [-0.5, 1.15],
  },
  oscillator: {
    make: () => field({ state: 2, name: "oscillator" }, (b, t, y) => b.concat(b.slice(y, 1, 1), b.neg(b.slice(y, 0, 1)))),
    start: [1, 0],
    exact: (t) => [Math.cos(t), -Math.sin(t)],
    yRange: [-2, 2],
  },
};
const log = (values) => values.map((v) => (v > 0 ? Math.log10(v) : NaN));

class Race {
  constructor() {
    this.steps = new Plot(byId("steps"), { xLabel: "time t", yLabel: "y" });
    this.errors = new Plot(byId("errors"), { xLabel: "log\u2081\u2080 dt", yLabel: "log\u2081\u2080 error" });
    this.fields = {};
    this.curves = {};
    const texts = { size: (place) => shown(END / COUNTS[place]) };
    this.knobs = knobs(["problem", "size"], () => this.draw(), texts);
    this.steps.onDrag((t) => {
      this.knobs.set("size", nearest(t));
      this.draw();
    });
    this.draw();
  }

  field(problem) {
    return (this.fields[problem] ??= PROBLEMS[problem].make());
  }

  /** States at all steps, row by row. */
  solved(problem, method, n) {
    return solve(this.field(problem), PROBLEMS[problem].start, grid(0, END, n), [], { method, step: END / n }).y;
  }

  error(problem, method, n) {
    const exact = PROBLEMS[problem].exact(END);
    return Math.hypot(...exact.map((v, i) => v - this.solved(problem, method, n).at(i - exact.length)));
  }

  /** Errors of all methods for all steps, once for each problem. */
  errorsOf(problem) {
    return (this.curves[problem] ??= METHODS.map(({ name }) => COUNTS.map((n) => this.error(problem, name, n))));
  }

  draw() {
    const { problem, size } = this.knobs.read();
    const n = COUNTS[size];
    this.drawSteps(problem, n);
    this.drawErrors(problem, size);
    this.tell(problem, size);
  }

  drawSteps(problem, n) {
    const { exact, yRange, start } = PROBLEMS[problem];
    const fine = grid(0, END, 200);
    const t = grid(0, END, n);
    const paths = METHODS.map(({ name }) => column(this.solved(problem, name, n), start.length, 0));
    this.steps.draw({
      lines: [
        { x: fine, y: fine.map((v) => exact(v)[0]), color: "soft", width: 5 },
        ...METHODS.map(({ color }, i) => ({ x: t, y: paths[i], color, width: 1.5 })),
      ],
      points: METHODS.map(({ color }, i) => ({ x: t, y: paths[i], color, size: n > 48 ? 2 : 4 })),
      marks: [{ x: END / n }],
      xRange: [0, END * 1.02],
      yRange,
    });
    this.steps.describe(`Exact curve and ${n} steps of Euler, midpoint and RK4; Euler ends at ${shown(paths[0].at(-1))}, RK4 at ` +
      `${shown(paths[2].at(-1))}, the exact curve at ${shown(exact(END)[0])}`);
  }

  drawErrors(problem, place) {
    const x = log(COUNTS.map((n) => END / n));
    const all = this.errorsOf(problem).map(log);
    this.errors.draw({
      lines: METHODS.map(({ color }, i) => ({ x, y: all[i], color })),
      points: METHODS.flatMap(({ color }, i) => [
        { x, y: all[i], color, size: 2.5 },
        { x: [x[place]], y: [all[i][place]], color, size: 6 },
      ]),
      marks: [{ x: x[place] }],
      xMargin: 0.05,
    });
    this.errors.describe("Errors at the end against the step, both as logarithms: lines of slope 1, 2 and 4 where steps are short");
  }

  tell(problem, place) {
    const n = COUNTS[place];
    const errors = this.errorsOf(problem).map((each) => each[place]);
    const halved = METHODS.map(({ name }) => this.error(problem, name, 2 * n));
    fillTable("table", METHODS.map(({ title, stages }, i) => [
      title, String(stages * n), shown(errors[i]), `1/${shown(errors[i] / halved[i])} of it`,
    ]));
    const matching = Math.ceil((COUNTS[0] * this.errorsOf(problem)[0][0]) / errors[2]); // Euler's error is proportional to its step
    const better = errors[2] < errors[0];
    say(`${n} ${n > 1 ? "steps" : "step"} of ${shown(END / n)}. ` + (better
      ? `RK4's error is ${shown(errors[0] / errors[2], 2)} times smaller than Euler's, for 4 times the evaluations. Euler would need about ` +
        `${Number(matching.toPrecision(2)).toLocaleString("en")} steps to match it.`
      : "Steps this long are not stable: RK4 is no better than Euler."));
    publish({ steps: n, euler: errors[0], midpoint: errors[1], rk4: errors[2], matching });
  }
}

/** The place of the slider whose step is nearest to t. */
function nearest(t) {
  const off = COUNTS.map((n) => Math.abs(Math.log(Math.max(t, 0.01) * n / END)));
  return off.indexOf(Math.min(...off));
}

await begin(() => new Race());
