// Losses to run down, and the optimisers that do it.
import { mlp, normals } from "./field.mjs";
import { Adam } from "./fit.mjs";
import { lossAndGrad } from "./solve.mjs";

/** (x^2 + steep y^2) / 2: curvatures 1 and `steep`. */
export function parabola(steep, start) {
  return {
    start,
    objective: ([x, y]) => ({ loss: 0.5 * (x * x + steep * y * y), grad: [x, steep * y] }),
    curvature: () => steep,
  };
}

/** The code lab: y' = -2 y from noisy data, by Euler steps of 0.05 and 8 hidden units. */
export function codeLab() {
  const t = Array.from({ length: 21 }, (_, k) => k / 20);
  const y0 = [-1.5, -0.75, 0.5, 1, 1.5].map((y) => [y]);
  const noise = normals(3, y0.length * t.length);
  const target = y0.map(([y], i) => t.map((s, k) => [y * Math.exp(-2 * s) + 0.02 * noise[i * t.length + k]]));
  const model = mlp(1, [8]);
  const objective = (theta) => lossAndGrad(model, y0, y0.map(() => t), theta, target, { method: "euler", step: 0.05 });
  return { model, target, start: model.init(4), objective, curvature: (theta) => steepest(objective, theta) };
}

/** The largest curvature at theta, by power iteration on differences of gradients. */
function steepest(objective, theta, rounds = 30) {
  let direction = normals(11, theta.length);
  let size = 0;
  for (let k = 0; k < rounds; k++) {
    const length = Math.hypot(...direction);
    const moved = [1e-5, -1e-5].map((by) => objective(Array.from(theta, (v, i) => v + (by * direction[i]) / length)).grad);
    direction = Array.from(theta, (_, i) => (moved[0][i] - moved[1][i]) / 2e-5);
    size = Math.hypot(...direction);
  }
  return size;
}

const STEPS = {
  descent: (rate) => (theta, grad) => theta.map((v, i) => v - rate * grad[i]),
  momentum(rate) {
    let velocity = null;
    return (theta, grad) => {
      velocity = theta.map((_, i) => 0.9 * (velocity?.[i] ?? 0) - rate * grad[i]);
      return theta.map((v, i) => v + velocity[i]);
    };
  },
  adam(rate) {
    let one = null;
    return (theta, grad) => {
      one ??= new Adam(theta, { learningRate: rate });
      return one.step(grad).slice();
    };
  },
};

const GONE = 1e4; // times the first loss

export class Racer {
  constructor(problem, optimiser, rate) {
    Object.assign(this, { problem, optimiser, rate, theta: Float64Array.from(problem.start), path: [], losses: [], gone: false });
    this.step = STEPS[optimiser](rate);
    this.look();
  }

  // the loss and the gradient where the racer is; a solve that fails or a loss beyond all bounds ends the race
  look() {
    try {
      Object.assign(this, this.problem.objective(this.theta));
    } catch (error) {
      if (error.name !== "PynodeError") throw error;
      this.loss = Infinity;
    }
    this.losses.push(this.loss);
    this.path.push(Array.from(this.theta));
    this.gone = !(this.loss <= GONE * this.losses[0]);
  }

  run() {
    if (this.gone) return;
    this.theta = Float64Array.from(this.step(this.theta, this.grad));
    this.look();
  }
}
