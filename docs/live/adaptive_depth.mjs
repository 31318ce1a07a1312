// Adaptive depth: where a solver puts its steps, and what accuracy costs.
import { hardPlaces } from "./hard_places.mjs";
import { begin, byId, knobs, say } from "./live.mjs";
import { Plot, shown } from "./plot.mjs";
import { solve } from "./solve.mjs";
import { findSteps } from "./steps.mjs";

const POWERS = [-2, -3, -4, -5, -6, -7, -8, -9, -10];
const BUDGET_MS = 8; // of work a frame
const LIMITED = { errors: "ignore", maxSteps: 5000 };

class Depth {
  constructor() {
    this.places = hardPlaces();
    this.plots = {
      path: new Plot(byId("path")),
      lengths: new Plot(byId("lengths"), { xLabel: "time", yLabel: "log\u2081\u2080 step" }),
      price: new Plot(byId("price"), { xLabel: "log\u2081\u2080 tolerance", yLabel: "log\u2081\u2080" }),
    };
    const ids = ["tolerance", "method", "problem", "place", "width", "eccentricity"];
    this.knobs = knobs(ids, (_, id) => this.begin(id !== "tolerance"), { tolerance: (power) => shown(10 ** power, 2) });
    this.plots.path.onDrag((x) => {
      if (this.problem === this.places.front) this.knobs.set("place", Math.min(9, Math.max(1, x)));
      else this.knobs.set("eccentricity", Math.min(0.97, Math.max(0, -x - 1)));
      this.begin(true);
    });
    this.begin(true);
  }

  /** New knobs; `all`: the sweep over tolerances, too. */
  begin(all) {
    const s = (this.settings = this.knobs.read());
    this.problem = this.places[s.problem];
    for (const id of ["place", "width", "eccentricity"]) byId(id).closest("label").hidden = (id === "eccentricity") !== (s.problem === "comet");
    if (all) this.sweep = [];
    this.found = { times: [0], rejected: [] };
    this.now = this.solved(10 ** s.tolerance);
    this.equal = this.fixed();
    this.work = this.pieces();
    this.finished = false;
    if (!this.running) this.frame();
  }

  // work in pieces, so that knobs move while it goes on
  *pieces() {
    const { field, theta, start, end } = this.problem;
    const s = this.settings;
    const options = { method: s.method, rtol: 10 ** s.tolerance, atol: 10 ** s.tolerance };
    yield* findSteps(this.found, field, start(s), [0, end], theta(s), options);
    for (const power of POWERS.slice(this.sweep.length)) {
      this.sweep.push({ power, ...this.solved(10 ** power) });
      yield power;
    }
  }

  frame() {
    const began = performance.now();
    do this.finished = this.work.next().done;
    while (!this.finished && performance.now() - began < BUDGET_MS);
    this.draw();
    this.running = !this.finished;
    if (this.running) requestAnimationFrame(() => this.frame());
  }

  /** Rows at 401 times, their largest distance from the exact solution, and the evaluations. */
  solved(tolerance) {
    return this.compared({ rtol: tolerance, atol: tolerance });
  }

  compared(options) {
    const { field, theta, start, end, exact } = this.problem;
    const s = this.settings;
    const t = Array.from({ length: 401 }, (_, k) => (end * k) / 400);
    const { y, nfe } = solve(field, start(s), t, theta(s), { method: s.method, ...options, ...LIMITED });
    const truth = exact(s);
    const rows = t.map((_, k) => Array.from(y.slice(k * field.d, (k + 1) * field.d)));
    const error = Math.max(...rows.map((row, k) => Math.hypot(...truth(t[k]).map((v, j) => row[j] - v))));
    return { t, rows, error, nfe: nfe[0] };
  }

  /** A fixed step with about as many evaluations. */
  fixed() {
    const trial = this.compared({ step: this.problem.end / 10 });
    const perStep = trial.nfe / 10;
    return this.compared({ step: this.problem.end / Math.max(1, Math.round(this.now.nfe / perStep)) });
  }

  draw() {
    this.drawPath();
    this.drawLengths();
    this.drawPrice();
    this.describe();
  }

