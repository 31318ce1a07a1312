// The page that pynode.export.html writes: sliders, trajectories over time, a phase portrait, bands of posterior draws.
import { init, unpacked } from "./core.mjs";
import { Field } from "./field.mjs";
import { extent, oncePerFrame, Plot, shown } from "./plot.mjs";
import { addSlider } from "./slider.mjs";
import { solve } from "./solve.mjs";

const TIMES = 300;
const ARROWS = 17;
const LOW = 0.05; // the band holds the middle 90 % of the draws
const byId = (id) => document.getElementById(id);

/** The units of the model: z = (g(y) - shift) / scale, g the identity or the logarithm. */
function unitsOf({ shift, scale, log, extra }) {
  const isLog = (i) => log && i < shift.length - extra;
  return {
    inwards: (y) => y.map((v, i) => ((isLog(i) ? Math.log(v) : v) - shift[i]) / scale[i]),
    outwards: (v, i) => (isLog(i) ? Math.exp(v * scale[i] + shift[i]) : v * scale[i] + shift[i]),
    // dz/dt -> dy/dt at y, but for the factor of time
    slope: (dz, y, i) => dz * scale[i] * (isLog(i) ? y : 1),
  };
}

function group(id, rows, changed) {
  byId(id).hidden = rows.length === 0;
  return rows.map((row) => ({ ...addSlider(byId(id), row, changed), low: row.low, high: row.high, initial: row.value }));
}

