// Curriculum: two equal networks, one sees short horizons first, the other whole trajectories from the start.
import { field, mlp, normals } from "./field.mjs";
import { Adam } from "./fit.mjs";
import { Runner, begin, byId, knobs, say } from "./live.mjs";
import { Plot, shown } from "./plot.mjs";
import { lossAndGrad, solve } from "./solve.mjs";

const END = 6;
const EVERY = 0.1; // between measurements
const NOISE = 0.03;
const STARTS = [[1, 0], [2, 0], [0, -1.5]];
const OPTIONS = { method: "rk4", step: 0.05 };
const TIMES = Array.from({ length: 61 }, (_, k) => k * EVERY);

/** Noisy solutions of angle' = 6 speed, speed' = -6 sin(angle) - 0.3 speed. */
function measured() {
  const pendulum = field({ state: 2 }, (b, t, y) => {
    const [angle, speed] = [b.slice(y, 0, 1), b.slice(y, 1, 1)];
    return b.concat(b.scale(6, speed), b.sub(b.scale(-6, b.same("SIN", angle)), b.scale(0.3, speed)));
  });
  const { y } = solve(pendulum, STARTS, TIMES);
  pendulum.free();
  const e = normals(5, y.length);
  const at = (i, k, j) => (i * TIMES.length + k) * 2 + j;
  return STARTS.map((_, i) => TIMES.map((_, k) => [0, 1].map((j) => y[at(i, k, j)] + NOISE * e[at(i, k, j)])));
}

/** A network in training on the times up to a horizon. */
class Learner {
  constructor(model, data, seed, rate) {
    Object.assign(this, { model, data, rate, theta: model.init(seed), losses: [], gone: false });
  }

  // of the first `count` times
  on(count) {
    const t = STARTS.map(() => TIMES.slice(0, count));
    return lossAndGrad(this.model, STARTS, t, this.theta, this.data.map((rows) => rows.slice(0, count)), OPTIONS);
  }

  /** One step; the loss on everything before it is kept. */
  epoch(horizon) {
    if (this.gone) return;
    const count = Math.floor(horizon / EVERY + 1e-6) + 1;
    if (count !== this.count) this.adam = new Adam(this.theta, { learningRate: this.rate }); // other data, other sizes of gradients
    this.count = count;
    try {
      const now = this.on(count);
      this.losses.push(count === TIMES.length ? now.loss : this.value());
      this.gone = !Number.isFinite(now.loss);
      if (!this.gone) this.theta = this.adam.step(now.grad);
    } catch (error) {
      if (error.name !== "PynodeError") throw error;
      this.gone = true;
    }
  }

  /** The mean squared error on everything; NaN where the solution runs away. */
  value() {
    const { y } = solve(this.model, STARTS, TIMES, this.theta, { ...OPTIONS, errors: "ignore" });
    const truth = this.data.flat(2);
    return y.reduce((sum, v, i) => sum + (v - truth[i]) ** 2, 0) / y.length;
  }

  path(i) {
    const t = Array.from({ length: 121 }, (_, k) => (END * k) / 120);
    const { y } = solve(this.model, STARTS[i], t, this.theta, { ...OPTIONS, errors: "ignore" });
    return { x: t, y: t.map((_, k) => y[2 * k]) };
  }
}

class Curriculum {
  constructor() {
    this.data = measured();
    this.model = mlp(2, [16]);
    this.plots = {
      grown: new Plot(byId("grown"), { xLabel: "time", yLabel: "angle" }),
      whole: new Plot(byId("whole"), { xLabel: "time", yLabel: "angle" }),
      loss: new Plot(byId("loss"), { xLabel: "epoch", yLabel: "log\u2081\u2080 loss" }),
    };
    const ids = ["first", "stages", "epochs", "seed", "rate", "shows"];
    this.knobs = knobs(ids, (_, id) => (id === "shows" ? this.draw() : this.reset()), { rate: (power) => shown(10 ** power, 2) });
    const work = { start: () => this.done >= this.settings.epochs && this.reset(), step: () => this.epoch(), draw: () => this.draw() };
    this.runner = new Runner("run", work);
    this.plots.grown.onDrag((x) => {
      this.knobs.set("first", Math.min(END, Math.max(0.3, x)));
      this.reset();
    });
    this.reset();
  }

