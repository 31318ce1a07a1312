// Fields that are hard to solve in one place and easy elsewhere, with their exact solutions.
import { field } from "./field.mjs";

/** y' = -(y - g) + g', g = tanh((t - place) / width): a front; the solution is g, and what is left of the start. */
const front = () => ({
  field: field({ state: 1, theta: { place: 5, width: 0.2 } }, (b, t, y, u, theta) => {
    const [place, width] = [theta("place"), theta("width")];
    const g = b.same("TANH", b.div(b.sub(t, place), width));
    return b.add(b.sub(g, y), b.div(b.sub(b.full(1, 1), b.same("SQUARE", g)), width));
  }),
  end: 10,
  theta: ({ place, width }) => [place, width],
  start: () => [1],
  exact({ place, width }) {
    const g = (t) => Math.tanh((t - place) / width);
    return (t) => [g(t) + (1 - g(0)) * Math.exp(-t)];
  },
});

// the eccentric anomaly of Kepler's equation M = E - e sin E, by Newton's method
function anomaly(mean, e) {
  let E = mean + e * Math.sin(mean);
  for (let k = 0; k < 50; k++) {
    const step = (E - e * Math.sin(E) - mean) / (1 - e * Math.cos(E));
    E -= step;
    if (Math.abs(step) < 1e-15) break;
  }
  return E;
}

/** A comet about a sun of mass 1, semi-axis 1, from the far end of its orbit: one year. */
const comet = () => ({
  field: field({ state: 4 }, (b, t, y) => {
    const place = b.slice(y, 0, 2);
    const squared = b.sum(b.same("SQUARE", place));
    const cubed = b.mul(squared, b.same("SQRT", squared));
    return b.concat(b.slice(y, 2, 2), b.neg(b.div(place, cubed)));
  }),
  end: 2 * Math.PI,
  theta: () => [],
  start: ({ eccentricity: e }) => [-(1 + e), 0, 0, -Math.sqrt((1 - e) / (1 + e))],
  exact({ eccentricity: e }) {
    return (t) => {
      const E = anomaly(t + Math.PI, e);
      const [r, b] = [1 - e * Math.cos(E), Math.sqrt(1 - e * e)];
      return [Math.cos(E) - e, b * Math.sin(E), -Math.sin(E) / r, (b * Math.cos(E)) / r];
    };
  },
});

/** Both; the core must be there. */
export function hardPlaces() {
  return { front: front(), comet: comet() };
}
