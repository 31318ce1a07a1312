"""diffrax and optax, on the CPU."""

import os
import sys
from functools import cache, partial
from pathlib import Path

THREADS = os.environ["OMP_NUM_THREADS"]
os.environ["PJRT_NPROC"] = THREADS
if THREADS == "1":
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import diffrax as dx  # noqa: E402  (JAX reads the variables when it is imported)
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from cases import layers, windows  # noqa: E402
from stiff_problems import RTOL, Ways  # noqa: E402
from systems_nets import Windows  # noqa: E402

REQUIREMENTS = ["jax", "diffrax", "optax", "numpy"]

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)


class RK4(dx.AbstractERK):
    """The classical method, which diffrax lacks."""

    tableau = dx.ButcherTableau(
        a_lower=(np.array([0.5]), np.array([0, 0.5]), np.array([0, 0, 1.0])),
        b_sol=np.array([1 / 6, 1 / 3, 1 / 3, 1 / 6]),
        b_error=np.zeros(4),
        c=np.array([0.5, 0.5, 1.0]),
    )
    interpolation_cls = dx.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms):
        return 4


SOLVERS = {"euler": dx.Euler, "rk4": RK4, "dopri5": dx.Dopri5}


def network(t, y, weights):
    for W, b in weights[:-1]:
        y = jnp.tanh(y @ W.T + b)
    W, b = weights[-1]
    return y @ W.T + b


def variants(case):
    weights, y0, t, target = jax.tree.map(jnp.asarray, tuple(case.arrays()))
    term = dx.ODETerm(lambda t, y, weights: network(t, y**3 if case.cubic else y, weights))
    control = dx.ConstantStepSize() if case.step else dx.PIDController(rtol=case.rtol, atol=case.atol)
    step = None if case.step is None else jnp.asarray(case.step, t.dtype)

    def solve(weights, y0, adjoint):
        saveat = dx.SaveAt(ts=t)
        solver = SOLVERS[case.method]()
        solution = dx.diffeqsolve(
            term, solver, t[0], t[-1], step, y0, weights, saveat=saveat, stepsize_controller=control, adjoint=adjoint
        )
        return solution.ys

    def each(weights, y0, adjoint):
        return jax.vmap(lambda y: solve(weights, y, adjoint), out_axes=1)(y0)

    discrete, backsolve = dx.RecursiveCheckpointAdjoint(), dx.BacksolveAdjoint()
    named = {"one step size": (solve, discrete), "one step size, backsolve": (solve, backsolve)}
    if case.batch > 1:
        named = {"vmap": (each, discrete), "vmap, backsolve": (each, backsolve)} | named
    for name, (states, adjoint) in named.items():
        forward = jax.jit(partial(states, adjoint=adjoint)) if adjoint is discrete else None
        gradient = jax.jit(
            jax.value_and_grad(lambda w, states=states, adjoint=adjoint: jnp.mean((states(w, y0, adjoint) - target) ** 2))
        )
        yield (
            name,
            forward and (lambda f=forward: f(weights, y0).block_until_ready()),
            lambda g=gradient: jax.block_until_ready(g(weights)),
        )


def mixed(mu, y0, t):
    """(states (256, 2) at the last time, a call that solves), a step size for each sample."""
    term = dx.ODETerm(lambda t, y, mu: jnp.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]]))
    control, saveat = dx.PIDController(rtol=1e-6, atol=1e-8), dx.SaveAt(ts=t)

    @jax.jit
    @jax.vmap
    def solve(mu, y):
        solution = dx.diffeqsolve(
            term, dx.Dopri5(), 0.0, t[-1], None, y, mu, saveat=saveat, stepsize_controller=control, max_steps=100_000
        )
        return solution.ys

    mu, y0 = jnp.asarray(mu), jnp.asarray(y0)
    return np.asarray(solve(mu, y0))[:, -1], lambda: solve(mu, y0).block_until_ready()


