// Capstone: a network learns the field behind noisy trajectories, of a sample, of strokes or out of a file.
import { field, normals } from "./field.mjs";
import { Runner, begin, byId, knobs, say } from "./live.mjs";
import { Plot, extent, shown } from "./plot.mjs";
import { solve } from "./solve.mjs";
import { Stages } from "./stages.mjs";
import { parseTrajectories } from "./trajectories.mjs";

const STARTS = [[2.5, 1], [-0.3, 0.2], [-2, -2.5], [0.5, 2.8]];
const TRIES = 4;
const SHORTEST = 10; // points of a stroke
const LONGEST = 80;
const DRAW = { maxSteps: 3000, errors: "ignore" };

function sample(noise) {
  const vanDerPol = field({ state: 2 }, (b, t, y) => {
    const [x, v] = [b.slice(y, 0, 1), b.slice(y, 1, 1)];
    return b.concat(v, b.sub(b.mul(b.sub(b.full(1, 1), b.same("SQUARE", x)), v), x));
  });
  const t = Array.from({ length: 81 }, (_, k) => k * 0.1);
  const { y } = solve(vanDerPol, STARTS, t);
  vanDerPol.free();
  const e = normals(7, y.length);
  return STARTS.map((_, i) => ({ t, y: t.map((_, k) => [0, 1].map((j) => y[(i * 81 + k) * 2 + j] + noise * e[(i * 81 + k) * 2 + j])) }));
}

const columns = (rows) => [0, 1].map((j) => rows.map((row) => row[j]));

class Capstone {
  constructor() {
    this.plots = {
      portrait: new Plot(byId("portrait"), { xLabel: "x", yLabel: "y" }),
      time: new Plot(byId("over-time"), { xLabel: "time" }),
      loss: new Plot(byId("loss"), { xLabel: "iteration", yLabel: "log\u2081\u2080 error" }),
    };
    this.knobs = knobs(["source", "pointer", "noise", "hidden", "x", "y", "shows"], (values, id) => this.changed(values, id));
    this.runner = new Runner("run", { label: "Fit", start: () => this.start(), step: () => this.iterate(), draw: () => this.draw() });
    byId("clear").addEventListener("click", () => this.take([], "drawn"));
    byId("use").addEventListener("click", () => this.read(byId("csv").value));
    byId("file").addEventListener("change", async () => {
      const [file] = byId("file").files;
      if (file) this.read((byId("csv").value = await file.text()));
    });
    this.pointing();
    this.take(sample(this.knobs.read().noise), "sample");
  }

  changed(values, id) {
    if (id === "source" && values.source === "csv" && !byId("csv").value.trim()) {
      say("Put rows into the box below, or choose a file.");
      byId("csv").focus();
    } else if (id === "source" && values.source === "csv") this.read(byId("csv").value);
    else if (id === "noise" || (id === "source" && values.source === "sample")) this.take(sample(values.noise), "sample");
    else if (id === "source" || (id === "pointer" && values.pointer === "draw" && this.source !== "drawn")) this.take([], "drawn");
    else if (id === "hidden") this.take(this.data, this.source, this.names);
    else {
      if (id === "x" || id === "y") this.knobs.set("shows", "start");
      this.draw();
    }
  }

  read(text) {
    try {
      const { trajectories, names } = parseTrajectories(text);
      this.take(trajectories, "csv", names);
    } catch (error) {
      this.runner.stop();
      say(error.message);
    }
  }

  /** New data, nothing fitted. */
  take(data, source, names = ["x", "y"]) {
    this.runner.stop();
    Object.assign(this, { data, source, names, fit: null, best: null, tries: 0 });
    this.knobs.set("source", source);
    this.knobs.set("pointer", source === "drawn" ? "draw" : "drag");
    const all = data.flatMap(({ y }) => y);
    this.ranges = [0, 1].map((j) => (source === "csv" ? extent([all.map((v) => v[j])], 0.15) : [-3.2, 3.2]));
    ["x", "y"].forEach((id, j) => {
      const [low, high] = this.ranges[j];
      Object.assign(byId(id), { min: low, max: high, step: (high - low) / 640 });
      byId(`name-${id}`).textContent = `start ${names[j]}`;
      this.knobs.set(id, this.knobs.read()[id]);
    });
    this.plots.portrait.xLabel = names[0];
    this.plots.portrait.yLabel = names[1];
    this.listed();
    this.told();
    this.draw();
  }

