// Topology: two flows learn to separate two colours of points, in the plane and with a third dimension.
import { FlowClassifier } from "./classifier.mjs";
import { normals } from "./field.mjs";
import { Runner, begin, byId, knobs, say, still } from "./live.mjs";
import { Plot, shown } from "./plot.mjs";

const EPOCHS = 500;
const GAP = 0.15; // between painted points
const ENOUGH = 0.02; // a loss below it ends the training: what follows only stretches the flow
const SIDE = Array.from({ length: 7 }, (_, i) => -1.8 + 0.6 * i);

/** Lines of a square grid, each of n points; fewer while there is motion. */
function gridOf(n) {
  const fine = Array.from({ length: n }, (_, i) => -1.8 + (3.6 * i) / (n - 1));
  return [...SIDE.flatMap((a) => fine.map((s) => [a, s])), ...SIDE.flatMap((a) => fine.map((s) => [s, a]))];
}
const GRIDS = { moving: gridOf(31), resting: gridOf(91) };

// numbers between 0 and 1 that are the same everywhere: the fractions of multiples of irrational numbers
const spread = (n, step, first) => Array.from({ length: n }, (_, i) => (first + i * step) % 1);

function ring(n, inner, outer, first) {
  const angle = spread(n, 0.6180339887, first);
  const part = spread(n, 0.7548776662, first + 0.3);
  return angle.map((a, i) => {
    const r = Math.sqrt(inner ** 2 + part[i] * (outer ** 2 - inner ** 2));
    return [r * Math.cos(2 * Math.PI * a), r * Math.sin(2 * Math.PI * a)];
  });
}

function interval(n, from, to, first) {
  const e = normals(5 + 1000 * first, n);
  return spread(n, 0.6180339887, first).map((s, i) => [from + (to - from) * s, 0.04 * e[i]]);
}

function moon(n, sign, first) {
  const e = normals(9 + sign + 1000 * first, 2 * n);
  return spread(n, 0.6180339887, first).map((s, i) => [
    sign * (Math.cos(Math.PI * s) - 0.5) + 0.08 * e[i], sign * (Math.sin(Math.PI * s) - 0.25) + 0.08 * e[n + i],
  ]);
}

/** Points of two classes; `first`: where their sequences begin, another one gives fresh points. */
const PRESETS = {
  rings: (n, first) => [ring(n, 0, 0.5, first), ring(2 * n, 1, 1.5, first)],
  line: (n, first) => [interval(n, -0.5, 0.5, first), [...interval(n, -1.8, -0.8, first), ...interval(n, 0.8, 1.8, first)]],
  moons: (n, first) => [moon(n, 1, first), moon(n, -1, first)],
};

function labelled([blue, orange]) {
  return { points: [...blue, ...orange], labels: [...blue.map(() => 1), ...orange.map(() => -1)] };
}

class Topology {
  constructor() {
    this.plots = { plain: new Plot(byId("plain"), { equal: true }), lifted: new Plot(byId("lifted"), { equal: true }) };
    const ids = ["time", "turn", "preset", "brush", "x", "y", "hidden", "rate", "seed"];
    this.knobs = knobs(ids, (values, id) => this.changed(values, id), { rate: (power) => shown(10 ** power, 2) });
    const work = { start: () => this.start(), step: () => this.epoch(), draw: () => this.draw() };
    this.runner = new Runner("run", { label: "Train", ...work });
    byId("clear").addEventListener("click", () => this.take({ points: [], labels: [] }, "own"));
    byId("play").addEventListener("click", () => this.play());
    byId("edge").addEventListener("click", () => this.edgeOn());
    byId("add").addEventListener("click", () => this.paint(this.knobs.read().x, this.knobs.read().y));
    this.plots.plain.onDrag((x, y) => this.paint(x, y));
    this.plots.lifted.onDrag((x) => {
      this.knobs.set("turn", Math.min(180, Math.max(0, 90 + 40 * x)));
      this.draw();
    });
    this.preset("rings");
  }

