// A network field fitted to trajectories in stages: slopes, short windows, longer ones, whole trajectories with their starts.
import { mlp } from "./field.mjs";
import { LevenbergMarquardt, residualsOf } from "./fit.mjs";
import { sensitivities } from "./solve.mjs";
import { smoothed } from "./trajectories.mjs";

const OPTIONS = { rtol: 1e-5, atol: 1e-6, maxSteps: 2000 };
const DECAY = 1e-3; // of parameters, in units of the data's: keeps what the data leave open small

/** Middle and spread of each state, and of time: in these units all numbers are about 1. */
function scalingOf(trajectories) {
  const all = trajectories.flatMap(({ y }) => y);
  const middle = [0, 1].map((j) => all.reduce((sum, v) => sum + v[j], 0) / all.length);
  const spread = [0, 1].map((j) => Math.sqrt(all.reduce((sum, v) => sum + (v[j] - middle[j]) ** 2, 0) / all.length) || 1);
  const slopes = trajectories.flatMap((one) => smoothed(one).slope.map((s) => Math.hypot(s[0] / spread[0], s[1] / spread[1])));
  const time = 1 / (Math.sqrt(slopes.reduce((sum, s) => sum + s * s, 0) / slopes.length) || 1);
  return { middle, spread, time };
}

// samples of their own times as one batch: later times, not observed, fill the shorter ones up
function batch(samples) {
  const most = Math.max(...samples.map(({ t }) => t.length));
  const rest = (one) => Array.from({ length: most - one.t.length }, (_, k) => one.t.at(-1) + (k + 1) * 1e-7);
  const t = samples.map((one) => [...one.t, ...rest(one)]);
  const target = samples.map(({ y }) => [...y, ...Array.from({ length: most - y.length }, () => [NaN, NaN])]);
  return { t, target };
}

function decayed({ r, J }, theta, p, columns) {
  const rows = r.length;
  const more = { r: new Float64Array(rows + p), J: new Float64Array((rows + p) * columns) };
  more.r.set(r);
  more.J.set(J);
  for (let i = 0; i < p; i++) {
    more.r[rows + i] = DECAY * theta[i];
    more.J[(rows + i) * columns + i] = DECAY;
  }
  return more;
}

export class Stages {
  constructor(trajectories, hidden, seed) {
    const { middle, spread, time } = (this.scaling = scalingOf(trajectories));
    this.samples = trajectories.map(({ t, y }) => ({
      t: t.map((v) => v / time), y: y.map((v) => v.map((x, j) => (x - middle[j]) / spread[j])),
    }));
    this.smooth = this.samples.map((one) => smoothed(one));
    const { smooth } = this;
    this.noise = Math.sqrt(smooth.reduce((sum, s) => sum + s.noise[0] ** 2 + s.noise[1] ** 2, 0) / (2 * smooth.length));
    this.field = mlp(2, [hidden]);
    this.p = this.field.nParams;
    this.theta = this.field.init(seed);
    this.starts = smooth.map((s) => s.value[0]);
    this.plan = this.planned();
    this.losses = [];
    this.skipped = [];
    this.stage = null;
  }

  /** Names and most iterations of the stages. */
  planned() {
    const longest = Math.max(...this.samples.map(({ t }) => t.length));
    const windows = [6, 15, 40].filter((size) => size < longest - 1);
    return [
      { name: "slopes", iterations: 60, tol: 1e-4, make: () => this.slopes() },
      ...windows.map((size) => ({ name: `windows of ${size}`, iterations: 30, tol: 1e-3, make: () => this.windows(size) })),
      { name: "whole trajectories", iterations: 80, tol: 1e-5, whole: true, make: () => this.whole() },
    ];
  }

  /** Slopes of the data: one step of Euler of length 1 is the field itself, and so are its derivatives. */
  slopes() {
    const at = this.smooth.flatMap((s) => s.value);
    const ahead = (s) => s.value.map((v, i) => [[NaN, NaN], [v[0] + s.slope[i][0], v[1] + s.slope[i][1]]]);
    const target = this.smooth.flatMap(ahead);
    return residualsOf(this.field, at, [0, 1], target, { method: "euler", step: 1 });
  }

