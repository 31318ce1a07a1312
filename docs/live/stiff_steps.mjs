// Lesson 19: where dopri5 and rodas5p put their steps along a relaxation oscillation.
import { field } from "./field.mjs";
import { begin, byId, knobs, say } from "./live.mjs";
import { Plot, shown } from "./plot.mjs";
import { fillTable, grid, publish } from "./report.mjs";
import { solve } from "./solve.mjs";

const METHODS = [{ name: "dopri5", color: 1 }, { name: "rodas5p", color: 0 }];
const BELOW = [1, 0]; // what is drawn first
const LIMIT = 3.31; // of dopri5 on the negative real axis
const MOST = 20000; // steps
const DRAWN = 1000; // of a list of steps, at most
const START = [2, 0];

class Steps {
  constructor() {
    this.whole = new Plot(byId("whole"), { xLabel: "time t", yLabel: "y" });
    this.near = new Plot(byId("near"), { xLabel: "time t", yLabel: "y" });
    this.lengths = new Plot(byId("lengths"), { xLabel: "time t", yLabel: "log\u2081\u2080 step" });
    this.f = field({ state: 2, theta: { mu: 1 }, name: "van_der_pol" }, (b, t, y, u, th) => {
      const [x, v] = [b.slice(y, 0, 1), b.slice(y, 1, 1)];
      return b.concat(v, b.sub(b.mul(th("mu"), b.mul(b.sub(b.full(1, 1), b.mul(x, x)), v)), x));
    });
    const power = (x) => shown(10 ** x, 2);
    const texts = { mu: power, rtol: power, width: power };
    this.knobs = knobs(["mu", "rtol", "middle", "width"], () => this.draw(), texts);
    this.whole.onDrag((t) => {
      this.knobs.set("middle", Math.min(Math.max(t / this.end, 0), 1));
      this.draw();
    });
    this.draw();
  }

  /** Both solves, kept until mu or the tolerance change. */
  solved({ mu: power, rtol }) {
    const key = `${power} ${rtol}`;
    if (this.key === key) return;
    const mu = 10 ** power;
    this.key = key;
    this.mu = mu;
    this.end = Math.max(2 * mu, 20);
    const options = { rtol: 10 ** rtol, atol: 10 ** (rtol - 2), maxSteps: MOST, steps: true, errors: "ignore" };
    this.runs = METHODS.map(({ name }) => {
      const ends = solve(this.f, START, [0, this.end], [mu], { ...options, method: name });
      const t = ends.steps[0];
      const { y } = solve(this.f, START, t, [mu], { ...options, steps: false, method: name });
      return { ...ends, t, y: Array.from(t, (_, k) => y[2 * k]) };
    });
    this.curve = this.fine(0, this.end, 800);
  }

  /** The curve itself between two times. */
  fine(from, to, n) {
    const x = grid(from, to, n);
    const t = from > 0 ? [0, ...x] : x;
    const { y } = solve(this.f, START, t, [this.mu], { method: "rodas5p", rtol: 1e-7, atol: 1e-9 });
    const skip = t.length - x.length;
    return { x, y: x.map((_, k) => y[2 * (k + skip)]) };
  }

  draw() {
    const v = this.knobs.read();
    this.solved(v);
    const half = (this.end * 10 ** v.width) / 2;
    const middle = Math.min(Math.max(v.middle * this.end, half), this.end - half);
    const window = [middle - half, middle + half];
    this.close = this.fine(...window, 300);
    this.drawWhole(window);
    this.drawNear(window);
    this.drawLengths(window);
    this.tell(window, v);
  }

  drawWhole(window) {
    this.whole.draw({
      bands: [{ x: window, low: [-3, -3], high: [3, 3], color: 2 }],
      lines: [{ ...this.curve, color: "soft" }],
      points: METHODS.map(({ color }, i) => thinned({ x: Array.from(this.runs[i].t), y: Array.from(this.runs[i].t, () => 2.75 - 5.5 * i), color, size: 1 })),
      xRange: [0, this.end],
      yRange: [-3, 3],
    });
    this.whole.describe(`The solution until t = ${shown(this.end)}, with the steps of dopri5 as dots above and those of rodas5p below`);
  }

  drawNear(window) {
    this.near.draw({
      lines: [{ ...this.close, color: "soft", width: 1 }],
      points: BELOW.map((i) => part(this.runs[i], window, { color: METHODS[i].color, size: i ? 4.5 : 2 })),
      xRange: window,
      yRange: [-2.6, 2.6],
    });
    this.near.describe(`The window from ${shown(window[0])} to ${shown(window[1])} with the steps in it`);
  }

  drawLengths(window) {
    const lengths = this.runs.map(({ t }) => ({ t: t.slice(1), y: Array.from(t.slice(1), (end, k) => Math.log10(end - t[k])) }));
    this.lengths.draw({
      lines: [
        { x: this.close.x, y: this.close.y.map((y) => (y * y > 1.05 ? Math.log10(LIMIT / (this.mu * (y * y - 1))) : NaN)), color: "soft", dash: [6, 4] },
        ...BELOW.map((i) => part(lengths[i], window, { color: METHODS[i].color, width: 1 })),
      ],
      points: BELOW.map((i) => part(lengths[i], window, { color: METHODS[i].color, size: i ? 3 : 2 })),
      xRange: window,
      yRange: [Math.min(...lengths.map(({ y }) => Math.min(...y.filter(Number.isFinite)))) - 0.2, Math.log10(this.end) - 0.5],
    });
    this.lengths.describe("Lengths of the steps: those of dopri5 stay at its limit of stability where the curve is slow, those of rodas5p are long there");
  }

  tell(window, v) {
    const inside = this.runs.map(({ t }) => t.filter((each) => each >= window[0] && each <= window[1]).length);
    const [a, b] = this.runs;
    const cut = a.accepted[0] + a.rejected[0] < MOST ? "" : ` dopri5 was stopped at t = ${shown(a.stopT[0])}, after ${MOST} steps.`;
    const ratio = a.nfe[0] / b.nfe[0];
    say(`\u03bc = ${shown(this.mu, 2)}: dopri5 took ${a.accepted[0]} steps and ${a.nfe[0]} calls of f, rodas5p ${b.accepted[0]} and ${b.nfe[0]}: ` +
      (ratio > 1 ? `${shown(ratio, 2)} times fewer calls.` : `${shown(1 / ratio, 2)} times more calls.`) + cut);
    fillTable("table", METHODS.map(({ name }, i) => [name, ...[this.runs[i].accepted, this.runs[i].rejected, this.runs[i].nfe].map(([n]) => String(n)), String(inside[i])]));
    publish({
      mu: this.mu, rtol: 10 ** v.rtol, end: this.end, explicit: a.accepted[0], implicit: b.accepted[0], explicitNfe: a.nfe[0], implicitNfe: b.nfe[0],
      from: window[0], to: window[1], insideExplicit: inside[0], insideImplicit: inside[1], last: b.y.at(-1),
    });
  }
}

/** What lies in the window, every n-th where there is too much to draw. */
function part({ t, y }, [low, high], more) {
  const keep = Array.from(t.keys()).filter((k) => t[k] >= low && t[k] <= high);
  return thinned({ x: keep.map((k) => t[k]), y: keep.map((k) => y[k]), ...more });
}

function thinned({ x, y, ...more }) {
  const every = Math.ceil(x.length / DRAWN);
  const kept = (list) => list.filter((_, k) => k % every === 0);
  return { x: kept(x), y: kept(y), ...more };
}

await begin(() => new Steps());
