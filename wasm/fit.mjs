// Optimisers in JavaScript: their own arithmetic is small beside the core's solves. As in Python, the best theta is kept.
import { PynodeError } from "./program.mjs";
import { sensitivities } from "./solve.mjs";

const norm = (x) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));

/** One step at a time, for pages that draw between steps. */
export class Adam {
  constructor(theta0, { learningRate = 1e-2, beta1 = 0.9, beta2 = 0.999, eps = 1e-8 } = {}) {
    Object.assign(this, { learningRate, beta1, beta2, eps, count: 0 });
    this.theta = Float64Array.from(theta0);
    this.m = new Float64Array(this.theta.length);
    this.v = new Float64Array(this.theta.length);
  }
  step(gradient, learningRate = this.learningRate) {
    this.count += 1;
    const rate = learningRate / (1 - this.beta1 ** this.count);
    const root = Math.sqrt(1 - this.beta2 ** this.count);
    for (let i = 0; i < this.theta.length; i++) {
      this.m[i] = this.beta1 * this.m[i] + (1 - this.beta1) * gradient[i];
      this.v[i] = this.beta2 * this.v[i] + (1 - this.beta2) * gradient[i] ** 2;
      this.theta[i] -= (rate * this.m[i]) / (Math.sqrt(this.v[i]) / root + this.eps);
    }
    return this.theta;
  }
}

const SCHEDULES = {
  constant: () => 1,
  cosine: (part) => 0.5 * (1 + Math.cos(Math.PI * part)),
};

/** Minimise objective(theta) -> { loss, grad } by Adam. callback({ iteration, loss, theta }) -> true: stop. */
export function adam(objective, theta0, { maxIter = 1000, schedule = "cosine", callback, ...rates } = {}) {
  const rate = SCHEDULES[schedule];
  if (!rate) throw new PynodeError(`schedule=${schedule} is not one of ${Object.keys(SCHEDULES).join(", ")}`);
  const one = new Adam(theta0, rates);
  let best = { loss: Infinity, theta: one.theta.slice() };
  const losses = [];
  for (let iteration = 0; iteration < maxIter; iteration++) {
    const { loss, grad } = objective(one.theta);
    if (!Number.isFinite(loss)) throw new PynodeError(`adam: the loss is ${loss} in iteration ${iteration}: lower learningRate`);
    losses.push(loss);
    if (loss < best.loss) best = { loss, theta: one.theta.slice() };
    if (callback?.({ iteration, loss, theta: one.theta })) break;
    one.step(grad, one.learningRate * rate(iteration / maxIter));
  }
  const { loss } = objective(one.theta);
  if (loss < best.loss) best = { loss, theta: one.theta.slice() };
  return { ...best, losses };
}

// A x = b for a symmetric positive definite A, or null
function cholesky(A, b) {
  const n = b.length;
  const L = A.map((row) => Float64Array.from(row));
  for (let j = 0; j < n; j++) {
    for (let k = 0; k < j; k++) L[j][j] -= L[j][k] ** 2;
    if (!(L[j][j] > 0)) return null;
    L[j][j] = Math.sqrt(L[j][j]);
    for (let i = j + 1; i < n; i++) {
      for (let k = 0; k < j; k++) L[i][j] -= L[i][k] * L[j][k];
      L[i][j] /= L[j][j];
    }
  }
  const x = Float64Array.from(b);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i] -= L[i][k] * x[k];
    x[i] /= L[i][i];
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i] -= L[k][i] * x[k];
    x[i] /= L[i][i];
  }
  return x;
}

function normalEquations(r, J, p) {
  const A = Array.from({ length: p }, () => new Float64Array(p));
  const g = new Float64Array(p);
  for (let row = 0; row < r.length; row++) {
    const at = row * p;
    for (let i = 0; i < p; i++) {
      const x = J[at + i];
      if (x === 0) continue;
      g[i] += x * r[row];
      for (let j = 0; j <= i; j++) A[i][j] += x * J[at + j];
    }
  }
  for (let i = 0; i < p; i++) for (let j = i + 1; j < p; j++) A[i][j] = A[j][i];
  return { A, g };
}

/** Minimise |r(theta)|^2, one iteration at a time, for pages that draw between them; residuals(theta) -> { r (n), J (n p)
 * row by row }. Dense normal equations: for up to a few hundred parameters. A trial whose residuals cannot be had (a solve
 * that fails) counts as worse. */
export class LevenbergMarquardt {
  constructor(residuals, theta0, { tol = 1e-8, damping = 1e-3 } = {}) {
    Object.assign(this, { residuals, tol, damping });
    this.theta = Float64Array.from(theta0);
    this.now = residuals(this.theta);
    this.loss = squares(this.now);
    this.losses = [this.loss];
  }

  /** -> true: more iterations may lower the loss further. */
  step() {
    const moved = this.trial();
    if (!moved) return false;
    const gain = this.loss - squares(moved.next);
    this.theta = moved.theta;
    this.now = moved.next;
    this.loss -= gain;
    this.losses.push(this.loss);
    return gain > this.tol * this.loss && moved.size > this.tol * (norm(this.theta) + this.tol);
  }

  // the first step that lowers the loss, damped more and more; null: there is none
  trial() {
    const { A, g } = normalEquations(this.now.r, this.now.J, this.theta.length);
    while (this.damping < 1e16) {
      const damped = A.map((row, i) => row.map((v, j) => (i === j ? v * (1 + this.damping) + 1e-300 : v)));
      const step = cholesky(damped, g);
      const theta = step && this.theta.map((v, i) => v - step[i]);
      const next = step && attempt(this.residuals, theta);
      if (next && squares(next) < this.loss) {
        this.damping *= 1 / 3;
        return { theta, next, size: norm(step) };
      }
      this.damping *= 4;
    }
    return null;
  }
}

/** All iterations of LevenbergMarquardt. callback({ iteration, loss, theta }) -> true: stop. */
export function levenbergMarquardt(residuals, theta0, { maxIter = 100, callback, ...options } = {}) {
  const one = new LevenbergMarquardt(residuals, theta0, options);
  let status = "finished";
  for (let iteration = 0; iteration < maxIter; iteration++) {
    if (callback?.({ iteration, loss: one.loss, theta: one.theta })) {
      status = "stopped";
      break;
    }
    if (!one.step()) break;
  }
  return { theta: one.theta, loss: one.loss, losses: one.losses, status };
}

const squares = ({ r }) => r.reduce((sum, v) => sum + v * v, 0);

function attempt(residuals, theta) {
  try {
    const next = residuals(theta);
    return next.r.every(Number.isFinite) ? next : null;
  } catch (error) {
    if (error instanceof PynodeError) return null;
    throw error;
  }
}

/** The residuals y(t; theta) - target of a solve, NaN left out, with their Jacobian: for `levenbergMarquardt`. */
export function residualsOf(f, y0, t, target, options = {}) {
  const rows = Float64Array.from([...target].flat(Infinity), Number);
  const seen = [...rows.keys()].filter((i) => !Number.isNaN(rows[i]));
  return (theta) => {
    const s = sensitivities(f, y0, t, theta, options);
    if (s.y.length !== rows.length) throw new TypeError(`target has ${rows.length} numbers, the solution ${s.y.length}`);
    const p = f.nParams;
    const J = new Float64Array(seen.length * p);
    seen.forEach((row, i) => J.set(s.theta.subarray(row * p, (row + 1) * p), i * p));
    return { r: Float64Array.from(seen, (i) => s.y[i] - rows[i]), J };
  };
}
