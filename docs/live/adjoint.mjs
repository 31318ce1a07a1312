// Lesson 03: a push of the state at some time, what it does to the loss, and what the adjoint says about it.
import { field } from "./field.mjs";
import { begin, byId, knobs, say } from "./live.mjs";
import { Plot, shown } from "./plot.mjs";
import { fillTable, grid, publish } from "./report.mjs";
import { lossAndGrad, solve } from "./solve.mjs";

const END = 2;
const T = grid(0, END, 100); // the places of the slider
const TIGHT = { rtol: 1e-11, atol: 1e-13 };
const PROBLEMS = {
  decay: {
    write: (b, t, y, u, th) => b.neg(b.mul(th("alpha"), y)),
    byAlpha: (y) => -y,
    knobs: { alpha: 1, start: 2, target: 0.8, time: 1, push: 0.3 },
  },
  well: {
    write: (b, t, y, u, th) => b.sub(b.mul(th("alpha"), y), b.mul(y, b.mul(y, y))),
    byAlpha: (y) => y,
    knobs: { alpha: 2, start: 0.1, target: 1, time: 0.6, push: 0.1 },
  },
};
const fit = (x, low, high) => Math.min(Math.max(x, low), high);

class Push {
  constructor() {
    this.path = new Plot(byId("path"), { xLabel: "time t", yLabel: "y" });
    this.costate = new Plot(byId("costate"), { xLabel: "time t", yLabel: "a" });
    this.integrand = new Plot(byId("integrand"), { xLabel: "time t" });
    this.fields = {};
    for (const [name, { write }] of Object.entries(PROBLEMS)) this.fields[name] = field({ state: 1, theta: { alpha: 1 }, name }, write);
    const ids = ["time", "push", "problem", "alpha", "start", "target"];
    this.knobs = knobs(ids, (values, id) => {
      if (id === "problem") this.take(PROBLEMS[values.problem].knobs);
      else this.draw();
    });
    this.path.onDrag((t, y) => {
      const place = Math.round((fit(t, 0, END) / END) * (T.length - 1));
      this.take({ time: T[place], push: fit(y - this.known.y[place], -0.6, 0.6) });
    });
    this.draw();
  }

  take(values) {
    for (const [id, x] of Object.entries(values)) this.knobs.set(id, x);
    this.draw();
  }

  /** Path, adjoint and gradient: a solve from each time on, all in one call. gradY0 of such a solve is a(t), and
   * its gradient is the area of a df/dalpha from t on. */
  solved({ problem, alpha, start, target }) {
    const f = this.fields[problem];
    const y = Array.from(solve(f, [start], T, [alpha], TIGHT).y);
    const later = T.slice(0, -1);
    const { gradY0, grad } = lossAndGrad(
      f, later.map((_, k) => [y[k]]), later.map((t) => [t, END]), later.map(() => alpha),
      later.map(() => [[NaN], [target]]), { ...TIGHT, loss: "sse" },
    );
    const a = [...Array.from(gradY0, (v) => v / 2), y.at(-1) - target];
    return { f, y, a, area: [...Array.from(grad, (v) => v / 2), 0] };
  }

  /** The path after the push, and the loss. */
  pushed({ alpha, push, target }, { f, y }, place) {
    const t = T.slice(place);
    const after = t.length > 1 ? Array.from(solve(f, [y[place] + push], t, [alpha], TIGHT).y) : [y[place] + push];
    return { t, after, loss: (after.at(-1) - target) ** 2 / 2 };
  }

  draw() {
    const v = this.knobs.read();
    const place = Math.round((v.time / END) * (T.length - 1));
    const known = (this.known = this.solved(v));
    const moved = this.pushed(v, known, place);
    this.drawPath(v, known, moved, place);
    this.costate.draw({
      lines: [{ x: T, y: known.a, color: 0 }, { x: [0, END], y: [0, 0], color: "soft", width: 1 }],
      points: [{ x: [T[place]], y: [known.a[place]], color: 1, size: 6 }],
      marks: [{ x: T[place] }],
    });
    this.costate.describe(`The adjoint: ${shown(known.a[0])} at the start, ${shown(known.a[place])} at t = ${shown(T[place])}, ${shown(known.a.at(-1))} at the end`);
    this.drawIntegrand(v, known, place);
    this.tell(v, known, moved, place);
  }

  drawPath(v, { y }, { t, after }, place) {
    this.path.draw({
      lines: [
        { x: T, y, color: 0 },
        { x: t, y: after, color: 1, dash: [6, 4] },
        { x: [t[0], t[0]], y: [y[place], after[0]], color: 1, width: 4 },
      ],
      points: [
        { x: [t[0]], y: [y[place]], color: 0, size: 5 },
        { x: [t[0]], y: [after[0]], color: 1, size: 6 },
        { x: [END], y: [v.target], color: "ink", size: 7, open: true },
      ],
      xRange: [-0.05, END + 0.1],
      yRange: [Math.min(...y, ...after, v.target, 0) - 0.3, Math.max(...y, ...after, v.target, 0) + 0.3],
    });
    this.path.describe(`The state goes from ${shown(y[0])} to ${shown(y.at(-1))}; pushed at t = ${shown(t[0])} by ${shown(v.push)} it ends at ` +
      `${shown(after.at(-1))}; wanted is ${shown(v.target)}`);
  }

  drawIntegrand(v, { y, a, area }, place) {
    const rate = a.map((each, k) => each * PROBLEMS[v.problem].byAlpha(y[k]));
    const part = rate.slice(place);
    this.integrand.draw({
      bands: [{ x: T.slice(place), low: part.map((r) => Math.min(r, 0)), high: part.map((r) => Math.max(r, 0)), color: 2 }],
      lines: [{ x: T, y: rate, color: 2 }, { x: [0, END], y: [0, 0], color: "soft", width: 1 }],
      marks: [{ x: T[place] }],
    });
    this.integrand.describe(`The integrand of dL/dalpha; its area from t = ${shown(T[place])} to the end is ${shown(area[place])}, in all ${shown(area[0])}`);
  }

  tell(v, { y, a, area }, { loss }, place) {
    const before = (y.at(-1) - v.target) ** 2 / 2;
    const [said, change] = [a[place] * v.push, loss - before];
    const verb = change < 0 ? "lowers" : "raises";
    say(`The push of ${shown(v.push)} at t = ${shown(T[place])} ${verb} the loss from ${shown(before)} to ${shown(loss)}. ` +
      `The adjoint said ${shown(said)}; the change is ${shown(change)}.`);
    fillTable("table", [
      ["a(t)", shown(a[place], 5)],
      ["a(t) \u03b4", shown(said, 5)],
      ["true change of L", shown(change, 5)],
      ["area from t to the end", shown(area[place], 5)],
      ["dL/d\u03b1, the whole area", shown(area[0], 5)],
    ]);
    publish({ time: T[place], push: v.push, a: a[place], said, change, loss: before, area: area[place], gradient: area[0] });
  }
}

await begin(() => new Push());
