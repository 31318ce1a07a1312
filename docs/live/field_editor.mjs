// Code that a reader may edit and run: equations as text, parsed to a program, solved by the core while they are typed.
import { compile } from "./compile.mjs";
import { EXAMPLES } from "./examples.mjs";
import { ExpressionError, parse } from "./expressions.mjs";
import { begin, byId, knobs, say } from "./live.mjs";
import { Plot, oncePerFrame, shown } from "./plot.mjs";
import { PynodeError } from "./program.mjs";
import { pythonOf } from "./python.mjs";
import { setChoices, setSliders } from "./sliders.mjs";
import { sensitivities, solve } from "./solve.mjs";

const TIMES = 801;
const SIDE = 17;
const OPTIONS = { method: "auto", maxSteps: 20000, errors: "ignore" };
const WHY = {
  MAX_STEPS: `more than ${OPTIONS.maxSteps} steps are needed`,
  NON_FINITE: "the field or the state is not a finite number here",
  STEP_TOO_SMALL: "steps became too short; the solution may go to infinity here",
};
const MOST_SENSITIVE = 400; // columns times states: more are not asked for
const REST_MS = 80; // after a change: derivatives and the table, unless the figure shows derivatives
const endOf = (power) => Number((10 ** power).toPrecision(2));

class Editor {
  constructor() {
    this.overTime = new Plot(byId("over-time"), { xLabel: "t" });
    this.portrait = new Plot(byId("portrait"), {});
    this.values = new Map(); // what sliders were moved to: name -> value
    this.chosen = new Map(); // what the text said then
    const soon = (this.soon = oncePerFrame(() => this.changed()));
    this.knobs = knobs(["end", "seed"], soon, { end: (power) => shown(endOf(power)) });
    byId("shown").addEventListener("change", () => this.solve(true));
    for (const id of ["across", "up"]) byId(id).addEventListener("change", () => this.draw());
    byId("text").addEventListener("input", oncePerFrame(() => this.read()));
    byId("example").addEventListener("change", () => this.example());
    byId("copy").addEventListener("click", () => this.copy());
    this.portrait.onDrag((x, y) => this.drag(x, y));
    setChoices(byId("example"), [...EXAMPLES.keys()].map((name) => [name, name]));
    this.example();
  }

  example() {
    const [text, end] = EXAMPLES.get(byId("example").value);
    byId("text").value = text;
    this.values.clear();
    this.knobs.set("end", Math.log10(end));
    this.read();
  }

  /** The text has changed. What was solved stays while it has an error. */
  read() {
    try {
      const model = parse(byId("text").value);
      const field = compile(model);
      this.field?.free();
      Object.assign(this, { model, field });
    } catch (error) {
      if (!(error instanceof ExpressionError || error instanceof PynodeError)) throw error;
      this.wrong(error.message);
      return;
    }
    byId("text").removeAttribute("aria-invalid");
    this.controls();
    this.changed();
  }

  /** The states at once, all else when nothing has changed for a moment. */
  changed() {
    clearTimeout(this.rest);
    this.solve(byId("shown").value !== "states");
    this.rest = setTimeout(() => {
      this.solve(true);
      byId("python").textContent = pythonOf(this.now(), this.end);
    }, REST_MS);
  }

  wrong(message) {
    byId("text").setAttribute("aria-invalid", "true");
    byId("message").classList.add("wrong");
    say(message);
    document.documentElement.dataset.error = message;
  }

  /** Sliders and choices for the names of the text; a slider that was moved keeps its place until the text gives another number. */
  controls() {
    const { states, parameters } = this.model;
    const starts = states.map(({ name, start }) => ({ name: `${name}(0)`, value: start, low: Math.min(0, start) - 3 - Math.abs(start), high: Math.max(0, start) + 3 + Math.abs(start) }));
    const place = (row) => {
      if (this.chosen.get(row.name) !== row.value) this.values.delete(row.name);
      this.chosen.set(row.name, row.value);
      const value = this.values.get(row.name) ?? row.value;
      return { ...row, value, low: Math.min(row.low, value), high: Math.max(row.high, value) };
    };
    const moved = (name, value) => {
      this.values.set(name, value);
      this.soon();
    };
    setSliders(byId("parameters"), parameters.map(place), moved);
    this.starts = setSliders(byId("starts"), starts.map(place), moved);
    const names = states.map(({ name }) => [name, name]);
    setChoices(byId("across"), names);
    setChoices(byId("up"), names, byId("up").value || names.at(1)?.[0]);
    if (byId("up").value === byId("across").value && names.length > 1) byId("up").value = names.find(([name]) => name !== byId("across").value)[0];
    byId("axes").hidden = names.length < 3;
    byId("portrait-title").textContent = names.length > 1 ? "Phase portrait" : `How fast ${names[0][0]} changes`;
    byId("seed").closest("label").hidden = this.field.nParams === parameters.length;
    const columns = this.columns().map((name, k) => [`d${k}`, `change by ${name}`]);
    setChoices(byId("shown"), [["states", "states"], ...columns]);
  }