  drawPath() {
    const { now, found, problem, settings } = this;
    const truth = problem.exact(settings);
    const ends = found.times.map((t) => truth(t));
    const orbit = problem === this.places.comet;
    Object.assign(this.plots.path, { xLabel: orbit ? "x" : "time", yLabel: "y", equal: orbit });
    const line = { x: orbit ? now.rows.map((r) => r[0]) : now.t, y: now.rows.map((r) => r[orbit ? 1 : 0]), color: 0 };
    const points = { x: orbit ? ends.map((r) => r[0]) : found.times, y: ends.map((r) => r[orbit ? 1 : 0]), color: 1, size: 3 };
    const sun = { x: [0], y: [0], color: 4, size: 6 };
    this.plots.path.draw({
      lines: [line], points: orbit ? [points, sun] : [points],
      xRange: orbit ? [-2.1, 1.1] : [-0.1, 10.1], yRange: orbit ? [-1.2, 1.2] : [-1.3, 1.3],
    });
    byId("path-title").firstChild.data = orbit ? "Orbit " : "Path ";
    this.plots.path.describe(`${orbit ? "Orbit of the comet" : "Path through a front"} with ${found.times.length - 1} ends of steps`);
  }

  drawLengths() {
    const { times, rejected } = this.found;
    const middle = times.slice(1).map((t, i) => (t + times[i]) / 2);
    const size = times.slice(1).map((t, i) => Math.log10(t - times[i]));
    const low = Math.min(...size, -2);
    this.plots.lengths.draw({
      lines: [{ x: middle, y: size, color: 0, width: 1 }],
      points: [{ x: middle, y: size, color: 0, size: 2.5 }, { x: rejected, y: rejected.map(() => low), color: 1, size: 4, open: true }],
      xRange: [0, this.problem.end],
      yRange: [low - 0.3, 0.7],
    });
    const extremes = times.length > 1 ? `from ${shown(10 ** Math.min(...size), 2)} to ${shown(10 ** Math.max(...size), 2)}` : "";
    this.plots.lengths.describe(`Lengths of ${times.length - 1} steps over time, ${extremes}; ${rejected.length} were rejected`);
  }

  drawPrice() {
    const x = this.sweep.map(({ power }) => power);
    const [nfe, error] = ["nfe", "error"].map((key) => this.sweep.map((one) => Math.log10(one[key])));
    const { tolerance } = this.settings;
    this.plots.price.draw({
      lines: [
        { x: POWERS, y: POWERS, color: "soft", dash: [6, 4] },
        { x, y: nfe, color: 0 },
        { x, y: error, color: 1 },
      ],
      points: [
        { x, y: nfe, color: 0, size: 2.5 },
        { x, y: error, color: 1, size: 2.5 },
        { x: [tolerance, tolerance], y: [Math.log10(this.now.nfe), Math.log10(this.now.error)], color: "ink", size: 5, open: true },
      ],
      marks: [{ x: tolerance }],
      xRange: [-10.2, -1.8],
    });
    this.plots.price.describe(
      `Evaluations and largest error against the tolerance; at ${shown(10 ** tolerance, 2)} they are ${this.now.nfe} and ${shown(this.now.error, 2)}`,
    );
  }

  describe() {
    const { now, found, equal, settings, finished, sweep } = this;
    const steps = `${found.times.length - 1} steps, ${found.rejected.length} rejected`;
    const fixed = `A fixed step with ${equal.nfe} evaluations: error ${shown(equal.error, 2)}`;
    say(`Tolerance ${shown(10 ** settings.tolerance, 2)}: ${steps}, ${now.nfe} evaluations, largest error ${shown(now.error, 2)}. ${fixed}.`);
    const facts = ({ power, nfe, error }) => ({ power, nfe, error });
    const state = { ...found, ...facts(now), fixed: equal.error, end: now.rows.at(-1), sweep: sweep.map(facts), settings };
    if (finished) document.documentElement.dataset.state = JSON.stringify(state);
    document.documentElement.dataset.finished = finished;
  }
}

await begin(() => new Depth());