  changed(values, id) {
    this.playing = false;
    if (id === "preset" && values.preset === "own") this.take({ points: [], labels: [] }, "own");
    else if (id === "preset") this.preset(values.preset);
    else if (["hidden", "rate", "seed"].includes(id)) this.take(this, values.preset);
    else this.draw();
  }

  preset(name) {
    this.take(labelled(PRESETS[name](50, 0.1)), name);
  }

  /** New points, new flows. */
  take({ points, labels }, preset) {
    this.runner.stop();
    this.playing = false;
    Object.assign(this, { points, labels, epochs: 0, now: {}, ended: false });
    this.knobs.set("preset", preset);
    const { hidden, rate, seed } = this.knobs.read();
    for (const flow of Object.values(this.flows ?? {})) flow.field.free();
    const flow = (extra) => new FlowClassifier(extra, hidden, seed, 10 ** rate);
    this.flows = { plain: flow(0), lifted: flow(1) };
    this.knobs.set("time", 0);
    this.draw();
  }

  /** A point of the brush's colour, or the eraser; painting is at time 0. */
  paint(x, y) {
    if (Math.max(Math.abs(x), Math.abs(y)) > 2.2) return;
    const brush = Number(this.knobs.read().brush);
    const reach = brush ? GAP : 0.25;
    const near = (point) => Math.hypot(point[0] - x, point[1] - y) < reach;
    const kept = [...this.points.keys()].filter((i) => brush || !near(this.points[i]));
    if (brush && this.points.some(near)) return this.knobs.read().time && this.take(this, "own");
    const points = [...kept.map((i) => this.points[i]), ...(brush ? [[x, y]] : [])];
    this.take({ points, labels: [...kept.map((i) => this.labels[i]), ...(brush ? [brush] : [])] }, "own");
  }

  start() {
    this.playing = false;
    if (this.ended) this.take(this, this.knobs.read().preset);
    this.knobs.set("time", 1);
  }

  epoch() {
    const { points, labels } = this;
    if (!labels.includes(1) || !labels.includes(-1))
      throw new Error("Paint points of both colours first: choose a brush, drag in the first figure.");
    try {
      for (const [name, flow] of Object.entries(this.flows))
        if (!(this.now[name]?.loss < ENOUGH)) this.now[name] = flow.train(points, labels, ENOUGH);
    } catch (error) {
      throw new Error(`The flow has become too wild to solve (${error.message}). Take a smaller learning rate.`);
    }
    this.epochs += 1;
    this.ended = this.epochs >= EPOCHS || Object.values(this.now).every(({ loss }) => loss < ENOUGH);
    return !this.ended;
  }

  /** The time from 0 to 1 in three seconds. */
  play() {
    this.runner.stop();
    if (still()) {
      this.knobs.set("time", 1);
      return this.draw();
    }
    this.playing = true;
    const began = performance.now();
    const frame = () => {
      if (!this.playing) return;
      const t = Math.min(1, (performance.now() - began) / 3000);
      this.knobs.set("time", t);
      this.playing = t < 1;
      this.draw();
      if (this.playing) requestAnimationFrame(frame);
    };
    frame();
  }

  // the direction in which the border of the lifted flow is a line
  edge() {
    const [, b, c] = this.flows.lifted.border;
    return ((Math.atan2(c, b) * 180) / Math.PI + 180) % 180;
  }

  edgeOn() {
    this.knobs.set("turn", Math.round(this.edge()));
    this.knobs.set("time", 1);
    this.draw();
  }

  draw() {
    for (const name of ["plain", "lifted"]) this.picture(name);
    this.describe();
  }

