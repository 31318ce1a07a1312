// Lesson 05: a residual network of N layers with shared weights beside the flow that it becomes.
import { mlp } from "./field.mjs";
import { begin, byId, knobs, say } from "./live.mjs";
import { Plot, extent, shown } from "./plot.mjs";
import { grid, publish } from "./report.mjs";
import { solve } from "./solve.mjs";

const COUNTS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
const FINE = grid(0, 1, 50);
const ROW = grid(-1.6, -0.1, 5); // second features of inputs that stay
// four units, by hand: a drift to the right, up and down on the way, and a pull together
const FIRST = [2, 0, 2.5, 0, 0, 1.5, 1, -1];
const BIAS = [2, 0, 0, 0];
const SECOND = [0, 0, -0.6, 0.4, 0.8, -2.8, -0.9, 0.4];
const DRIFT = [3.5, 0];
const HOLD = (v) => Math.min(Math.max(v, -2), 2);

class Depth {
  constructor() {
    this.plane = new Plot(byId("plane"), { xLabel: "first feature", yLabel: "second feature", equal: true });
    this.distance = new Plot(byId("distance"), { xLabel: "log\u2081\u2080 N", yLabel: "log\u2081\u2080 mean distance" });
    this.f = mlp(2, [4]);
    this.knobs = knobs(["layers", "strength", "depth", "x", "y"], () => this.draw());
    this.plane.onDrag((x, y) => {
      for (const [id, v] of [["x", x], ["y", y]]) this.knobs.set(id, HOLD(v));
      this.draw();
    });
    this.draw();
  }

  /** States of all points at times t, [point][time][feature]; n layers, or the flow where n is 0. */
  states(points, t, n) {
    const options = n ? { method: "euler", step: 1 / n } : { rtol: 1e-10, atol: 1e-12 };
    const { y } = solve(this.f, points, t, this.theta, options);
    return points.map((_, i) => t.map((_, k) => [0, 1].map((c) => y[(i * t.length + k) * 2 + c])));
  }

  outputs(points, n) {
    return this.states(points, [0, 1], n).map((path) => path[1]);
  }

  draw() {
    const v = this.knobs.read();
    this.theta = [...FIRST, ...BIAS, ...SECOND.map((w) => w * v.strength), ...DRIFT];
    const points = [[v.x, v.y], ...ROW.map((y) => [-1.9, y])];
    const target = this.outputs(points, 0);
    const distances = new Map([...COUNTS, v.layers, 2 * v.layers].map((n) => [n, mean(this.outputs(points, n), target)]));
    this.drawPlane(v, points);
    this.drawDistance(v, distances);
    this.tell(v, points, target, distances);
  }

  drawPlane(v, points) {
    const t = grid(0, 1, v.layers);
    const [flows, walks] = [this.states(points, FINE, 0), this.states(points, t, v.layers)];
    const flow = flows.map((path) => path.filter((_, k) => FINE[k] <= v.depth + 1e-9));
    const walk = walks.map((path) => path.filter((_, k) => t[k] <= v.depth + 1e-9));
    const range = (c) => extent([...flows, ...walks].map((path) => path.map((h) => h[c])));
    const part = (path, more) => ({ x: path.map((h) => h[0]), y: path.map((h) => h[1]), ...more });
    this.plane.draw({
      lines: [
        ...flow.map((path) => part(path, { color: "soft", width: 3 })),
        ...walk.map((path) => part(path, { color: 0, width: 1 })),
      ],
      points: [
        part(points, { color: "soft", open: true, size: 4 }),
        ...walk.map((path) => part(path.slice(1), { color: 0, size: v.layers > 16 ? 1.5 : 2.5 })),
        part(flow.map((path) => path.at(-1)), { color: "soft", size: 4 }),
        part(walk.map((path) => path.at(-1)), { color: 0, size: 4.5 }),
        { x: [v.x], y: [v.y], color: 1, size: 7 },
      ],
      xRange: range(0),
      yRange: range(1),
    });
    this.plane.describe(`${points.length} inputs, their ways through ${v.layers} layers, and the curves of the flow`);
  }

  drawDistance(v, distances) {
    const log = (n) => Math.log10(distances.get(n));
    const x = COUNTS.map(Math.log10);
    const from = log(64);
    this.distance.draw({
      lines: [
        { x, y: x.map((each) => from + x.at(-1) - each), color: "soft", dash: [6, 4] },
        { x, y: COUNTS.map(log), color: 0 },
      ],
      points: [
        { x, y: COUNTS.map(log), color: 0, size: 3 },
        { x: [Math.log10(v.layers)], y: [log(v.layers)], color: 1, size: 6 },
      ],
      marks: [{ x: Math.log10(v.layers) }],
      xMargin: 0.05,
    });
    this.distance.describe(`The mean distance falls from ${shown(distances.get(1))} with 1 layer to ${shown(distances.get(64))} with 64, with slope -1 in the end`);
  }

  tell(v, points, target, distances) {
    const n = v.layers;
    const [now, twice] = [distances.get(n), distances.get(2 * n)];
    say(`${n} ${n > 1 ? "layers" : "layer"}: the outputs are on average ${shown(now)} away from the flow's; with ${2 * n} it would be ${shown(twice)}, ` +
      `${shown(now / twice)} times less. N times the distance: ${shown(n * now)}.`);
    const [out] = this.outputs(points.slice(0, 1), n);
    publish({ layers: n, outX: out[0], outY: out[1], flowX: target[0][0], flowY: target[0][1], distance: now, twice, start: `${v.x} ${v.y}` });
  }
}

const mean = (a, b) => a.reduce((sum, h, i) => sum + Math.hypot(h[0] - b[i][0], h[1] - b[i][1]), 0) / a.length;

await begin(() => new Depth());
