"""The exercises of the course: each computes its right answer and knows the usual wrong ones."""

import math

import numpy as np

from pynode.course.answers import Choice, Exercise, Number, Unanswered, Wrong, called, numbers
from pynode.course.lab import code_lab

# ---- 00 and 01: quickstart, solvers ---------------------------------------------------------------------------------


def _small_swing_period():
    """Of angle'' = -4 sin(angle) - 0.25 angle' near 0: the frequency of a damped linear oscillator."""
    return 2 * math.pi / math.sqrt(4.0 - 0.125**2)


def _order_of_heun(answer):
    order = float(numbers(answer))
    if abs(order - 2) <= 0.1:
        return f"{order:.2f}: Heun's method has order 2. Half the step, a quarter of the error."
    if abs(order + 2) <= 0.1:
        raise Wrong("The slope of log(error) against log(number of steps) is negative; against log(h) it is positive.")
    if abs(order - 1) <= 0.15:
        raise Wrong("Order 1 is Euler's. Is the method `heun`?")
    if abs(order - 3) <= 0.15:
        raise Wrong("3 is the slope of the error of one single step; after a fixed time many of them add up.")
    if abs(order - 2) <= 0.5:
        raise Wrong(f"{order:.2f} is near, but leave out the steps that are too long for a straight line (or too short).")
    raise Wrong(f"{order:.3g} is no slope that this method has. Take logarithms of both, error and h.")


# ---- 02: the two worked examples ------------------------------------------------------------------------------------

W1, B1, W2, B2, Y0, H, TARGET = 1.5, 0.0, -2.0, 0.0, 1.0, 0.25, 0.37
"""Field w2 tanh(w1 y + b1) + b2, start, Euler step, and the value observed at t = 0.5."""


def _field(y, w2=W2):
    return w2 * math.tanh(W1 * y + B1) + B2


def _slope(y):
    return W2 * W1 * (1 - math.tanh(W1 * y + B1) ** 2)


def _euler(w2=W2):
    """y1 and y2."""
    y1 = Y0 + H * _field(Y0, w2)
    return y1, y1 + H * _field(y1, w2)


def _exact_flow():
    return math.asinh(math.sinh(1.5) * math.exp(-1.5)) / 1.5


def _adjoint_step(slope_at=0):
    """a1 = a2 (1 + h df/dy), df/dy at y1 (0) or, wrongly, at y2 (1)."""
    y = _euler()
    return (y[1] - TARGET) * (1 + H * _slope(y[slope_at]))


def _gradient_w2():
    """The exact derivative of the Euler loss: h (a1 df/dw2(y0) + a2 df/dw2(y1)), a the discrete adjoint."""
    y1, y2 = _euler()
    return H * (_adjoint_step() * math.tanh(W1 * Y0) + (y2 - TARGET) * math.tanh(W1 * y1))


