// Where an adaptive solver put its steps.
import { solve } from "./solve.mjs";

/** Times at which the accepted steps end, the first one included, and those from which a step was tried in vain: the solver is
 * asked to give up after 1, 2, 3, ... steps. A generator: each next() is one more step, so that pages stay alive; `found` is what
 * there is so far: { times, rejected }, both filled in place. */
export const findSteps = function* (found, f, y0, t, theta, options) {
  const ends = [t[0], t.at(-1)];
  found.times = [t[0]];
  found.rejected = [];
  for (let k = 1; ; k++) {
    const { stopT, status, accepted } = solve(f, y0, ends, theta, { ...options, maxSteps: k, errors: "ignore" });
    if (accepted[0] >= found.times.length) found.times.push(stopT[0]);
    else found.rejected.push(found.times.at(-1));
    if (status[0] !== "MAX_STEPS") return;
    yield k;
  }
};