function quantile(sorted, part) {
  const at = part * (sorted.length - 1);
  const below = Math.floor(at);
  return sorted[below] + (at - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

class Page {
  constructor(model) {
    this.model = model;
    this.field = Field.fromJSON(model.field, { breaks: model.breaks });
    this.units = unitsOf(model.scaling);
    this.d = model.states.length;
    const changed = oncePerFrame(() => this.update());
    this.start = group("states", model.states, changed);
    this.parameters = group("parameters", model.parameters, changed);
    this.inputs = group("inputs", model.inputs, changed);
    [this.end] = group("time", [{ name: model.time.name, value: model.time.end, low: model.time.low, high: model.time.high }], changed);
    this.time = new Plot(byId("over-time"), { xLabel: model.time.name });
    if (this.d > 1) this.preparePhase(changed);
    else byId("phase-figure").hidden = true;
    byId("legend").replaceChildren(...model.states.map(({ name }, i) => legendOf(name, i)));
    byId("reset").addEventListener("click", () => {
      for (const one of [...this.start, ...this.parameters, ...this.inputs, this.end]) one.set(one.initial);
      changed();
    });
    this.update();
  }

  preparePhase(changed) {
    const selects = [byId("phase-x"), byId("phase-y")];
    selects.forEach((select, k) => {
      select.append(...this.model.states.map(({ name }, i) => new Option(name, i, i === k, i === k)));
      select.addEventListener("change", changed);
    });
    byId("phase-choice").hidden = this.d === 2;
    this.axes = () => selects.map((select) => Number(select.value));
    this.phase = new Plot(byId("phase"));
    this.phase.onDrag((x, y) => {
      const [i, j] = this.axes();
      this.start[i].set(Math.min(Math.max(x, this.start[i].low), this.start[i].high));
      this.start[j].set(Math.min(Math.max(y, this.start[j].low), this.start[j].high));
      changed();
    });
  }

  /** theta with the sliders' values; the same change for each posterior draw. */
  thetas() {
    const change = new Float64Array(this.model.theta.length);
    this.parameters.forEach(({ state, initial }, k) => {
      change[this.model.parameters[k].place] = state.value - initial;
    });
    const moved = (theta) => theta.map((v, i) => v + change[i]);
    return { theta: moved(this.model.theta), draws: this.model.draws.map(moved) };
  }

  solved(theta, many) {
    const { time, options, scaling } = this.model;
    const t = Array.from({ length: TIMES }, (_, k) => time.start + ((this.end.state.value - time.start) * k) / (TIMES - 1));
    const tau = t.map((v) => (v - scaling.t_shift) / scaling.t_scale);
    const z0 = this.units.inwards(this.start.map(({ state }) => state.value));
    const u = this.inputs.map(({ state }, k) => (state.value - scaling.u_shift[k]) / scaling.u_scale[k]);
    const inputs = u.length ? { inputs: { kind: "constant", u } } : {};
    const start = many ? Array.from({ length: many }, () => z0) : z0;
    const { y, status, stopT } = solve(this.field, start, tau, theta, { ...options, ...inputs, errors: "ignore" });
    const n = many || 1;
    // states[sample][component]: a curve in the units of the data
    const states = Array.from({ length: n }, (_, s) =>
      Array.from({ length: this.d }, (_, i) => t.map((_, k) => this.units.outwards(y[(s * TIMES + k) * this.d + i], i))),
    );
    return { t, states, status: status[0], stopT: stopT[0] * scaling.t_scale + scaling.t_shift };
  }

  bandsOf(draws, t) {
    if (!draws.length) return [];
    const { states } = this.solved(draws.flat(), draws.length);
    return Array.from({ length: this.d }, (_, i) => {
      const columns = t.map((_, k) => states.map((s) => s[i][k]).filter(Number.isFinite).sort((a, b) => a - b));
      return {
        x: t, color: i,
        low: columns.map((c) => (c.length > 1 ? quantile(c, LOW) : NaN)),
        high: columns.map((c) => (c.length > 1 ? quantile(c, 1 - LOW) : NaN)),
      };
    });
  }

  update() {
    const { theta, draws } = this.thetas();
    try {
      const { t, states: [curves], status, stopT } = this.solved(theta, 0);
      const bands = this.bandsOf(draws, t);
      byId("message").textContent = status === "ok" || status === "OK" ? "" : `Stopped at ${shown(stopT)}: ${status}.`;
      const points = this.model.data.map(({ x, y, state }) => ({ x, y, color: state, size: 3, open: true }));
      this.time.draw({ lines: curves.map((y, i) => ({ x: t, y, color: i })), bands, points, xRange: [t[0], t[TIMES - 1]] });
      this.time.describe(this.inWords(t, curves, bands));
      if (this.phase) this.drawPhase(curves, theta);
      this.table(t, curves, bands);
    } catch (error) {
      byId("message").textContent = error.message;
    }
    document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn ?? 0) + 1);
  }

  drawPhase(curves, theta) {
    const [i, j] = this.axes();
    const { states } = this.model;
    const [xs, ys] = [curves[i], curves[j]];
    const ranges = { xRange: extent([xs, states[i].seen ?? []]), yRange: extent([ys, states[j].seen ?? []]) };
    Object.assign(this.phase, { xLabel: states[i].name, yLabel: states[j].name });
    this.phase.draw({
      ...ranges,
      arrows: this.arrows(ranges, theta),
      lines: [{ x: xs, y: ys, color: 0, width: 2.2 }],
      points: [{ x: [xs[0]], y: [ys[0]], color: 1, size: 6 }],
    });
    const from = `${states[i].name} ${shown(xs[0])}, ${states[j].name} ${shown(ys[0])}`;
    const to = `${shown(xs[TIMES - 1])} and ${shown(ys[TIMES - 1])}`;
    this.phase.describe(`Phase portrait: from ${from} the path ends at ${to}.`);
  }

  // directions in the plane of two states; of other states nothing could be said
  arrows({ xRange, yRange }, theta) {
    if (this.d !== 2 || this.inputs.length) return [];
    const [i, j] = this.axes();
    const at = [];
    for (let a = 0; a < ARROWS; a++)
      for (let b = 0; b < ARROWS; b++) {
        const y = [0, 0];
        y[i] = xRange[0] + ((a + 0.5) / ARROWS) * (xRange[1] - xRange[0]);
        y[j] = yRange[0] + ((b + 0.5) / ARROWS) * (yRange[1] - yRange[0]);
        at.push(y);
      }
    const z = at.flatMap((y) => this.units.inwards(y));
    const slopes = this.field.evaluateMany(this.model.time.start, z, theta);
    return at.map((y, k) => ({
      x: y[i], y: y[j],
      dx: this.units.slope(slopes[2 * k + i], y[i], i), dy: this.units.slope(slopes[2 * k + j], y[j], j),
    }));
  }

  inWords(t, curves, bands) {
    const parts = curves.map((y, i) => {
      const band = bands[i] ? ` (90 % band ${shown(bands[i].low[TIMES - 1])} to ${shown(bands[i].high[TIMES - 1])})` : "";
      return `${this.model.states[i].name} goes from ${shown(y[0])} to ${shown(y[TIMES - 1])}${band}`;
    });
    return `Over ${this.model.time.name} ${shown(t[0])} to ${shown(t[TIMES - 1])}: ${parts.join("; ")}.`;
  }

  table(t, curves, bands) {
    const rows = Array.from({ length: 11 }, (_, k) => Math.round((k * (TIMES - 1)) / 10));
    const cell = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
    const head = document.createElement("tr");
    head.append(cell("th", this.model.time.name), ...this.model.states.map(({ name }) => cell("th", name)));
    const body = rows.map((k) => {
      const row = document.createElement("tr");
      const band = (i) => (bands[i] ? ` (${shown(bands[i].low[k])} to ${shown(bands[i].high[k])})` : "");
      row.append(cell("td", shown(t[k])), ...curves.map((y, i) => cell("td", shown(y[k], 4) + band(i))));
      return row;
    });
    byId("table").replaceChildren(head, ...body);
  }
}

function legendOf(name, i) {
  const item = document.createElement("li");
  item.style.setProperty("--key", `var(--series-${i % 6})`);
  item.textContent = name;
  return item;
}

const read = (id) => byId(id).textContent;
try {
  await init(await unpacked(read("core")));
  new Page(JSON.parse(read("model")));
} catch (error) {
  byId("message").textContent = `This page cannot run here: ${error.message}`;
  throw error;
}