WORKED = {
    "euler-y2": Exercise(
        Number(
            lambda: _euler()[1],
            "y(0.5) by two Euler steps is {value}.",
            {
                "That is the solution of y' = -2y, another equation.": lambda: math.exp(-1),
                "That is the exact solution of this field. Asked for: two Euler steps.": _exact_flow,
                "That is after one step; one more.": lambda: _euler()[0],
                "That is one long step of 0.5. Take two of 0.25.": lambda: Y0 + 0.5 * _field(Y0),
            },
        ),
        "the state after two Euler steps of 0.25",
        "y1 = y0 + 0.25 f(y0), then once more from y1.",
    ),
    "slope-at-origin": Exercise(
        Number(
            lambda: _slope(0.0),
            "df/dy at 0 is w1 w2 = {value}: near the origin the field is -3y, not -2y.",
            {"-2 is w2 alone; the chain rule brings w1 too.": lambda: W2, "1.5 is w1 alone.": lambda: W1},
        ),
        "df/dy at y = 0",
        "f = w2 tanh(w1 y): the derivative of tanh at 0 is 1, and there is an inner derivative.",
    ),
    "slope-at-y2": Exercise(
        Number(
            lambda: _slope(_euler()[1]),
            "df/dy at y2 is {value}.",
            {
                "That is df/dy at y1 = 0.5474. Put y2 in (the original page slipped here too).": lambda: _slope(_euler()[0]),
                "That is df/dy at y0.": lambda: _slope(Y0),
                "That is the slope at the origin, without saturation.": lambda: _slope(0.0),
                "The inner derivative w1 is missing.": lambda: _slope(_euler()[1]) / W1,
            },
            rtol=3e-4,
        ),
        "df/dy at y2",
        "w1 w2 (1 - tanh(w1 y)^2), at y = y2.",
    ),
    "adjoint-a1": Exercise(
        Number(
            _adjoint_step,
            "a1 = {value}: the exact derivative of the loss with respect to y1.",
            {
                "You took df/dy at y2. The step to y2 used the field at y1: take its derivative there.": lambda: (
                    _adjoint_step(1)
                ),
                "That is a2, the derivative with respect to the last state.": lambda: _euler()[1] - TARGET,
            },
        ),
        "dL/dy1",
        "y2 = y1 + h f(y1). Differentiate: dy2/dy1 = 1 + h df/dy(y1), and a1 = a2 dy2/dy1.",
    ),
    "gradient-w2": Exercise(
        Number(
            _gradient_w2,
            "dL/dw2 = {value}. It is negative: a larger w2 (closer to 0) lets y(0.5) = 0.2096 rise towards 0.37.",
            {
                "That is dL/dw2 with tanh taken at y2 and y1. Euler's steps used y1 and y0.": lambda: (
                    H
                    * (_adjoint_step() * math.tanh(W1 * _euler()[0]) + (_euler()[1] - TARGET) * math.tanh(W1 * _euler()[1]))
                ),
                "Only the last step counts there; w2 acts in the first one too.": lambda: (
                    H * (_euler()[1] - TARGET) * math.tanh(W1 * _euler()[0])
                ),
            },
        ),
        "dL/dw2 of the Euler loss",
        "w2 acts in both steps: h (a1 tanh(w1 y0) + a2 tanh(w1 y1)). Test it with finite differences.",
    ),
}


# ---- 03: the adjoint ------------------------------------------------------------------------------------------------

CASES = ((2.0, 1.3, 1.5, 0.5), (1.0, 0.4, 2.0, -0.3), (-1.5, 2.0, 0.7, 0.1))
"""y0, alpha, T, y* at which functions of the student are tried."""


def _adjoint_closed_form(a):
    for y0, alpha, T, y_star in CASES:
        end = y0 * math.exp(-alpha * T) - y_star
        for t in (0.3 * T, 0.0, T):  # slips differ in the middle
            given = float(called(a, t, y0, alpha, T, y_star))
            right = end * math.exp(alpha * (t - T))
            if math.isclose(given, right, rel_tol=1e-6):
                continue
            if math.isclose(given, -right, rel_tol=1e-6):
                raise Wrong("The sign is wrong: a(T) = dL/dy(T) = y(T) - y*.")
            if math.isclose(given, end * math.exp(-alpha * (t - T)), rel_tol=1e-6):
                raise Wrong("You solved da/dt = -alpha a. The minus signs of -df/dy = -(-alpha) cancel: da/dt = +alpha a.")
            if math.isclose(given, end * math.exp(alpha * t), rel_tol=1e-6):
                raise Wrong("The condition holds at the end, a(T) = y(T) - y*: the exponent is alpha (t - T).")
            if math.isclose(given, end, rel_tol=1e-6):
                raise Wrong("That is a(T), and a changes with t.")
            raise Wrong(
                f"At t = {t:g}, y0 = {y0:g}, alpha = {alpha:g}, T = {T:g}, y* = {y_star:g} it gives {given:.6g}, "
                "which is not dL/dy(t)."
            )
    return "a(t) = (y0 exp(-alpha T) - y*) exp(alpha (t - T))."


def _gradient_alpha(g):
    for y0, alpha, T, y_star in CASES:
        end = y0 * math.exp(-alpha * T)
        given, right = float(called(g, y0, alpha, T, y_star)), -(end - y_star) * T * end
        if math.isclose(given, right, rel_tol=1e-6):
            continue
        if math.isclose(given, -right, rel_tol=1e-6):
            raise Wrong("The sign is wrong: df/dalpha = -y, and the integral from 0 to T comes with a plus.")
        if math.isclose(given, right / T, rel_tol=1e-6):
            raise Wrong("A factor T is missing: the integrand is constant, the interval is T long.")
        if math.isclose(given, -(end - y_star) * T * y0, rel_tol=1e-6):
            raise Wrong("exp(-alpha T) is missing: a(t) y(t) = a(T) y(T) at every t.")
        raise Wrong(
            f"At y0 = {y0:g}, alpha = {alpha:g}, T = {T:g}, y* = {y_star:g} it gives {given:.6g}, not dL/dalpha. "
            "Differentiate L directly and compare."
        )
    return "dL/dalpha = -(y0 exp(-alpha T) - y*) T y0 exp(-alpha T)."


