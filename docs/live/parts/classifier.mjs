// A flow from t = 0 to 1 with a linear border at its end; extra dimensions start at 0.
import { mlp, normals } from "./field.mjs";
import { Adam } from "./fit.mjs";
import { lossAndGrad, solve } from "./solve.mjs";

const OPTIONS = { rtol: 1e-3, atol: 1e-4, maxSteps: 2000 };
const DECAY = 1e-4; // of weights, so that the flow does not become wilder than the points ask

export class FlowClassifier {
  constructor(extra, hidden, seed, rate) {
    this.extra = extra;
    this.d = 2 + extra;
    this.field = mlp(this.d, [hidden]);
    this.p = this.field.nParams;
    this.adam = new Adam([...this.field.init(seed), ...normals(seed + 77, this.d).map((x) => 0.3 * x), 0], { learningRate: rate });
  }

  get theta() { return this.adam.theta.slice(0, this.p); }
  get border() { return Array.from(this.adam.theta.slice(this.p)); }

  raised(points) {
    return points.map((point) => [...point, ...new Array(this.extra).fill(0)]);
  }

  /** Where points are at time t, as rows, and the evaluations that a point took. */
  at(points, t) {
    if (t === 0) return { rows: this.raised(points), nfe: 0 };
    const { y, nfe } = solve(this.field, this.raised(points), [0, t], this.theta, OPTIONS);
    const rows = points.map((_, i) => Array.from(y.slice((2 * i + 1) * this.d, (2 * i + 2) * this.d)));
    return { rows, nfe: nfe.reduce((a, b) => a + b, 0) / nfe.length };
  }

  /** Signed distances from the border, times the length of its normal. */
  margins(rows) {
    const border = this.border;
    return rows.map((row) => row.reduce((sum, x, j) => sum + border[j] * x, border[this.d]));
  }

  /** Part of points that are on their side, labels being -1 and 1. */
  right(points, labels) {
    const margins = this.margins(this.at(points, 1).rows);
    return margins.filter((m, i) => m * labels[i] > 0).length / labels.length;
  }

  /** Mean logistic loss with its gradient. The core pulls back (y - target), so the target is put where that is dL/dy. */
  loss(points, labels) {
    const n = points.length;
    const { rows, nfe } = this.at(points, 1);
    const margins = this.margins(rows);
    const border = this.border;
    const pull = margins.map((m, i) => -labels[i] / (1 + Math.exp(labels[i] * m)) / n);
    const target = rows.map((row, i) => [row.map(() => NaN), row.map((x, j) => x - 0.5 * pull[i] * border[j])]);
    const { grad } = lossAndGrad(this.field, this.raised(points), [0, 1], this.theta, target, { ...OPTIONS, loss: "sse" });
    const normal = [...border.keys()].map((j) => pull.reduce((sum, v, i) => sum + v * (rows[i][j] ?? 1), 0));
    const loss = margins.reduce((sum, m, i) => sum + Math.log1p(Math.exp(-Math.abs(m))) + Math.max(-labels[i] * m, 0), 0) / n;
    const right = margins.filter((m, i) => m * labels[i] > 0).length / n;
    return { loss, gradient: [...grad, ...normal], nfe, right };
  }

  /** One step of training, or none where the loss is below `enough`; what was before it. */
  train(points, labels, enough) {
    const now = this.loss(points, labels);
    if (now.loss < enough) return now;
    this.adam.step(now.gradient.map((g, i) => g + DECAY * this.adam.theta[i]));
    return now;
  }
}
