// The code lab, alive: a network learns dy/dt from noisy measurements of dy/dt = -2 y, in the reader's browser.
import { mlp, normals } from "./field.mjs";
import { Runner, begin, byId, knobs, say } from "./live.mjs";
import { Plot, shown } from "./plot.mjs";
import { lossAndGrad, solve } from "./solve.mjs";

const STARTS = [1, 0.6, 0.3, -0.5, -0.9];
const END = 1;

class Lab {
  constructor() {
    this.plots = {
      loss: new Plot(byId("loss"), { xLabel: "epoch", yLabel: "log\u2081\u2080 loss" }),
      paths: new Plot(byId("paths"), { xLabel: "time", yLabel: "y" }),
      field: new Plot(byId("field"), { xLabel: "y", yLabel: "dy/dt" }),
    };
    const ids = ["noise", "hidden", "step", "epochs", "rate", "seed", "method", "gradient"];
    this.knobs = knobs(ids, () => this.reset(), { rate: (power) => shown(10 ** power, 2) });
    this.runner = new Runner("run", {
      start: () => this.losses.length >= this.settings.epochs && this.reset(),
      step: () => this.epoch(),
      draw: () => this.draw(),
    });
    byId("again").addEventListener("click", () => this.reset());
    this.reset();
  }

  /** New data and a new network. */
  reset() {
    this.runner.stop();
    const values = this.knobs.read();
    const s = (this.settings = { ...values, rate: 10 ** values.rate });
    this.options = { method: s.method, step: s.step };
    this.t = Array.from({ length: 21 }, (_, k) => (END * k) / 20);
    const noise = normals(1000 + s.seed, STARTS.length * this.t.length);
    this.data = STARTS.map((y0, i) => this.t.map((t, k) => y0 * Math.exp(-2 * t) + s.noise * noise[i * this.t.length + k]));
    this.y0 = STARTS.map((y) => [y]);
    this.target = this.data.map((row) => row.map((y) => [y]));
    this.model?.free();
    this.model = mlp(1, [s.hidden]);
    this.theta = this.model.init(s.seed);
    this.losses = [];
    say(`${this.model.nParams} parameters, not trained yet.`);
    this.draw();
  }

  loss(theta) {
    const t = this.y0.map(() => this.t);
    return lossAndGrad(this.model, this.y0, t, theta, this.target, this.options);
  }

  gradient() {
    if (this.settings.gradient === "adjoint") return this.loss(this.theta);
    const grad = new Float64Array(this.theta.length);
    const moved = this.theta.slice();
    for (let i = 0; i < grad.length; i++) {
      const [low, high] = [-1e-5, 1e-5].map((by) => {
        moved[i] = this.theta[i] + by;
        return this.value(moved);
      });
      moved[i] = this.theta[i];
      grad[i] = (high - low) / 2e-5;
    }
    return { loss: this.value(this.theta), grad };
  }

  value(theta) {
    const { y } = solve(this.model, this.y0, this.t, theta, this.options);
    let sum = 0;
    this.data.flat().forEach((v, i) => (sum += (y[i] - v) ** 2));
    return sum / y.length;
  }

  /** -> true: there are more. */
  epoch() {
    let now;
    try {
      now = this.gradient();
    } catch (error) {
      throw new Error(`${error.message} A smaller learning rate or a shorter step may help.`);
    }
    const { loss, grad } = now;
    if (!Number.isFinite(loss)) throw new Error("The loss is not finite: take a smaller learning rate.");
    this.losses.push(loss);
    for (let i = 0; i < grad.length; i++) this.theta[i] -= this.settings.rate * grad[i];
    return this.losses.length < this.settings.epochs;
  }

  draw() {
    const { losses, data, t } = this;
    const y = Array.from({ length: 61 }, (_, k) => -1.2 + k * 0.04);
    const slopes = Array.from(this.model.evaluateMany(0, y, this.theta));
    const { y: fitted } = solve(this.model, this.y0, t, this.theta, { ...this.options, errors: "ignore" });
    const rows = STARTS.map((_, i) => Array.from(fitted.slice(i * t.length, (i + 1) * t.length)));
    this.plots.paths.draw({
      lines: rows.map((row) => ({ x: t, y: row, color: 0 })),
      points: data.map((row) => ({ x: t, y: row, color: 1, size: 2.5 })),
      yRange: [-1.3, 1.3],
    });
    this.plots.field.draw({
      lines: [
        { x: y, y: y.map((v) => -2 * v), color: "soft", dash: [6, 4] },
        { x: y, y: slopes, color: 0 },
      ],
      yRange: [-3, 3],
    });
    const floor = this.settings.noise ** 2;
    const x = [...losses.keys()];
    const flat = { x: [0, this.settings.epochs], y: [Math.log10(floor), Math.log10(floor)], color: "soft", dash: [2, 3] };
    this.plots.loss.draw({
      lines: [{ x, y: losses.map(Math.log10), color: 0 }, ...(floor > 0 ? [flat] : [])],
      xRange: [0, this.settings.epochs],
    });
    this.describe(slopes, y);
  }

  /** The state of things in words, for all readers. */
  describe(slopes, y) {
    const { losses } = this;
    const worst = Math.max(...y.map((v, i) => (Math.abs(v) <= 1 ? Math.abs(slopes[i] + 2 * v) : 0)));
    if (losses.length) {
      const [first, last] = [losses[0], losses.at(-1)];
      const { running, spent, done } = this.runner;
      const pace = spent / done;
      const how = running ? "" : losses.length < this.settings.epochs ? " (stopped)" : " (finished)";
      say(
        `Epoch ${losses.length}${how}: loss ${shown(first)} \u2192 ${shown(last)}; largest error of the learned dy/dt for |y| \u2264 1: ` +
          `${shown(worst)}; ${shown(pace)} ms an epoch.`,
      );
    }
    this.plots.loss.describe(`Loss over ${losses.length} epochs, now ${shown(losses.at(-1) ?? NaN)}`);
    this.plots.paths.describe("Five measured decays as points, and the trajectories of the network as lines");
    this.plots.field.describe(`Learned dy/dt beside -2 y; the largest error for |y| up to 1 is ${shown(worst)}`);
    document.documentElement.dataset.epochs = losses.length;
    document.documentElement.dataset.error = worst;
  }
}

await begin(() => new Lab());