ADJOINT = {
    "adjoint-closed-form": Exercise(
        _adjoint_closed_form,
        "a function a(t, y0, alpha, T, y_star)",
        "da/dt = -a df/dy = alpha a, with a(T) = y(T) - y*.",
    ),
    "gradient-alpha": Exercise(
        _gradient_alpha,
        "a function of (y0, alpha, T, y_star)",
        "The integral of a(t) (-y(t)) from 0 to T; a(t) y(t) does not depend on t.",
    ),
    "adjoint-memory": Exercise(
        Choice(
            "b",
            {
                "a": "The parameters do not change from step to step: they are stored once, p, not N p.",
                "b": "States for each step, parameters once; the continuous adjoint keeps the current state only.",
                "c": "The first is right. The continuous adjoint solves y backwards again and keeps no path.",
                "d": "The other way round.",
            },
        ),
        "a letter",
        "What differs from step to step must be kept for each step.",
    ),
}


# ---- 04 to 08: code lab, depth, approximation, order ----------------------------------------------------------------


def _code_lab(theta):
    from pynode.engine.objective import Objective
    from pynode.fields.make import mlp

    f, lab = mlp(1, (8,)), code_lab()
    theta = numbers(theta, (f.n_params,), "theta, 25 numbers")
    loss = Objective(f, lab.y0, lab.t, lab.noisy, method="euler", step=0.05).value(theta)
    y = np.linspace(-1, 1, 21)
    off = float(np.abs(f(0.0, y[:, None], theta)[:, 0] + 2 * y).max())
    if not loss < 1e-3:
        raise Wrong(f"The loss is {loss:.2g}, not below 0.001. Train longer, or with another optimiser.")
    if not off < 0.3:
        raise Wrong(f"The loss, {loss:.2g}, is low enough, but the field is off by {off:.2g} somewhere in [-1, 1].")
    return f"Loss {loss:.2g} (variance of the noise: {0.02**2:g}), field within {off:.2g} of -2y."


def _resnet_orders(answer):
    if any(x is ... or x is None for x in np.atleast_1d(np.asarray(answer, dtype=object)).ravel()):
        raise Unanswered
    local, total = numbers(answer, (2,), "a pair of numbers")
    if (local, total) == (2, 1):
        return "Local O(1/N^2), and N of them: global O(1/N)."
    if (local, total) == (1, 2):
        raise Wrong("The other way round: the error of one layer is the smaller one.")
    if local == 1:
        raise Wrong("Euler keeps the term with dt; the first it drops has dt squared.")
    if (local, total) == (2, 2):
        raise Wrong("Local is right. But there are N = 1/dt layers, and their errors add up.")
    raise Wrong("Expand the exact solution in dt: which is the first power that h + dt f(h) misses?")


def _resnet_depth():
    return next(n for n in range(3, 10_000) if abs((1 - 2 / n) ** n - math.exp(-2)) < 1e-3)


def _rk4_error(h):
    factor = sum((-2 * h) ** k / math.factorial(k) for k in range(5))
    return abs(factor ** round(1 / h) - math.exp(-2))


def _approximate_pendulum(field):
    side = np.linspace(-3, 3, 97)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    given = called(field, points, shape=points.shape, what="velocities, one row a point")
    error = float(np.linalg.norm(given - np.stack([points[:, 1], -np.sin(points[:, 0])], axis=1), axis=1).max())
    if error == 0:
        raise Wrong("That is the pendulum itself; a network was asked for.")
    if error < 0.02:
        return f"The largest error is {error:.2g}."
    at_centre = np.abs(points).max(axis=1) < 2
    inside = np.linalg.norm((given - np.stack([points[:, 1], -np.sin(points[:, 0])], axis=1))[at_centre], axis=1).max()
    if inside < 0.02:
        raise Wrong(
            f"Good in the middle, but near the edge of [-3, 3]^2 the error is {error:.2g}: train on all of the square."
        )
    raise Wrong(f"The largest error is {error:.2g}, not below 0.02. More iterations, another seed, more units.")