  windows(size) {
    const parts = this.samples.flatMap(({ t, y }, i) => {
      const firsts = Array.from({ length: Math.max(1, Math.ceil((t.length - 1) / size)) }, (_, k) => k * size);
      const part = (list, a) => list.slice(a, a + size + 1);
      return firsts.map((a) => ({ start: this.smooth[i].value[a], t: part(t, a), y: [[NaN, NaN], ...part(y, a).slice(1)] }));
    });
    const { t, target } = batch(parts);
    return residualsOf(this.field, parts.map(({ start }) => start), t, target, OPTIONS);
  }

  /** Parameters, then the start of each trajectory. */
  whole() {
    const { t, target } = batch(this.samples);
    const rows = Float64Array.from(target.flat(2));
    const seen = [...rows.keys()].filter((i) => !Number.isNaN(rows[i]));
    const [p, n] = [this.p, this.samples.length];
    const columns = p + 2 * n;
    const each = rows.length / n;
    return (all) => {
      const y0 = this.startsIn(all);
      const s = sensitivities(this.field, y0, t, all.slice(0, p), OPTIONS);
      const J = new Float64Array(seen.length * columns);
      seen.forEach((row, i) => {
        J.set(s.theta.subarray(row * p, (row + 1) * p), i * columns);
        J.set(s.y0.subarray(row * 2, row * 2 + 2), i * columns + p + 2 * Math.floor(row / each));
      });
      return { r: Float64Array.from(seen, (i) => s.y[i] - rows[i]), J };
    };
  }

  startsIn(all) {
    return this.samples.map((_, i) => Array.from(all.slice(this.p + 2 * i, this.p + 2 * i + 2)));
  }

  // the next stage; one that cannot be begun, because solutions run away, is left out, and named in `skipped`
  begin() {
    while (this.plan.length) {
      this.stage = this.plan.shift();
      const residuals = this.stage.make();
      const first = this.stage.whole ? [...this.theta, ...this.starts.flat()] : [...this.theta];
      try {
        const all = (theta) => decayed(residuals(theta), theta, this.p, first.length);
        this.solver = new LevenbergMarquardt(all, first, { tol: this.stage.tol });
        this.observed = this.solver.now.r.length - this.p;
        return true;
      } catch (error) {
        if (error.name !== "PynodeError") throw error;
        this.skipped.push(this.stage.name);
      }
    }
    this.stage = null;
    return false;
  }

  /** One iteration. -> true: there is more to do. */
  step() {
    if (!this.stage && !this.begin()) return false;
    const more = this.solver.step();
    this.theta = this.solver.theta.slice(0, this.p);
    if (this.stage.whole) {
      this.starts = this.startsIn(this.solver.theta);
      this.finished = true;
    }
    this.losses.push(this.error());
    this.stage.iterations -= 1;
    if (!more || this.stage.iterations <= 0) this.stage = null;
    return this.stage !== null || this.plan.length > 0;
  }

  /** Root of the mean squared residual of the present stage, in spreads of the data. */
  error() {
    const { r } = this.solver.now;
    return Math.sqrt(r.subarray(0, this.observed).reduce((sum, v) => sum + v * v, 0) / this.observed);
  }

  /** Theta of the same network in the units of the data: the scaling is in its weights. */
  thetaInUnits() {
    const { middle, spread, time } = this.scaling;
    const out = Float64Array.from(this.theta);
    const [W0, b0, W1, b1] = this.field.spec;
    for (let i = 0; i < W0.shape[0]; i++)
      for (let j = 0; j < 2; j++) {
        out[W0.offset + 2 * i + j] /= spread[j];
        out[b0.offset + i] -= out[W0.offset + 2 * i + j] * middle[j];
      }
    for (let j = 0; j < 2; j++) {
      for (let i = 0; i < W1.shape[1]; i++) out[W1.offset + W1.shape[1] * j + i] *= spread[j] / time;
      out[b1.offset + j] *= spread[j] / time;
    }
    return out;
  }

  startsInUnits() {
    const { middle, spread } = this.scaling;
    return this.starts.map((y) => y.map((x, j) => middle[j] + spread[j] * x));
  }
}
