// The front page's figure: a network learns Van der Pol's oscillator from noisy measurements, and begins by itself.
import { field, mlp, normals } from "./field.mjs";
import { Adam } from "./fit.mjs";
import { Runner, begin, byId, knobs, say, still } from "./live.mjs";
import { Plot, shown } from "./plot.mjs";
import { lossAndGrad, solve } from "./solve.mjs";

const MEASURED = [[0.3, 0], [-2.5, 2.5]];
const END = 8;
const TIMES = 81;
const PIECE = 6; // measurements of a piece that the network has to go through from its first
const EPOCHS = 600;
const SIDE = 15;
const AHEAD = Array.from({ length: 241 }, (_, k) => k * 0.1);
const MEASURE = { method: "rk4", step: 0.1 };

// x' = v, v' = (1 - x^2) v - x
const truth = () =>
  field({ state: 2, states: ["x", "v"], name: "van_der_pol" }, (b, t, y) => {
    const [x, v] = [b.slice(y, 0, 1), b.slice(y, 1, 1)];
    const one = b.full(1, 1);
    return b.concat(v, b.sub(b.mul(b.sub(one, b.mul(x, x)), v), x));
  });

class Portrait {
  constructor() {
    this.portrait = new Plot(byId("portrait"), { xLabel: "x", yLabel: "v" });
    this.overTime = new Plot(byId("over-time"), { xLabel: "time", yLabel: "x" });
    this.truth = truth();
    this.model = mlp(2, [16]);
    this.knobs = knobs(["x", "v", "noise", "truth"], (_, id) => (id === "noise" ? this.again() : this.draw()));
    this.runner = new Runner("run", {
      start: () => this.done >= EPOCHS && this.forget(),
      step: () => this.epoch(),
      draw: () => !(still() && this.runner.running) && this.draw(),
      label: "Learn",
    });
    byId("again").addEventListener("click", () => this.again());
    this.portrait.onDrag((x, v) => {
      this.knobs.set("x", x);
      this.knobs.set("v", v);
      this.draw();
    });
    this.forget();
    this.whenSeen(() => this.runner.run());
  }

  whenSeen(work) {
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      work();
    });
    seen.observe(byId("portrait"));
  }

  again() {
    this.runner.stop();
    this.forget();
    this.runner.run();
  }

  /** New measurements, a network that knows nothing. */
  forget() {
    const t = Array.from({ length: TIMES }, (_, k) => (END * k) / (TIMES - 1));
    const { y } = solve(this.truth, MEASURED, t, [], { rtol: 1e-8 });
    const noise = normals(7, y.length);
    const { noise: size } = this.knobs.read();
    this.data = MEASURED.map((_, i) => t.map((_, k) => [0, 1].map((c) => {
      const at = (i * TIMES + k) * 2 + c;
      return y[at] + size * noise[at];
    })));
    const first = Array.from({ length: Math.floor(TIMES / PIECE) }, (_, k) => k * PIECE);
    this.pieces = this.data.flatMap((rows) => first.map((k) => rows.slice(k, k + PIECE + 1)).filter((piece) => piece.length === PIECE + 1));
    this.starts = this.pieces.map((piece) => piece[0]);
    this.times = t.slice(0, PIECE + 1);
    this.adam = new Adam(this.model.init(1), { learningRate: 0.03 });
    [this.done, this.loss] = [0, NaN];
    this.draw();
  }

  /** -> true: there are more. */
  epoch() {
    const { loss, grad } = lossAndGrad(this.model, this.starts, this.times, this.adam.theta, this.pieces, MEASURE);
    this.adam.step(grad, 0.03 * (1 + Math.cos((Math.PI * this.done) / EPOCHS)) * 0.5);
    this.loss = loss;
    this.done += 1;
    return this.done < EPOCHS;
  }

  path(f, theta) {
    const { x, v } = this.knobs.read();
    const { y } = solve(f, [x, v], AHEAD, theta, { rtol: 1e-4, errors: "ignore" });
    return [0, 1].map((c) => AHEAD.map((_, k) => y[2 * k + c]));
  }

  arrows() {
    const grid = Array.from({ length: SIDE * SIDE }, (_, k) => [-2.8 + (5.6 * (k % SIDE)) / (SIDE - 1), -3.8 + (7.6 * Math.floor(k / SIDE)) / (SIDE - 1)]);
    const slopes = this.model.evaluateMany(0, grid.flat(), this.adam.theta);
    return grid.map(([x, y], k) => ({ x, y, dx: slopes[2 * k], dy: slopes[2 * k + 1], length: 11 }));
  }

  draw() {
    const now = this.knobs.read();
    const [x, v] = this.path(this.model, this.adam.theta);
    const true_ = now.truth ? this.path(this.truth, []) : null;
    const dash = { color: "soft", dash: [5, 4] };
    this.portrait.draw({
      arrows: this.arrows(),
      lines: [...(true_ ? [{ x: true_[0], y: true_[1], ...dash }] : []), { x, y: v, color: 0 }],
      points: [
        ...this.data.map((rows) => ({ x: rows.map((row) => row[0]), y: rows.map((row) => row[1]), color: 1, size: 2 })),
        { x: [now.x], y: [now.v], color: 0, size: 8 },
      ],
      xRange: [-3, 3],
      yRange: [-4, 4],
    });
    this.overTime.draw({
      lines: [...(true_ ? [{ x: AHEAD, y: true_[0], ...dash }] : []), { x: AHEAD, y: x, color: 0 }],
      points: [{ x: [0], y: [now.x], color: 0, size: 8 }],
      yRange: [-3, 3],
    });
    this.describe(now, x);
  }

  describe(now, x) {
    const { done, loss } = this;
    const how = done >= EPOCHS ? " (finished)" : this.runner.running ? "" : " (stopped)";
    say(done ? `Step ${done} of ${EPOCHS}${how}: mean squared error of ${PIECE} measurements ahead ${shown(loss)}.` : "Nothing is learned yet.");
    const at = `from x = ${shown(now.x)}, v = ${shown(now.v)}`;
    this.portrait.describe(`Phase portrait: measured points, arrows of the learned field, its trajectory ${at}`);
    this.overTime.describe(`x over time ${at}; at time ${AHEAD.at(-1)} it is ${shown(x.at(-1))}`);
    Object.assign(document.documentElement.dataset, { epochs: done, loss, end: x.at(-1), theta: this.adam.theta.join(" ") });
  }
}

await begin(() => new Portrait());