LAB = {
    "code-lab": Exercise(_code_lab, "the trained theta", "pn.fit.lbfgs(objective, theta0).theta"),
    "resnet-orders": Exercise(_resnet_orders, "a pair (local, global)", "Taylor; then count the layers."),
    "resnet-depth": Exercise(
        Number(
            _resnet_depth,
            "{value} layers.",
            {"Two hundred and seventy is the estimate 2 exp(-2) / 0.001; now search exactly.": lambda: 271},
            rtol=1e-9,
        ),
        "a number of layers",
        "(1 - 2/N)^N against exp(-2): try N near 2 exp(-2) / 0.001.",
    ),
    "gronwall": Exercise(
        Number(
            lambda: 0.005 * math.expm1(2.0),
            "{value}.",
            {
                "The -1 is missing: both paths start at the same point.": lambda: 0.005 * math.exp(2.0),
                "Divide by the Lipschitz constant.": lambda: 0.01 * math.expm1(2.0),
                "That is the growth of a distance at the start; here the distance starts at 0.": lambda: (
                    0.01 * math.exp(2.0)
                ),
            },
        ),
        "a distance",
        "eps / L (exp(L t) - 1)",
    ),
    "approximate-pendulum": Exercise(
        _approximate_pendulum, "a function of points (n, 2)", "fit_field with another truth and another square."
    ),
    "euler-steps-to-match": Exercise(
        Number(
            lambda: 2 * math.exp(-2) / _rk4_error(0.1),
            "About {value} Euler steps for ten of RK4.",
            {
                "40 is the number of evaluations of RK4. Euler with 40 steps is far less accurate.": lambda: 40,
                "That is the answer for h = 0.05; here h = 0.1.": lambda: 2 * math.exp(-2) / _rk4_error(0.05),
            },
            rtol=0.05,
        ),
        "a number of steps",
        "Euler's error is about 2 exp(-2) / N. Set it equal to RK4's.",
    ),
}


# ---- 09 to 13 -------------------------------------------------------------------------------------------------------


def _rollout_errors(predict, truth, starts, t):
    """Mean squared error of the student's rollout from each start, against the true field."""
    from pynode.calls.solve import solve

    errors = []
    for y0 in starts:
        given = called(predict, t, np.array(y0), shape=(len(t), 2), what="states, one row a time")
        exact = solve(truth, y0, t, method="dop853", rtol=1e-10, atol=1e-10).y
        errors.append(float(np.mean((given - exact) ** 2)))
    return np.array(errors)


def _oscillator(predict):
    from pynode.fields.make import field

    @field(state=2)
    def truth(t, y):
        return [y[1], -y[0] - 0.5 * y[1]]

    errors = _rollout_errors(predict, truth, ([-1.0, 0.0], [0.7, 0.7], [0.3, -0.8]), np.linspace(0, 4, 41))
    if errors.max() < 1e-4:
        return f"Held-out mean squared errors up to {errors.max():.1e}."
    if errors.min() < 1e-4:
        raise Wrong(
            f"Errors {errors.min():.1e} to {errors.max():.1e}: good from some starts only. Did you train on all three?"
        )
    raise Wrong(f"The held-out errors are {errors.min():.1e} to {errors.max():.1e}, not below 1e-4. Train longer.")


RATES = (0.001, 0.005, 0.01, 0.05, 0.1)


def _final_losses(epochs=120):
    from pynode.engine.objective import Objective
    from pynode.fields.make import mlp

    f, lab = mlp(1, (8,)), code_lab()
    objective, losses = Objective(f, lab.y0, lab.t, lab.noisy, method="euler", step=0.05), {}
    for rate in RATES:
        theta = f.init(0)
        for _ in range(epochs):
            theta = theta - rate * objective(theta)[1]
        losses[rate] = objective.value(theta)
    return losses