def stiff(problem):
    """Kvaerno5, with the controller that its documentation recommends for stiff problems."""
    jax.config.update("jax_compilation_cache_dir", str(Path(sys.prefix) / "compiled"))  # compiling is not measured here
    y0, weights = jnp.array(problem.y0), jnp.array(problem.weights)
    batch = jnp.array(problem.samples)
    if problem.arrays:
        term = dx.ODETerm(lambda t, y, p: problem.arrays(jnp, t, y, p))
    else:
        term = dx.ODETerm(lambda t, y, p: jnp.stack([jnp.asarray(rate) for rate in problem.f(jnp, t, y, p)]))

    @partial(jax.jit, static_argnames="most")
    def solve(p, rtol, atol, most=16384):
        control = dx.PIDController(rtol=rtol, atol=atol, pcoeff=0.3, icoeff=0.4)
        options = {"stepsize_controller": control, "saveat": dx.SaveAt(t1=True), "max_steps": most, "throw": False}
        found = dx.diffeqsolve(term, dx.Kvaerno5(), 0.0, problem.end, None, y0, p, **options)
        good = found.result == dx.RESULTS.successful
        return jnp.where(good, found.ys[0], jnp.nan), found.stats["num_steps"]

    def one(rtol):
        p, atol = jnp.array(problem.p), jnp.array(problem.atol_at(rtol))

        def call():
            end, steps = jax.block_until_ready(solve(p, rtol, atol, most=65536))
            return np.asarray(end), int(steps)

        return call

    def end(p):
        return solve(p, RTOL, jnp.array(problem.atol))[0]

    @cache
    def compiled(what):
        function = end if what == "forward" else jax.grad(lambda p: jnp.sum((weights * end(p)) ** 2))
        return jax.jit(jax.vmap(function)).lower(batch).compile()

    return {"Kvaerno5": Ways(one, *(lambda w=what: np.asarray(compiled(w)(batch)) for what in ("forward", "gradient")))}


def rollout(weights, y0, t, tolerance):
    control, saveat, term = dx.PIDController(rtol=tolerance, atol=tolerance), dx.SaveAt(ts=t), dx.ODETerm(network)
    solution = dx.diffeqsolve(term, dx.Dopri5(), t[0], t[-1], None, y0, weights, saveat=saveat, stepsize_controller=control)
    return solution.ys


predicted = jax.jit(partial(rollout, tolerance=1e-6))
ADAM = optax.adam(1e-2)


@jax.jit
def adam_step(weights, state, y0, t, target):
    gradient = jax.grad(lambda w: jnp.mean((rollout(w, y0, t, 1e-4)[1:] - target) ** 2))(weights)
    update, state = ADAM.update(gradient, state)
    return optax.apply_updates(weights, update), state


def fit(data, steps, report):
    """Adam on windows of 10 intervals, each from its first, noisy, state."""
    weights, cut = jax.tree.map(jnp.asarray, layers(data)), jnp.asarray(windows(data["noisy"]))
    t, y0, target = jnp.asarray(data["t"][: cut.shape[1]]), cut[:, 0], cut[:, 1:].swapaxes(0, 1)
    state = ADAM.init(weights)
    for step in range(1, steps + 1):
        weights, state = adam_step(weights, state, y0, t, target)
        if step % 50 == 0 or step == steps:
            jax.block_until_ready(weights)
            report(step, lambda t, y0, w=weights: (np.swapaxes(predicted(w, y0, t), 0, 1), None))


def systems(data, steps):
    """predict(t, y0 (n, d), u (n, T, m) or None) -> (n, T, d): a network trained by Adam on windows of 10 intervals."""
    own = Windows(data)
    weights = jax.tree.map(jnp.asarray, own.weights)
    t = jnp.asarray(own.t)
    y0 = jnp.asarray(own.start)
    target = jnp.asarray(own.target)
    u = None if own.u is None else jnp.asarray(own.u.swapaxes(0, 1))

    def solve(weights, y0, t, u, tolerance):
        def slope(x, y, weights):
            if u is None:
                return network(x, y, weights)
            part = (x - t[0]) / (t[1] - t[0])
            k = jnp.clip(part.astype(int), 0, len(t) - 2)
            between = (k + 1 - part) * u[k] + (part - k) * u[k + 1]
            return network(x, jnp.concatenate([y, between], axis=-1), weights)

        control = dx.PIDController(rtol=tolerance, atol=tolerance)
        options = {"saveat": dx.SaveAt(ts=t), "stepsize_controller": control, "throw": False}
        return dx.diffeqsolve(dx.ODETerm(slope), dx.Dopri5(), t[0], t[-1], None, y0, weights, **options).ys

    @jax.jit
    def step(weights, state):
        gradient = jax.grad(lambda w: jnp.mean((solve(w, y0, t, u, 1e-4)[1:] - target) ** 2))(weights)
        update, state = ADAM.update(gradient, state)
        return optax.apply_updates(weights, update), state

    state = ADAM.init(weights)
    for _ in range(steps):
        weights, state = step(weights, state)
    jax.block_until_ready(weights)
    rollout = jax.jit(jax.vmap(partial(solve, tolerance=1e-6), in_axes=(None, 0, None, None if u is None else 0)))

    def predict(t, y0, u):
        z = rollout(weights, jnp.asarray(own.scaled(y0)), jnp.asarray(t / own.unit), None if u is None else jnp.asarray(u))
        return own.back(np.asarray(z))

    return predict