  /** Points, the grid, and the border at time 1, seen from the side where there is a third dimension. */
  picture(name) {
    const { time, turn } = this.knobs.read();
    const flow = this.flows[name];
    const angle = name === "plain" ? 0 : (turn * Math.PI) / 180;
    const seen = (row) => [row[0], Math.cos(angle) * row[1] + Math.sin(angle) * (row[2] ?? 0)];
    const grid = flow.at(GRIDS[this.runner.running || this.playing ? "moving" : "resting"], time).rows.map(seen);
    const n = grid.length / (2 * SIDE.length);
    const lines = SIDE.concat(SIDE).map((_, k) => {
      const part = grid.slice(k * n, (k + 1) * n);
      return { x: part.map((p) => p[0]), y: part.map((p) => p[1]), color: "soft", width: 0.8 };
    });
    const rows = this.points.length ? flow.at(this.points, time).rows.map(seen) : [];
    const colour = (label, color) => {
      const own = rows.filter((_, i) => this.labels[i] === label);
      return { x: own.map((p) => p[0]), y: own.map((p) => p[1]), color, size: 3 };
    };
    const points = [colour(1, 0), colour(-1, 1)];
    const border = time === 1 && this.epochs ? this.borderLine(flow, angle) : [];
    const reach = (j) => Math.max(2.1, ...rows.map((p) => 1.15 * Math.abs(p[j])));
    const [x, y] = [reach(0), reach(1)];
    this.plots[name].draw({ lines: [...lines, ...border], points, xRange: [-x, x], yRange: [-y, y] });
  }

  borderLine(flow, angle) {
    const [a, b, ...rest] = flow.border;
    const [c, offset] = flow.extra ? rest : [0, rest[0]];
    const along = b * Math.cos(angle) + c * Math.sin(angle);
    const across = -b * Math.sin(angle) + c * Math.cos(angle); // 0 where the border is seen edge-on
    if (Math.abs(across) > 0.06 * Math.hypot(a, b, c)) return [];
    const far = 20;
    const steep = Math.abs(along) < Math.abs(a);
    const ends = [-far, far].map((s) => (steep ? [-(along * s + offset) / a, s] : [s, -(a * s + offset) / along]));
    return [{ x: ends.map((p) => p[0]), y: ends.map((p) => p[1]), color: "ink", dash: [6, 4] }];
  }

  describe() {
    const { now, epochs, runner } = this;
    const { preset, time } = this.knobs.read();
    const names = { plain: "plane", lifted: "third dimension" };
    for (const name of ["plain", "lifted"]) {
      const note = now[name] ? `${shown(100 * now[name].right)} % right, loss ${shown(now[name].loss, 2)}` : "";
      byId(`${name}-note`).textContent = note && `(${note})`;
      this.plots[name].describe(`Points and a grid at time ${shown(time)} in the ${names[name]}. ${note}`);
    }
    if (!this.epochs) return say(`${this.points.length} points, not trained yet. Press Train, or paint others.`);
    const cost = `Evaluations a point: ${shown(now.plain.nfe)} in the plane, ${shown(now.lifted.nfe)} lifted.`;
    const end = this.ended ? " (finished)" : runner.running ? "" : " (stopped)";
    say(`Epoch ${epochs}${end}. ${cost}${runner.running ? "" : ` ${this.fresh(preset)}`}`);
    if (!runner.running) this.report();
  }

  /** Points that no training has seen, where it is known whence they come. */
  fresh(preset) {
    if (!PRESETS[preset]) return "Move the time, turn the second figure.";
    if (this.judged?.epochs !== this.epochs) {
      const { points, labels } = labelled(PRESETS[preset](400, 0.37));
      const { plain, lifted } = this.flows;
      this.judged = { plain: plain.right(points, labels), lifted: lifted.right(points, labels), epochs: this.epochs };
    }
    const { plain, lifted } = this.judged;
    return `Fresh points right: ${shown(100 * plain, 4)} % in the plane, ${shown(100 * lifted, 4)} % lifted.`;
  }

  report() {
    const one = ({ theta, border, extra }) => ({ theta: Array.from(theta), border, extra });
    const all = Object.entries(this.flows).map(([name, flow]) => [name, { ...one(flow), ...flow.loss(this.points, this.labels) }]);
    const flows = Object.fromEntries(all);
    document.documentElement.dataset.state = JSON.stringify({ flows, points: this.points, labels: this.labels });
    document.documentElement.dataset.epochs = this.epochs;
  }
}

await begin(() => new Topology());
