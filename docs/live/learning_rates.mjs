// Learning rates: three optimisers race down the same loss.
import { Runner, begin, byId, knobs, say, still } from "./live.mjs";
import { Plot, shown } from "./plot.mjs";
import { Racer, codeLab, parabola } from "./races.mjs";

const NAMES = ["Blue", "Orange", "Green"];
const POWERS = Array.from({ length: 211 }, (_, i) => -3 + 0.02 * i); // of the rates that the sliders have
const STATES = Array.from({ length: 61 }, (_, i) => -1.5 + 0.05 * i);
const log = (x) => Math.log10(Math.max(x, 1e-16));

// curves of equal loss
function contours(steep) {
  const angle = Array.from({ length: 81 }, (_, i) => (2 * Math.PI * i) / 80);
  return [0.05, 0.3, 1, 2.5, 6, 12].map((level) => ({
    x: angle.map((a) => Math.sqrt(2 * level) * Math.cos(a)),
    y: angle.map((a) => Math.sqrt((2 * level) / steep) * Math.sin(a)),
    color: "soft", width: 0.7,
  }));
}

class Race {
  constructor() {
    this.lab = codeLab();
    this.plots = {
      loss: new Plot(byId("loss"), { xLabel: "epoch", yLabel: "log\u2081\u2080 loss" }),
      where: new Plot(byId("where"), {}),
      rates: new Plot(byId("rates"), { xLabel: "log\u2081\u2080 rate", yLabel: "log\u2081\u2080 loss" }),
    };
    const rate = (power) => shown(10 ** power);
    const ids = ["problem", "steep", "epochs", "x", "y", ...[0, 1, 2].flatMap((i) => [`rate${i}`, `optimiser${i}`])];
    this.knobs = knobs(ids, (_, id) => this.changed(id), { rate0: rate, rate1: rate, rate2: rate });
    const work = { start: () => this.reset(), step: () => this.epoch(), draw: () => this.draw() };
    this.runner = new Runner("run", { ...work, frameMs: still() ? 200 : 0 });
    this.plots.where.onDrag((x, y) => {
      if (this.knobs.read().problem !== "parabola") return;
      this.knobs.set("x", x);
      this.knobs.set("y", y);
      this.changed("x");
    });
    this.changed("problem");
  }

  changed(id) {
    if (["problem", "steep", "epochs", "x", "y"].includes(id)) this.finals = [];
    this.reset();
    this.draw();
  }

  /** Three racers at the start. */
  reset() {
    this.runner.stop();
    const s = this.knobs.read();
    this.problem = s.problem === "network" ? this.lab : parabola(s.steep, [s.x, s.y]);
    this.limit = 2 / this.problem.curvature(this.problem.start);
    this.racers = [0, 1, 2].map((i) => new Racer(this.problem, s[`optimiser${i}`], 10 ** s[`rate${i}`]));
    this.epochs = s.epochs;
    this.done = 0;
  }

  epoch() {
    this.racers.forEach((racer) => racer.run());
    this.done += 1;
    if (this.done < this.epochs) return true;
    for (const [i, { rate, loss }] of this.racers.entries()) this.finals.push({ rate, loss, i });
    return false;
  }

  draw() {
    this.plots.loss.draw({
      lines: this.racers.map(({ losses }, color) => ({ x: [...losses.keys()], y: losses.map(log), color })),
      xRange: [0, this.epochs],
    });
    if (this.knobs.read().problem === "parabola") this.drawLandscape();
    else this.drawNetwork();
    this.drawRates();
    this.describe();
  }

  drawLandscape() {
    const { steep, x, y } = this.knobs.read();
    Object.assign(this.plots.where, { xLabel: "x", yLabel: "y" });
    byId("where-title").firstChild.data = "Landscape ";
    byId("where-title").lastChild.textContent = "(drag the start)";
    const paths = this.racers.map(({ path }, color) => ({ x: path.map((p) => p[0]), y: path.map((p) => p[1]), color, size: 2.5, width: 1.2 }));
    const start = { x: [x], y: [y], color: "ink", size: 6, open: true };
    this.plots.where.draw({ lines: [...contours(steep), ...paths], points: [...paths, start], xRange: [-2.5, 2.5], yRange: [-1.5, 1.5] });
    this.plots.where.describe(`Curves of equal loss and the ways of three optimisers from (${shown(x)}, ${shown(y)})`);
  }

  drawNetwork() {
    Object.assign(this.plots.where, { xLabel: "y", yLabel: "dy/dt" });
    byId("where-title").firstChild.data = "What they learned ";
    byId("where-title").lastChild.textContent = "(dashed: \u22122y)";
    const lines = this.racers.map(({ theta, gone }, color) => ({
      x: STATES, y: gone ? STATES.map(() => NaN) : Array.from(this.lab.model.evaluateMany(0, STATES, theta)), color,
    }));
    const law = { x: STATES, y: STATES.map((v) => -2 * v), color: "soft", dash: [6, 4] };
    this.plots.where.draw({ lines: [law, ...lines], xRange: [-1.5, 1.5], yRange: [-4, 4] });
    this.plots.where.describe("The learned dy/dt of the three networks beside -2 y");
  }

  /** Loss at the end against the rate: what was raced, and, of gradient descent on a parabola, what must come. */
  drawRates() {
    const { problem, steep, x, y } = this.knobs.read();
    const edge = Math.log10(this.limit);
    const after = (rate) => 0.5 * ((1 - rate) ** (2 * this.epochs) * x * x + steep * (1 - rate * steep) ** (2 * this.epochs) * y * y);
    const curve = { x: POWERS, y: POWERS.map((power) => log(after(10 ** power))), color: "soft" };
    const mark = ({ rate, loss, i }) => ({ x: [Math.log10(rate)], y: [Math.min(log(loss), 1.9)], color: i, size: 4 });
    this.plots.rates.draw({
      lines: problem === "parabola" ? [curve] : [],
      points: this.finals.map(mark),
      marks: [{ x: edge }],
      xRange: [-3, 1.2],
      yRange: problem === "parabola" ? [-10, 2] : [-4, 2],
    });
    this.plots.rates.describe(`Loss after ${this.epochs} epochs against the rate; gradient descent is stable below ${shown(this.limit)}`);
  }

  describe() {
    const { racers, done, epochs, limit, runner } = this;
    const each = racers.map(({ losses, gone }, i) => `${NAMES[i]} ${gone ? `ran away in epoch ${losses.length - 1}` : shown(losses.at(-1), 2)}`);
    const edge = `2/\u03bb = ${shown(limit)}${this.problem === this.lab ? " at the start" : ""}.`;
    const how = done === 0 ? "At the start" : done >= epochs ? `After ${epochs} epochs` : `Epoch ${done}${runner.running ? "" : " (stopped)"}`;
    say(`${how}: ${each.join(", ")}. ${edge}`);
    this.plots.loss.describe(`Losses, ${how}: ${each.join(", ")}`);
    const state = racers.map(({ rate, optimiser, theta, losses }) => ({ rate, optimiser, theta: Array.from(theta), losses }));
    const lab = runner.running ? null : { target: this.lab.target, start: Array.from(this.lab.start) };
    Object.assign(document.documentElement.dataset, { done, limit, state: JSON.stringify({ racers: state, lab }) });
  }
}

await begin(() => new Race());