def _learning_rates(answer):
    if not isinstance(answer, dict) or set(answer) != set(RATES):
        raise Wrong(f"The answer is a dictionary with the keys {', '.join(map(str, RATES))}.")
    if any(value is ... or value is None for value in answer.values()):
        raise Unanswered
    right, before = _final_losses(), _final_losses(119)
    for rate in RATES:
        given = float(numbers(answer[rate]))
        if math.isclose(given, right[rate], rel_tol=2e-3):
            continue
        if math.isclose(given, before[rate], rel_tol=2e-3):
            raise Wrong(f"At {rate:g} that is the loss before the last update.")
        raise Wrong(f"At {rate:g} the loss is not {given:.4g}. Seed 0? 120 epochs? Plain gradient descent?")
    return "The loss falls all the way to 0.1: these rates are all stable, the small ones are unfinished."


def _scalar_gradient(factor=1.0):
    """dL/dtheta of the exercise: discrete adjoint at a tolerance of 1e-12."""
    from pynode.calls.loss_and_grad import loss_and_grad
    from pynode.fields.make import field

    @field(state=1, theta={"w1": 0.8, "b1": -0.2, "w2": -1.0, "b2": 0.3})
    def f(t, y, th):
        return th.w2 * np.tanh(th.w1 * y + th.b1) + th.b2

    options = {"loss": "sse", "method": "dop853", "rtol": 1e-12, "atol": 1e-13}
    return factor * loss_and_grad(f, [1.5], [0.0, 2.0], f.init(), [[np.nan], [0.5]], **options).theta


def _scalar_adjoint(answer):
    given, right = numbers(answer, (4,), "four numbers (w1, b1, w2, b2)"), _scalar_gradient(0.5)
    if np.allclose(given, right, rtol=2e-4):
        return "dL/d(w1, b1, w2, b2) = " + ", ".join(f"{x:.6f}" for x in right) + "."
    if np.allclose(given, 2 * right, rtol=2e-3):
        raise Wrong("Twice too large: the loss has a factor 1/2.")
    if np.allclose(given, -right, rtol=2e-3):
        raise Wrong("All signs are turned round: the integral for theta has a plus from 0 to T.")
    if np.allclose(np.sort(given), np.sort(right), rtol=2e-3):
        raise Wrong("The right numbers in another order: w1, b1, w2, b2.")
    off = [
        name
        for name, a, b in zip(("w1", "b1", "w2", "b2"), given, right, strict=True)
        if not math.isclose(a, b, rel_tol=2e-3)
    ]
    raise Wrong(f"Not right: {', '.join(off) or 'the fourth digit; take more steps'}.")


def _curriculum(theta):
    from pynode.engine.objective import Objective
    from pynode.fields.make import mlp

    f, lab = mlp(1, (8,)), code_lab(end=2.0)
    loss = Objective(f, lab.y0, lab.t, lab.noisy, method="rk4", step=0.05).value(numbers(theta, (f.n_params,), "25 numbers"))
    if loss < 4.5e-4:
        return f"Loss {loss:.3g} over the full interval."
    short = Objective(f, lab.y0, lab.t[:11], lab.noisy[:, :11], method="rk4", step=0.05).value(np.asarray(theta, float))
    if short < 5.5e-4:
        raise Wrong(f"Loss {loss:.2g} on the full interval, {short:.2g} on the first half second: go on with longer stages.")
    raise Wrong(f"Loss {loss:.2g}, not below 0.00045. More epochs a stage?")


PRACTICE = {
    "oscillator": Exercise(_oscillator, "a function predict(t, y0)", "lambda t, y0: pn.solve(f, y0, t, theta).y"),
    "learning-rates": Exercise(_learning_rates, "a dictionary {rate: final loss}", "The loss after the last update."),
    "stable-rate": Exercise(
        Number(
            lambda: 0.04,
            "{value} = 2 / 50.",
            {
                "1 / 50 is the rate that jumps straight to the bottom; twice that is still stable.": lambda: 0.02,
                "That is the limit of the flattest direction; the steepest one sets it.": lambda: 10.0,
                "That is the limit of the middle direction.": lambda: 2 / 3,
            },
        ),
        "a learning rate",
        "|1 - eta lambda| < 1 for every curvature.",
    ),
    "scalar-adjoint": Exercise(_scalar_adjoint, "four numbers", "adjoint_by_hand with other constants."),
    "curriculum": Exercise(_curriculum, "the final theta", "Stages of 100 epochs: 0.5, 1, 1.5, 2 s."),
}


# ---- 16: the capstone -----------------------------------------------------------------------------------------------