  columns() {
    return [...this.model.parameters.map(({ name }) => name), ...this.model.states.map(({ name }) => `${name}(0)`)];
  }

  valueOf(name, otherwise) {
    return this.values.get(name) ?? otherwise;
  }

  theta() {
    const theta = this.field.init(this.knobs.read().seed);
    this.model.parameters.forEach(({ name, value }, i) => (theta[i] = this.valueOf(name, value)));
    return theta;
  }

  y0() {
    return this.model.states.map(({ name, start }) => this.valueOf(`${name}(0)`, start));
  }

  drag(x, y) {
    if (!this.model) return;
    const names = this.model.states.map(({ name }) => name);
    const places = names.length > 1 ? [[byId("across").value, x], [byId("up").value, y]] : [[names[0], x]];
    for (const [name, value] of places) {
      this.values.set(`${name}(0)`, value);
      this.starts.get(`${name}(0)`).set(value);
    }
    this.soon();
  }

  /** Solve, with derivatives where they are wanted and not too many. */
  solve(all) {
    if (!this.model) return;
    const end = endOf(this.knobs.read().end);
    const t = Array.from({ length: TIMES }, (_, k) => (end * k) / (TIMES - 1));
    const [theta, y0] = [this.theta(), this.y0()];
    const { d, nParams } = this.field;
    const sensitive = all && d * (nParams + d) <= MOST_SENSITIVE;
    try {
      const result = (sensitive ? sensitivities : solve)(this.field, y0, t, theta, OPTIONS);
      Object.assign(this, { result, t, end, theta0: theta, sensitive });
    } catch (error) {
      if (!(error instanceof PynodeError)) throw error;
      this.wrong(error.message);
      return;
    }
    if (byId("text").getAttribute("aria-invalid") !== "true") this.tell();
    this.draw();
    document.documentElement.dataset.derivatives = "";
    if (all) this.table();
  }

  /** The model with the numbers of the sliders. */
  now() {
    const { states, parameters } = this.model;
    return {
      ...this.model,
      states: states.map((one) => ({ ...one, start: this.valueOf(`${one.name}(0)`, one.start) })),
      parameters: parameters.map((one) => ({ ...one, value: this.valueOf(one.name, one.value) })),
    };
  }

  tell() {
    const { result, end, field, model } = this;
    const [status] = result.status;
    byId("message").classList.toggle("wrong", status !== "OK");
    const last = model.states.map(({ name }, i) => `${name} = ${shown(result.y[(TIMES - 1) * field.d + i])}`).join(", ");
    say(
      status === "OK"
        ? `Solved to t = ${shown(end)} in ${result.accepted[0]} steps: ${last}.`
        : `Stopped at t = ${shown(result.stopT[0])}: ${WHY[status] ?? status}.`,
    );
    Object.assign(document.documentElement.dataset, { error: "", status, end: JSON.stringify(Array.from(result.y.slice(-field.d), Number)), theta: JSON.stringify(Array.from(this.theta0)) });
  }

  /** d state_i / d column_k at time n. */
  derivative(n, i, k) {
    const { field: { d, nParams }, model: { parameters }, result } = this;
    const isParameter = k < parameters.length;
    return isParameter ? result.theta[(n * d + i) * nParams + k] : result.y0[(n * d + i) * d + k - parameters.length];
  }