  told() {
    const points = this.data.reduce((sum, { t }) => sum + t.length, 0);
    const seen = `${this.data.length} ${this.data.length === 1 ? "trajectory" : "trajectories"}, ${points} points.`;
    const how = "Draw trajectories in the phase portrait: some strokes, as fast as the state shall move. Without a mouse: paste rows below.";
    if (!this.data.length) say(how);
    else say(`${seen} Not fitted yet: press Fit.`);
  }

  /** What the figure over time can show. */
  listed() {
    const each = [...this.data.keys()].map((i) => new Option(`trajectory ${i + 1}`, i));
    byId("shows").replaceChildren(new Option("the start", "start"), ...each);
    this.knobs.set("shows", this.data.length ? "0" : "start");
  }

  /** Strokes and the start, by mouse or finger. */
  pointing() {
    const canvas = byId("portrait");
    let stroke = null;
    canvas.addEventListener("pointerdown", () => (stroke = this.knobs.read().pointer === "draw" ? { t: [], y: [] } : null));
    this.plots.portrait.onDrag((x, y) => {
      if (!stroke) {
        this.knobs.set("x", x);
        this.knobs.set("y", y);
        this.knobs.set("shows", "start");
        return this.draw();
      }
      const now = performance.now() / 1000;
      stroke.first ??= now;
      if (stroke.t.length && now - stroke.first - stroke.t.at(-1) < 0.015) return;
      stroke.t.push(now - stroke.first);
      stroke.y.push([x, y]);
      this.stroke = stroke;
      this.draw();
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => stroke && this.drawn(stroke));
  }

  drawn({ t, y }) {
    this.stroke = null;
    const every = Math.ceil(t.length / LONGEST);
    const kept = [...t.keys()].filter((i) => i % every === 0);
    if (kept.length >= SHORTEST) this.take([...this.data, { t: kept.map((i) => t[i]), y: kept.map((i) => y[i]) }], "drawn");
    else say(`That stroke has ${kept.length} points: draw a longer one, more slowly (at least ${SHORTEST} points).`);
    this.draw();
  }

  start() {
    Object.assign(this, { best: null, tries: 0 });
    if (this.data.length) this.another();
  }

  another() {
    this.fit?.field.free();
    this.fit = new Stages(this.data, this.knobs.read().hidden, this.tries);
    this.tries += 1;
  }

  // one iteration; where a start ends far above the noise, another one is tried, and the best is kept
  iterate() {
    if (!this.data.length) throw new Error("There are no data to fit: draw a trajectory first, or choose the sample.");
    if (this.fit.step()) return true;
    const { fit } = this;
    const error = fit.finished ? fit.error() : Infinity;
    if (!this.best || error < this.best.error) this.best = { error, fit };
    this.good = error <= Math.max(1.5 * fit.noise, 0.02);
    if (!this.good && this.tries < TRIES) {
      this.fit = null;
      this.another();
      return true;
    }
    this.fit = this.best.fit;
    this.knobs.set("pointer", "drag");
    return false;
  }

  solved(y0, t, theta) {
    const { y } = solve(this.fit.field, y0, t, theta, DRAW);
    const rows = Array.from({ length: t.length }, (_, k) => [y[2 * k], y[2 * k + 1]]);
    return columns(rows);
  }

  /** Paths of the fit, from its own starts and from the one that the reader moves. */
  paths(theta) {
    const fine = (last) => Array.from({ length: 201 }, (_, k) => (last * k) / 200);
    const longest = Math.max(...this.data.map(({ t }) => t.at(-1) - t[0]));
    const starts = this.fit.startsInUnits();
    const fitted = this.data.map(({ t }, i) => {
      const s = fine(t.at(-1) - t[0]);
      return { t: s.map((v) => v + t[0]), rows: this.solved(starts[i], s, theta) };
    });
    const s = fine(2 * longest);
    const { x, y } = this.knobs.read();
    return { fitted, moved: { t: s, rows: this.solved([x, y], s, theta) } };
  }

  arrows(theta) {
    const grid = (range) => Array.from({ length: 15 }, (_, k) => range[0] + ((k + 0.5) / 15) * (range[1] - range[0]));
    const places = grid(this.ranges[0]).flatMap((x) => grid(this.ranges[1]).map((y) => [x, y]));
    const f = this.fit.field.evaluateMany(0, places.flat(), theta);
    return places.map(([x, y], i) => ({ x, y, dx: f[2 * i], dy: f[2 * i + 1] }));
  }

  draw() {
    const { fit, ranges, data } = this;
    const theta = fit?.thetaInUnits();
    const { fitted = [], moved } = fit ? this.paths(theta) : {};
    const points = [...data, ...(this.stroke ? [this.stroke] : [])].map(({ y }) => columns(y));
    const { x, y, shows } = this.knobs.read();
    this.plots.portrait.draw({
      arrows: fit ? this.arrows(theta) : [],
      points: [...points.map(([a, b]) => ({ x: a, y: b, color: 1, size: 2 })), { x: [x], y: [y], color: 0, size: 7 }],
      lines: [
        ...fitted.map(({ rows: [a, b] }) => ({ x: a, y: b, color: 0, width: 1.5 })),
        ...(moved ? [{ x: moved.rows[0], y: moved.rows[1], color: 2, width: 2.5 }] : []),
      ],
      xRange: ranges[0], yRange: ranges[1],
    });
    this.drawTime(shows === "start" ? moved : fitted[Number(shows)], data[Number(shows)]);
    this.drawLoss();
    this.describe(theta, moved);
  }

  drawTime(path, given) {
    const names = this.names;
    byId("key").textContent = `(blue: ${names[0]}, orange: ${names[1]})`;
    const points = given ? columns(given.y).map((v, j) => ({ x: given.t, y: v, color: j, size: 2 })) : [];
    this.plots.time.draw({ lines: path ? path.rows.map((v, j) => ({ x: path.t, y: v, color: j })) : [], points });
    const what = given ? "a measured trajectory and its fit" : "from the start that you move";
    this.plots.time.describe(`${names.join(" and ")} over time: ${what}`);
  }

  drawLoss() {
    const losses = this.fit?.losses ?? [];
    const last = Math.max(losses.length, 20);
    const noise = this.fit ? Math.log10(this.fit.noise) : NaN;
    this.plots.loss.draw({
      lines: [
        { x: [...losses.keys()], y: losses.map(Math.log10), color: 0 },
        { x: [0, last], y: [noise, noise], color: "soft", dash: [2, 3] },
      ],
      xRange: [0, last],
    });
    this.plots.loss.describe(`Error over ${losses.length} iterations, now ${shown(losses.at(-1) ?? NaN)} of the spread of the data`);
  }

  /** The state of things in words. */
  describe(theta, moved) {
    const { fit } = this;
    const learned = fit ? ", arrows of the learned field, its paths" : "";
    this.plots.portrait.describe(`Phase portrait: ${this.data.length} measured trajectories${learned}`);
    byId("download").hidden = !fit || this.runner.running;
    if (!fit) return;
    const now = `error ${shown(fit.losses.at(-1) ?? NaN, 2)}, noise about ${shown(fit.noise, 2)} of the data's spread`;
    const stage = `${fit.stage?.name ?? "next stage"}, iteration ${fit.losses.length}`;
    if (this.runner.running) say(`Start ${this.tries} of at most ${TRIES}, ${stage}: ${now}.`);
    else if (this.best) say(this.verdict(now));
    else say(`Stopped in start ${this.tries}: ${now}.`);
    const { x, y, hidden } = this.knobs.read();
    const model = { model: `pn.mlp(2, (${hidden},))`, states: this.names, theta: Array.from(theta), starts: fit.startsInUnits() };
    byId("download").href = `data:application/json,${encodeURIComponent(JSON.stringify(model))}`;
    const end = { t: moved.t.at(-1), from: [x, y], y: moved.rows.map((row) => row.at(-1)) };
    Object.assign(document.documentElement.dataset, { error: fit.losses.at(-1), noise: fit.noise, end: JSON.stringify(end) });
  }

  verdict(now) {
    const left = this.fit.skipped.length ? ` Left out, as paths ran away: ${this.fit.skipped.join(", ")}.` : "";
    if (!this.best.fit.finished) return `No start could follow whole trajectories; the best one is shown: ${now}.${left}`;
    const starts = this.tries === 1 ? "" : ` after ${this.tries} random starts`;
    if (this.good) return `Fitted to the noise${starts}: ${now}. Drag the large dot.${left}`;
    return `Not fitted to the noise${starts}, the best is shown: ${now}. More hidden units? Or do paths cross?${left}`;
  }
}

await begin(() => new Capstone());