def _limit_cycle(x, h):
    """Largest |x| and period of samples at distance h; upward zeros by straight lines between samples."""
    up = np.flatnonzero((x[:-1] < 0) & (x[1:] >= 0))
    if len(up) < 3:
        raise Wrong("Between 30 and 60 s your model does not oscillate: no limit cycle. Was it trained on whole runs?")
    return np.abs(x).max(), np.diff(up - x[up] / (x[up + 1] - x[up])).mean() * h


def _capstone(predict):
    from pynode import datasets
    from pynode.calls.solve import solve

    truth = datasets.van_der_pol().field
    starts = ([0.5, 0.5], [-2.0, 1.0], [1.5, -2.0], [2.5, 2.0], [-0.3, -2.4])
    median = float(np.median(_rollout_errors(predict, truth, starts, np.linspace(0, 10, 101))))
    t = np.linspace(0, 60, 12001)
    right = _limit_cycle(solve(truth, [0.5, 0.0], t, rtol=1e-10, atol=1e-10).y[6000:, 0], t[1])
    found = _limit_cycle(
        called(predict, t, np.array([0.5, 0.0]), shape=(len(t), 2), what="states, one row a time")[6000:, 0], t[1]
    )
    if median < 1e-8:
        raise Wrong("So exact can only the true equation be, after noise of 0.05. Hand in the model.")
    told = (
        f"Median held-out MSE {median:.2g}, amplitude {found[0]:.4f} (true {right[0]:.4f}), "
        f"period {found[1]:.4f} s (true {right[1]:.4f} s)."
    )
    if median >= 0.0025:
        raise Wrong(told + " The error is above the variance of the noise: train on.")
    if abs(found[0] / right[0] - 1) > 0.02 or abs(found[1] / right[1] - 1) > 0.01:
        raise Wrong(
            told + " Trajectories are good; the limit cycle is not: are the outer runs fitted as well as the inner ones?"
        )
    return told


CAPSTONE = {
    "capstone": Exercise(_capstone, "a function predict(t, y0)", "model.predict of a pn.NeuralODE fitted to data.train."),
}


# ---- 12 and 14: adaptive depth, the agent's view --------------------------------------------------------------------


def _depth(y0, threshold, after=False):
    """Euler steps of 0.05 s on y' = -2 y until |f| < threshold, tested before each step (or, wrongly, after it)."""
    y, n = y0, 0
    while abs(2 * y) >= threshold or (after and n == 0):
        y, n = 0.9 * y, n + 1
    return n


def _adaptive_depth(depth):
    for y0, threshold in ((1.0, 0.1), (-3.0, 0.01), (0.04, 0.1), (0.5, 1.0), (2.0, 1e-6)):
        given, right = float(called(depth, y0, threshold)), _depth(y0, threshold)
        if given == right:
            continue
        at = f"depth({y0:g}, {threshold:g}) gives {given:g}, not {right}."
        if y0 < 0 and given == 0:
            raise Wrong(at + " Take the absolute value of f.")
        if given == _depth(y0, threshold, after=True):
            raise Wrong(at + " Test before the step: a start that is slow already takes none.")
        if abs(given - right) == 1:
            raise Wrong(at + " One off: count steps taken, and stop as soon as |f| < threshold.")
        if y0 == 1.0 and given == next(n for n in range(1000) if 0.9**n < threshold):
            raise Wrong(at + " The velocity is 2|y|, not |y|.")
        raise Wrong(at)
    return "It counts right, for slow and for negative starts too."


def _policy_cost(k, T=2.0):
    return (1 + k**2 / 2) * -math.expm1(-2 * k * T) / (2 * k)


def _policy_gradient(k=1.0):
    """By central differences of the closed form, order 4."""
    h = 1e-3
    a, b = (
        (_policy_cost(k + h) - _policy_cost(k - h)) / (2 * h),
        (_policy_cost(k + 2 * h) - _policy_cost(k - 2 * h)) / (4 * h),
    )
    return (4 * a - b) / 3


AGENT = {
    "adaptive-depth": Exercise(
        _adaptive_depth, "a function depth(y0, threshold)", "while abs(f(y)) >= threshold: step, and count."
    ),
    "policy-gradient": Exercise(
        Number(
            _policy_gradient,
            "dJ/dk = {value}.",
            {
                "That is J itself, not its derivative.": lambda: _policy_cost(1.0),
                "That is the gradient at k = 0.7.": lambda: _policy_gradient(0.7),
            },
        ),
        "dJ/dk at k = 1",
        "Central differences of J(k).",
    ),
}