  draw() {
    if (!this.result) return;
    const { field: { d }, model: { states }, result, t } = this;
    const which = byId("shown").value;
    const k = which === "states" || !this.sensitive ? -1 : Number(which.slice(1));
    const value = (n, i) => (k < 0 ? result.y[n * d + i] : this.derivative(n, i, k));
    this.overTime.draw({ lines: states.map((_, i) => ({ x: t, y: t.map((_, n) => value(n, i)), color: i })) });
    const names = states.map(({ name }) => (k < 0 ? name : `\u2202${name}/\u2202${this.columns()[k]}`));
    if (byId("legend").textContent !== names.join("")) byId("legend").replaceChildren(...names.map((name, i) => {
      const item = Object.assign(document.createElement("li"), { textContent: name });
      item.style.setProperty("--key", `var(--series-${i % 6})`);
      return item;
    }));
    this.overTime.describe(`${names.join(", ")} over time; at the end ${names.map((_, i) => shown(value(TIMES - 1, i))).join(", ")}`);
    if (d === 1) this.slope();
    else this.phase();
  }

  column(i) {
    return this.t.map((_, n) => this.result.y[n * this.field.d + i]);
  }

  /** Of one state: y' against y at the start of time. */
  slope() {
    const [{ name }] = this.model.states;
    const [y0] = this.y0();
    const seen = [...this.column(0), y0, 0].filter(Number.isFinite);
    const [low, high] = [Math.min(...seen), Math.max(...seen)];
    const pad = 0.3 * (high - low) || 1;
    const y = Array.from({ length: 201 }, (_, n) => low - pad + ((high - low + 2 * pad) * n) / 200);
    const slopes = Array.from(this.field.evaluateMany(0, y, this.theta0));
    const [at] = this.field.evaluate(0, [y0], this.theta0);
    Object.assign(this.portrait, { xLabel: name, yLabel: `${name}'` });
    this.portrait.draw({ lines: [{ x: y, y: y.map(() => 0), color: "soft", width: 1 }, { x: y, y: slopes, color: 0 }], points: [{ x: [y0], y: [at], color: 0, size: 8 }] });
    this.portrait.describe(`How fast ${name} changes at t = 0: ${shown(at)} where it starts, at ${shown(y0)}`);
  }

  phase() {
    const names = this.model.states.map(({ name }) => name);
    const [i, j] = [names.indexOf(byId("across").value), names.indexOf(byId("up").value)];
    Object.assign(this.portrait, { xLabel: names[i], yLabel: names[j] });
    const y0 = this.y0();
    const content = { lines: [{ x: this.column(i), y: this.column(j), color: 0 }], points: [{ x: [y0[i]], y: [y0[j]], color: 0, size: 8 }], xMargin: 0.15 };
    this.portrait.content = content;
    const { x, y } = this.portrait.ranges();
    const at = (range, n) => range[0] + ((range[1] - range[0]) * (n + 0.5)) / SIDE;
    const grid = Array.from({ length: SIDE * SIDE }, (_, n) => y0.map((v, c) => (c === i ? at(x, n % SIDE) : c === j ? at(y, Math.floor(n / SIDE)) : v)));
    const slopes = this.field.evaluateMany(0, grid.flat(), this.theta0);
    const d = names.length;
    const arrows = grid.map((row, n) => ({ x: row[i], y: row[j], dx: slopes[n * d + i], dy: slopes[n * d + j], length: 11 }));
    this.portrait.draw({ ...content, arrows, xRange: x, yRange: y });
    this.portrait.describe(`${names[j]} against ${names[i]}, starting at ${shown(y0[i])}, ${shown(y0[j])}, with arrows of the field at t = 0`);
  }

  table() {
    const { model: { states }, sensitive } = this;
    const columns = this.columns();
    byId("table").hidden = !sensitive;
    if (!sensitive) return;
    const rows = columns.map((_, k) => states.map((_, i) => this.derivative(TIMES - 1, i, k)));
    const cell = (tag, textContent) => Object.assign(document.createElement(tag), { textContent });
    const row = (tag, first, rest) => {
      const tr = document.createElement("tr");
      tr.append(cell("th", first), ...rest.map((text) => cell(tag, text)));
      return tr;
    };
    byId("table").replaceChildren(
      row("th", "derivative by", states.map(({ name }) => `of ${name}(${shown(this.end)})`)),
      ...rows.map((values, k) => row("td", columns[k], values.map((x) => shown(x, 4)))),
    );
    document.documentElement.dataset.derivatives = JSON.stringify(rows);
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(byId("python").textContent);
      byId("copy").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(byId("python"));
      byId("copy").textContent = "Marked: press Ctrl+C";
    }
  }
}

await begin(() => new Editor());