  reset() {
    this.runner.stop();
    const s = (this.settings = this.knobs.read());
    const learner = () => new Learner(this.model, this.data, s.seed, 10 ** s.rate);
    this.learners = { grown: learner(), whole: learner() };
    this.ends = Array.from({ length: s.stages }, (_, k) => s.first * (END / s.first) ** (k / (s.stages - 1)));
    this.done = 0;
    this.draw();
  }

  /** The horizon of an epoch. */
  horizon() {
    const { stages, epochs } = this.settings;
    return this.ends[Math.min(stages - 1, Math.floor((this.done * stages) / epochs))];
  }

  epoch() {
    this.learners.grown.epoch(this.horizon());
    this.learners.whole.epoch(END);
    this.done += 1;
    return this.done < this.settings.epochs;
  }

  draw() {
    const { shows } = this.knobs.read();
    const horizon = this.done ? this.horizon() : this.settings.first;
    for (const [name, learner] of Object.entries(this.learners)) {
      const points = { x: TIMES, y: this.data[Number(shows)].map((row) => row[0]), color: 1, size: 2 };
      const line = { ...learner.path(Number(shows)), color: 0 };
      const marks = name === "grown" ? [{ x: horizon }] : [];
      this.plots[name].draw({ points: [points], lines: [line], marks, xRange: [-0.1, END + 0.1], yRange: [-3, 3] });
    }
    this.drawLoss();
    this.describe(horizon);
  }

  drawLoss() {
    const { epochs, stages } = this.settings;
    const line = ({ losses }, color) => ({ x: [...losses.keys()], y: losses.map(Math.log10), color });
    const floor = 2 * Math.log10(NOISE);
    const ends = this.ends.slice(1).map((_, k) => ({ x: (epochs * (k + 1)) / stages }));
    this.plots.loss.draw({
      lines: [
        { x: [0, epochs], y: [floor, floor], color: "soft", dash: [2, 3] },
        line(this.learners.whole, 1),
        line(this.learners.grown, 0),
      ],
      marks: ends,
      xRange: [0, epochs],
      yRange: [-3.3, 1],
    });
  }

  describe(horizon) {
    const { done, runner, settings } = this;
    const { grown, whole } = this.learners;
    const last = ({ losses, gone }) => (gone ? "ran away" : shown(losses.at(-1), 2));
    const losses = `Loss on everything: curriculum (blue) ${last(grown)}, whole trajectories (orange) ${last(whole)}; noise ${shown(NOISE ** 2, 2)}`;
    const how = done >= settings.epochs ? " (finished)" : runner.running ? "" : " (stopped)";
    if (!done) say(`${this.model.nParams} parameters, not trained yet. Horizons: ${this.ends.map((end) => shown(end, 2)).join(", ")}.`);
    else say(`Epoch ${done}${how}, horizon ${shown(horizon, 2)}. ${losses}.`);
    this.plots.loss.describe(done ? losses : "No losses yet");
    this.plots.grown.describe(`Measured angle, the curriculum's network, and its horizon at ${shown(horizon, 2)}`);
    this.plots.whole.describe("Measured angle, and the network that sees whole trajectories");
    document.documentElement.dataset.done = done;
    if (!runner.running) this.report();
  }

  report() {
    const { settings, ends, data, model } = this;
    const facts = ({ losses, theta }) => ({ losses, theta: Array.from(theta) });
    const { grown, whole } = this.learners;
    const initial = Array.from(model.init(settings.seed));
    const state = { grown: facts(grown), whole: facts(whole), ends, data, initial, rate: 10 ** settings.rate };
    document.documentElement.dataset.state = JSON.stringify(state);
  }
}

await begin(() => new Curriculum());