# ---- 06 and 15: topology, latent ODEs -----------------------------------------------------------------------------------


def _classify_ring(classify):
    rng, angle = np.random.default_rng(7), np.linspace(0, 2 * np.pi, 2001)
    radius = np.sqrt(np.concatenate([rng.uniform(0, 0.25, 1000), rng.uniform(1, 2.25, 2000)]))
    at = rng.uniform(0, 2 * np.pi, 3000)
    points = radius[:, None] * np.stack([np.cos(at), np.sin(at)], axis=1)
    circle = 1.25 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    given = called(classify, points, shape=(3000,), what="a class for each point")
    right = float(np.mean(given == (radius > 0.75)))
    on_circle = called(classify, circle, shape=(2001,), what="a class for each point")
    if right < 0.5:
        raise Wrong(f"Only {100 * right:.1f} % are right: are the classes swapped? 0 is the disk, 1 the ring.")
    if right < 0.999:
        raise Wrong(f"{100 * right:.2f} % of fresh points are right. Train longer, or augment.")
    if not on_circle.all():
        wrong = np.degrees(angle[np.argmin(on_circle)])
        raise Wrong(
            f"{100 * right:.2f} % are right, but the ring is cut at {wrong:.0f} degrees: a plain flow must. Augment."
        )
    return f"{100 * right:.2f} % of fresh points, and all of the circle."


TOPOLOGY = {
    "disk-annulus": Exercise(
        Choice(
            "b",
            {
                "a": "Flows may stretch: area is no obstacle.",
                "b": "A flow is a homeomorphism, and those preserve simple connectedness.",
                "c": "They can: only rotations and shifts keep lengths.",
                "d": "A bounded field moves points a bounded way, but that is not why: a larger field would not help.",
            },
        ),
        "a letter",
        "What does every homeomorphism preserve?",
    ),
    "classify-ring": Exercise(
        _classify_ring, "a function classify(points)", "augment=1, and model.predict(points) == 'ring'."
    ),
    "kl-gaussian": Exercise(
        Number(
            lambda: 0.5 * (1 + 0.25 - 1 - math.log(0.25)),
            "{value} nats.",
            {
                "The factor 1/2 is missing.": lambda: 1 + 0.25 - 1 - math.log(0.25),
                "ln sigma in place of ln sigma^2.": lambda: 0.5 * (1 + 0.25 - 1 - math.log(0.5)),
                "sigma in place of sigma^2.": lambda: 0.5 * (1 + 0.5 - 1 - math.log(0.25)),
                "That is in bits.": lambda: 0.5 * (1 + 0.25 - 1 - math.log(0.25)) / math.log(2),
            },
        ),
        "a number of nats",
        "(mu^2 + sigma^2 - 1 - ln sigma^2) / 2",
    ),
}


EXERCISES = {
    "quickstart-period": Exercise(
        Number(
            _small_swing_period,
            "About {value} s.",
            {
                "That is half a period: count crossings in one direction only.": lambda: _small_swing_period() / 2,
                "That is the angular frequency (rad/s), not the period.": lambda: math.sqrt(4.0 - 0.125**2),
                "That is the frequency (1/s), not the period.": lambda: 1 / _small_swing_period(),
            },
            rtol=0.03,
        ),
        "the period in seconds",
        "Predict from [0.05, 0] on a fine grid, find where the angle crosses zero downwards, take differences.",
    ),
    "order-of-heun": Exercise(
        _order_of_heun, "the slope of log(error) against log(h)", "np.polyfit(np.log(h), np.log(errors), 1)[0]"
    ),
    "euler-stability": Exercise(
        Number(
            lambda: 1.0,
            "At h = {value} s Euler's factor 1 - 2h is -1: the solution alternates for ever, beyond it grows.",
            {"There the factor 1 - 2h is 0: the solution is 0 after one step, still stable.": lambda: 0.5},
        ),
        "a step in seconds",
        "Solve |1 - 2h| = 1.",
    ),
    **WORKED,
    **ADJOINT,
    **LAB,
    **PRACTICE,
    **AGENT,
    **TOPOLOGY,
    **CAPSTONE,
}
