// Events: bounces found where the height passes 0, beside a solver that only looks after each of its steps.
import { field } from "./field.mjs";
import { begin, byId, knobs, say } from "./live.mjs";
import { Plot, shown } from "./plot.mjs";
import { column, grid, publish } from "./report.mjs";
import { solve } from "./solve.mjs";

const END = 6;
const G = 9.81;
const RESTS = 0.01; // m/s: a ball that is slower than this after a bounce lies
const PICTURES = 30; // points a flight is drawn with
const TIGHT = { rtol: 1e-10, atol: 1e-12 };
const energyOf = (y, v) => G * y + v ** 2 / 2;

class Ball {
  constructor() {
    this.height = new Plot(byId("height"), { xLabel: "time t (s)", yLabel: "height (m)" });
    this.energy = new Plot(byId("energy"), { xLabel: "time t (s)", yLabel: "energy (J/kg)" });
    this.ball = field({ state: 2, name: "ball" }, (b, t, y) => b.concat(b.slice(y, 1, 1), b.full(1, -G)));
    this.floor = field({ state: 2, name: "floor" }, (b, t, y) => b.slice(y, 0, 1));
    this.knobs = knobs(["start", "restitution", "naive", "step"], () => this.draw(), { step: (power) => shown(10 ** power, 2) });
    this.height.onDrag((t, y) => {
      this.knobs.set("start", Math.min(Math.max(y, 0.2), 3));
      this.draw();
    });
    this.draw();
  }

  /** One flight: { t, y, v, bounce: [time, speed] or null }. */
  flight(from, state) {
    const event = { field: this.floor, direction: -1 };
    const { stopT, eventWhich, eventY } = solve(this.ball, state, [from, END], [], { ...TIGHT, event, errors: "ignore" });
    const hit = eventWhich[0] >= 0;
    const to = hit ? stopT[0] : END;
    const t = grid(from, to, PICTURES);
    const { y } = solve(this.ball, state, t, [], TIGHT);
    return { t, y: column(y, 2, 0), v: column(y, 2, 1), bounce: hit ? [to, eventY[0][1]] : null };
  }

  /** Flights from bounce to bounce. */
  withEvents({ start, restitution }) {
    const flights = [];
    const bounces = [];
    let [from, state] = [0, [start, 0]];
    for (;;) {
      const one = this.flight(from, state);
      flights.push(one);
      if (!one.bounce) return { flights, bounces, rest: null };
      bounces.push(one.bounce);
      [from, state] = [one.bounce[0], [0, -restitution * one.bounce[1]]];
      if (state[1] < RESTS) return { flights, bounces, rest: from };
    }
  }

  /** Steps that are exact for free fall, and a look at the height after each: below 0 and falling, the speed is turned. */
  withoutEvents({ start, restitution, step }) {
    const dt = 10 ** step;
    const n = Math.ceil(END / dt - 1e-9);
    const [t, y, v] = [[0], [start], [0]];
    for (let k = 0; k < n; k++) {
      const next = [y[k] + dt * v[k] - (G * dt ** 2) / 2, v[k] - G * dt];
      if (next[0] < 0 && next[1] < 0) next[1] *= -restitution;
      t.push((k + 1) * dt);
      y.push(next[0]);
      v.push(next[1]);
    }
    return { t, y, v };
  }

  draw() {
    const v = this.knobs.read();
    const found = this.withEvents(v);
    const naive = v.naive ? this.withoutEvents(v) : null;
    this.drawHeight(v, found, naive);
    this.drawEnergy(found, naive);
    this.tell(v, found, naive);
  }

  drawHeight(v, { flights, bounces, rest }, naive) {
    const lying = rest === null ? [] : [{ x: [rest, END], y: [0, 0], color: 0 }];
    this.height.draw({
      lines: [
        { x: [0, END], y: [0, 0], color: "soft", width: 1 },
        ...(naive ? [{ x: naive.t, y: naive.y, color: 1, width: 1.5 }] : []),
        ...flights.map(({ t, y }) => ({ x: t, y, color: 0 })),
        ...lying,
      ],
      points: [
        ...(naive && naive.t.length < 150 ? [{ x: naive.t, y: naive.y, color: 1, size: 2.5 }] : []),
        { x: bounces.map(([t]) => t), y: bounces.map(() => 0), color: 0, size: 4 },
        { x: [0], y: [v.start], color: 0, size: 8 },
      ],
      xRange: [-0.1, END],
      yRange: [Math.min(-0.25, ...(naive?.y ?? [])) - 0.05, Math.min(Math.max(3.1, ...(naive?.y ?? [])), 6)],
    });
    this.height.describe(`A ball from ${shown(v.start)} m bounces ${bounces.length} times in ${END} s, first at ${shown(bounces[0][0])} s`);
  }

  drawEnergy({ flights, rest }, naive) {
    const steps = flights.flatMap(({ t, y, v }) => [0, t.length - 1].map((k) => [t[k], energyOf(y[k], v[k])]));
    if (rest !== null) steps.push([rest, 0], [END, 0]);
    const [x, y] = [0, 1].map((i) => steps.map((step) => step[i]));
    this.energy.draw({
      lines: [
        ...(naive ? [{ x: naive.t, y: naive.t.map((_, k) => energyOf(naive.y[k], naive.v[k])), color: 1, width: 1.5 }] : []),
        { x, y, color: 0 },
      ],
      xRange: [-0.1, END],
    });
    this.energy.describe(`The energy falls at each bounce, from ${shown(y[0])} to ${shown(y.at(-1))} joules a kilogram, and is constant in between`);
  }

  tell({ start, restitution }, { flights, bounces, rest }, naive) {
    const last = naive ? energyOf(naive.y.at(-1), naive.v.at(-1)) : NaN;
    const [one, end] = [flights.at(-1), rest === null ? energyOf(flights.at(-1).y.at(-1), flights.at(-1).v.at(-1)) : 0];
    const first = naive ? naive.y.findIndex((y) => y < 0) : -1;
    const late = first < 0 ? "" : ` Without events it is noticed at ${shown(naive.t[first])} s, ${shown(-100 * naive.y[first])} cm below the floor; the energy left at the end is ` +
      `${shown(last)} in place of ${shown(end)} J/kg.`;
    const many = rest === null ? `${bounces.length} bounces` : `${bounces.length} bounces, then it lies, from ${shown(rest)} s on`;
    say(`First bounce at ${shown(bounces[0][0], 5)} s; ${many}.${late}`);
    publish({
      start, restitution, bounces: bounces.length, first: bounces[0][0], third: bounces[2]?.[0], speed: bounces[0][1], end: one.y.at(-1),
      energy: end, naive: last, below: naive ? Math.min(...naive.y) : NaN,
    });
  }
}

await begin(() => new Ball());
