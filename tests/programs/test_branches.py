"""Derivatives on branches that are not taken, and of norms at 0: what is not used has no derivative, not NaN.

The references are written so that every number in them is finite: numpy.where inside and outside ("double where").
"""

import numpy as np
import pytest

import pynode as pn
from pynode.programs.builder import Builder
from pynode.programs.derivatives import pullback, pushforward
from pynode.programs.program import OPS, SAME

INF = np.inf
NAN = np.nan
NET = pn.mlp(2, (4,), 2, activation="tanh")
SIGMOID = pn.mlp(2, (4,), 2, activation="sigmoid")
W = NET.init(0)


def clean(x, good, other=1.0):
    """x where it is good, a harmless number elsewhere."""
    return np.where(good, x, other)


def entropy(x):
    return np.where(x > 0, x * np.log(x), 0.0)


# name -> (function of y (2), the same with all numbers finite, y)
PAIRS = {
    "sqrt": (
        lambda y: np.where(y > 0, np.sqrt(y), 0.0),
        lambda y: np.where(y > 0, np.sqrt(clean(y, y > 0)), 0.0),
        [0.0, 4.0],
    ),
    "sqrt of a negative": (
        lambda y: np.where(y > 0, np.sqrt(y), y),
        lambda y: np.where(y > 0, np.sqrt(clean(y, y > 0)), y),
        [-1.0, 4.0],
    ),
    "log": (lambda y: np.where(y > 0, np.log(y), 0.0), lambda y: np.where(y > 0, np.log(clean(y, y > 0)), 0.0), [0.0, 2.0]),
    "log1p": (
        lambda y: np.where(y > -1, np.log1p(y), 0.0),
        lambda y: np.where(y > -1, np.log1p(clean(y, y > -1)), 0.0),
        [-1.0, -3.0],
    ),
    "x log x": (entropy, lambda y: np.where(y > 0, clean(y, y > 0) * np.log(clean(y, y > 0)), 0.0), [0.0, 0.5]),
    "division": (
        lambda y: np.where(y != 0, np.sin(y) / y, 1.0),
        lambda y: np.where(y != 0, np.sin(clean(y, y != 0)) / clean(y, y != 0), 1.0),
        [0.0, 0.7],
    ),
    "reciprocal": (
        lambda y: np.where(y != 0, np.reciprocal(y) * y[1], y),
        lambda y: np.where(y != 0, np.reciprocal(clean(y, y != 0)) * y[1], y),
        [0.0, 0.7],
    ),
    "power": (lambda y: np.where(y > 0, y**0.3, 0.0), lambda y: np.where(y > 0, clean(y, y > 0) ** 0.3, 0.0), [0.0, -2.0]),
    "traced power": (
        lambda y: np.where(y[0] > 0, y[0] ** y[1], 0.0) + y,
        lambda y: np.where(y[0] > 0, clean(y[0], y[0] > 0) ** y[1], 0.0) + y,
        [-1.0, 0.5],
    ),
    "exp": (
        lambda y: np.where(y < 100, np.exp(y), y * y),
        lambda y: np.where(y < 100, np.exp(clean(y, y < 100)), y * y),
        [800.0, 1.0],
    ),
    "expm1": (
        lambda y: np.where(y > 0, y, np.expm1(y)),
        lambda y: np.where(y > 0, y, np.expm1(clean(y, y <= 0))),
        [800.0, -1.0],
    ),
    "arcsin": (
        lambda y: np.where(np.abs(y) < 1, np.arcsin(y), 2.0 * y),
        lambda y: np.where(np.abs(y) < 1, np.arcsin(clean(y, np.abs(y) < 1, 0.0)), 2.0 * y),
        [1.0, 3.0],
    ),
    "arccos": (
        lambda y: np.where(np.abs(y) < 1, np.arccos(y), 2.0 * y),
        lambda y: np.where(np.abs(y) < 1, np.arccos(clean(y, np.abs(y) < 1, 0.0)), 2.0 * y),
        [-1.0, 3.0],
    ),
    "arctanh": (
        lambda y: np.where(np.abs(y) < 1, np.arctanh(y), 2.0 * y),
        lambda y: np.where(np.abs(y) < 1, np.arctanh(clean(y, np.abs(y) < 1, 0.0)), 2.0 * y),
        [1.0, 3.0],
    ),
    "arctan of 1/x": (
        lambda y: np.where(y != 0, np.arctan(y[1] / y), y),
        lambda y: np.where(y != 0, np.arctan(y[1] / clean(y, y != 0)), y),
        [0.0, 3.0],
    ),
    "sine of 1/x": (
        lambda y: np.where(y != 0, y * np.sin(1 / y) + np.cos(1 / y), 0.0),
        lambda y: np.where(y != 0, y * np.sin(1 / clean(y, y != 0)) + np.cos(1 / clean(y, y != 0)), 0.0),
        [0.0, 0.2],
    ),
    "functions of 1/x": (
        lambda y: np.where(y != 0, np.tanh(1 / y) + pn.sigmoid(1 / y) + pn.softplus(1 / y) + pn.erf(1 / y), 0.0),
        lambda y: np.where(y != 0, sum(f(1 / clean(y, y != 0)) for f in (np.tanh, pn.sigmoid, pn.softplus, pn.erf)), 0.0),
        [0.0, 0.2],
    ),
    "relu and abs of log": (
        lambda y: np.where(y > 0, pn.relu(np.log(y)) + np.abs(np.log(y)) + np.log(y) ** 2, y),
        lambda y: np.where(
            y > 0, pn.relu(np.log(clean(y, y > 0))) + np.abs(np.log(clean(y, y > 0))) + np.log(clean(y, y > 0)) ** 2, y
        ),
        [-1.0, 0.2],
    ),
    "maximum": (
        lambda y: np.sqrt(np.maximum(y, 0.0) + (y < 0.5)),
        lambda y: np.where(y < 0.5, np.sqrt(1 + np.maximum(y, 0.0)), np.sqrt(clean(y, y >= 0.5))),
        [-0.5, 4.0],
    ),
    "product with a mask": (
        lambda y: (y > 0) * np.sqrt(np.abs(y)) + y,
        lambda y: (y > 0) * np.sqrt(np.abs(clean(y, y > 0))) + y,
        [0.0, 4.0],
    ),
    "network": (
        lambda y: np.where(y[0] > 0, NET.bind(W)(np.log(y)), y),
        lambda y: np.where(y[0] > 0, NET.bind(W)(np.log(clean(y, y > 0))), y),
        [0.0, -1.0],
    ),
    "network of logistic functions": (
        lambda y: np.where(y[0] > 0, SIGMOID.bind(W)(np.log(y)), y),
        lambda y: np.where(y[0] > 0, SIGMOID.bind(W)(np.log(clean(y, y > 0))), y),
        [0.0, -1.0],
    ),
    "matrix": (
        lambda y: np.where(y[0] > 0, np.outer(1 / y, y) @ np.log(y), y),
        lambda y: np.where(y[0] > 0, np.outer(1 / clean(y, y > 0), y) @ np.log(clean(y, y > 0)), y),
        [0.0, -1.0],
    ),
    "transposed matrix": (
        lambda y: np.where(y[0] > 0, np.log(y) @ np.outer(1 / y, y), y),
        lambda y: np.where(y[0] > 0, np.log(clean(y, y > 0)) @ np.outer(1 / clean(y, y > 0), y), y),
        [0.0, -1.0],
    ),
    "seed 0 by chance": (lambda y: y[1] * np.sqrt(y[0]) + y, lambda y: y, [0.0, 0.0]),
}


def derivatives(f, y):
    """Jacobian by columns and by rows; the Hessians of the components, forward over reverse and reverse over reverse."""
    y = np.array(y)
    g = [lambda x, i=i: f(x)[i] for i in range(2)]
    return {
        "jvp": np.stack([pn.jvp(f)(y, e) for e in np.eye(2)], axis=1),
        "vjp": np.stack([pn.vjp(f)(y, e).y for e in np.eye(2)]),
        "hvp": np.stack([[pn.hvp(h)(y, e) for e in np.eye(2)] for h in g]),
        "vjp of grad": np.stack([[pn.vjp(pn.grad(h))(y, e).y for e in np.eye(2)] for h in g]),
    }


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "seed 0 by chance"])
def test_branch_not_taken(name):
    f, reference, y = PAIRS[name]
    expected = derivatives(reference, y)
    for kind, found in derivatives(f, y).items():
        if "matrix" in name and kind == "vjp of grad":
            continue  # matrix products of infinite cotangents are not guarded
        assert np.isfinite(expected[kind]).all()
        np.testing.assert_allclose(found, expected[kind], rtol=1e-13, err_msg=kind)


@pytest.mark.parametrize("name", PAIRS)
def test_seed_of_zero(name):
    f, _, y = PAIRS[name]
    assert np.array_equal(pn.vjp(f)(y, [0.0, 0.0]).y, [0.0, 0.0])
    assert np.array_equal(pn.jvp(f)(y, [0.0, 0.0]), [0.0, 0.0])


BAD = [0.0, -1.0, 1.0, INF, -INF, NAN, 1e300]


@pytest.mark.parametrize("op", SAME)
def test_every_operation_keeps_a_seed_of_zero(op):
    """vjp and jvp at any numbers, where the operands may be infinite or NaN."""
    count = OPS[op]["operands"]
    b = Builder((1,) * count)
    x = [b.log(b.exp(r)) for r in b.slots]  # the rules know these as registers that may diverge
    program = b.finish([b.same(op, *x)])
    for mode in ("vjp", "jvp"):
        b = Builder((1,) * (count + 1))
        env = b.replay(program, b.slots[:count])
        at = [ins.a if ins.op == op else None for ins in program.instructions]
        assert at
        if mode == "vjp":
            found = pullback(b, program, env, [count], range(count))
        else:
            found = pushforward(b, program, env, [count] * count)
        derived = b.finish([b.full(1, 0.0) if r is None else r for r in found])
        grid = np.stack(np.meshgrid(*[BAD] * count), axis=-1).reshape(-1, count)
        slots = [np.ascontiguousarray(grid[:, [i]]) for i in range(count)]
        outputs, _ = derived.evaluate([*slots, np.zeros((len(grid), 1))], [np.empty(0)])
        for out in outputs:
            assert not out.any(), (mode, op)


# ---- Second derivatives where the seed, not the derivative, is 0


def test_second_derivative_at_a_cotangent_of_zero():
    """d^2 (b sqrt a) / da db = 1 / (2 sqrt a), also at b = 0, where the cotangent of the root is 0."""
    for f, expected in (
        (lambda y: y[1] * np.sqrt(y[0]), 1 / (2 * np.sqrt(3.0))),
        (lambda y: y[1] * np.log(y[0]), 1 / 3.0),
        (lambda y: y[1] / y[0], -1 / 9.0),
        (lambda y: y[1] * y[0] ** 0.3, 0.3 * 3.0**-0.7),
        (lambda y: y[1] * np.tanh(y[0]), 1 - np.tanh(3.0) ** 2),
        (lambda y: y[1] * pn.sigmoid(y[0]), pn.sigmoid(3.0) * (1 - pn.sigmoid(3.0))),
    ):
        assert pn.hvp(f)([3.0, 0.0], [0.0, 1.0])[0] == pytest.approx(expected, rel=1e-14)
        assert pn.vjp(pn.grad(f))([3.0, 0.0], [1.0, 0.0]).y[1] == pytest.approx(expected, rel=1e-14)


# ---- Norms

NORMS = {
    "np.linalg.norm": np.linalg.norm,
    "np.hypot": lambda y: np.hypot(y[0], y[1]),
    "sqrt of sum": lambda y: np.sqrt(np.sum(y * y)),
    "sqrt of product": lambda y: np.sqrt(y @ y),
    "sqrt of squares": lambda y: np.sqrt(y[0] ** 2 + y[1] ** 2),
    "power": lambda y: (y[0] ** 2 + y[1] ** 2) ** 0.5,
    "weighted": lambda y: np.sqrt(np.sum(y**2 / np.array([1.0, 4.0]) * 4.0)),
    "rows": lambda y: np.linalg.norm(np.stack([y, 2 * y]), axis=1)[0],
    "root of one square": lambda y: np.sqrt(y[0] ** 2),
    "scaled": lambda y: np.sqrt((y / 3) @ (y / 3)),
    "fourth powers": lambda y: np.sqrt(np.sum(y**4)),
    "absolute values": lambda y: np.linalg.norm(y, 1),
    "maximum": lambda y: np.linalg.norm(y, np.inf),
}


@pytest.mark.parametrize("name", NORMS)
def test_norm_at_zero(name):
    """The subgradient 0, for the norm and for what is made of it; the second derivative is 0 as well."""
    r = NORMS[name]
    zero = [0.0, 0.0]
    for f in (r, lambda y: 3.0 * r(y) + y[0] * r(y), lambda y: np.exp(r(y))):
        assert np.array_equal(pn.grad(f)(zero), zero)
        assert pn.jvp(f)(zero, [1.0, 2.0]) == 0
    if name not in ("absolute values", "maximum"):
        assert np.array_equal(pn.hvp(r)(zero, [1.0, 2.0]), zero)
        assert np.array_equal(pn.vjp(pn.grad(r))(zero, [1.0, 2.0]).y, zero)


@pytest.mark.parametrize("name", NORMS)
def test_norm_elsewhere(name):
    r = NORMS[name]
    y = np.array([0.3, -0.4])
    step = 1e-6
    differences = [(r(y + e) - r(y - e)) / (2 * step) for e in step * np.eye(2)]
    np.testing.assert_allclose(pn.grad(r)(y), differences, atol=1e-8)


def test_plain_roots_keep_their_infinite_slope():
    assert pn.grad(lambda y: np.sqrt(y[0]))([0.0]) == INF
    assert pn.grad(lambda y: y[0] ** 0.3)([0.0]) == INF
    assert pn.grad(lambda y: np.cbrt(y[0]))([0.0]) == INF
    assert np.isnan(pn.grad(lambda y: np.sqrt(y[0]))([-1.0]))
    assert np.isnan(pn.grad(lambda y: np.log(y[0]))([-1.0])) or pn.grad(lambda y: np.log(y[0]))([-1.0]) == -1.0


def test_logaddexp_where_its_arguments_are_equal():
    """log(e^x + e^y) has the derivatives s, 1 - s and s (1 - s), s = 1 / (1 + e^(y - x))."""

    def f(y):
        return np.logaddexp(y[0], y[1])

    assert np.array_equal(pn.grad(f)([1.0, 1.0]), [0.5, 0.5])
    assert np.array_equal(pn.hvp(f)([1.0, 1.0], [1.0, 0.0]), [0.25, -0.25])
    s = pn.sigmoid(-3.0)
    np.testing.assert_allclose(pn.grad(f)([-1.0, 2.0]), [s, 1 - s], rtol=1e-14)
    np.testing.assert_allclose(pn.hvp(f)([-1.0, 2.0], [1.0, 0.0]), [s * (1 - s), -s * (1 - s)], rtol=1e-14)


WIDE = np.outer([-1.0, 1.0], [0.0, 5e-324, 1e-300, 1e-12, 0.3, 8.0, 1e7, 1e9, 1e200, 1.7e308, INF]).ravel()


@pytest.mark.parametrize(
    ("function", "slope"), [(np.cbrt, lambda x: 1 / (3 * np.cbrt(x) ** 2)), (np.arcsinh, lambda x: 1 / np.hypot(1, x))]
)
def test_roots_and_logarithms_of_all_sizes(function, slope):
    f = pn.field(state=len(WIDE))(lambda t, y: function(y))
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(f(0.0, WIDE), function(WIDE), rtol=9e-16, atol=0)
        np.testing.assert_allclose(pn.grad(lambda y: np.sum(function(y)))(WIDE), slope(WIDE), rtol=2e-15, atol=0)


def test_hypot_of_infinities():
    f = pn.field(state=6, out=3)(lambda t, z: np.hypot(z[:3], z[3:]))
    inf = np.inf
    assert f(0.0, [inf, -inf, 2.0, inf, inf, -inf]).tolist() == [inf] * 3
    assert np.isnan(f(0.0, [2.0, np.nan, np.nan, np.nan, 2.0, np.nan])).all()


def test_hypot_of_all_sizes():
    x = np.array([0.0, 0.0, 3e-300, 3e-300, -3.0, 3e200, 1e308, 5e-324, INF, 0.0])
    y = np.array([1e-300, -1e200, 4e-300, 1e300, 0.0, -4e200, 1e308, 0.0, 1.0, -INF])
    both = np.concatenate([x, y])
    f = pn.field(state=20, out=10)(lambda t, z: np.hypot(z[:10], z[10:]))
    np.testing.assert_allclose(f(0.0, both), np.hypot(x, y), rtol=9e-16, atol=0)
    slopes = pn.grad(lambda z: np.sum(np.hypot(z[:10], z[10:])))(both)
    np.testing.assert_allclose(slopes.reshape(2, 10)[:, :7], np.array([x, y])[:, :7] / np.hypot(x, y)[:7], rtol=9e-16)
    assert np.array_equal(pn.hvp(lambda z: np.hypot(z[0], z[1]))([0.0, 2.0], [1.0, 0.0]), [0.5, 0.0])


def test_powers_of_absolute_values():
    for p, expected in ((1.0, 0.0), (1.5, 0.0), (2.5, 0.0)):
        assert pn.grad(lambda y, p=p: np.abs(y[0]) ** p)([0.0]) == expected
        f = pn.field(state=1, theta={"p": ()})(lambda t, y, th: np.abs(y) ** th.p)
        g = pn.vjp(f)(0.0, [0.0], [p], [1.0])
        assert g.y == 0 and g.theta == 0


# ---- What products cost: only those with numbers that may diverge are guarded


def test_plain_programs_have_no_guards():
    @pn.field(state=2, theta={"a": (), "b": (), "net": pn.mlp(2, (8,), 2)})
    def f(t, y, th):
        return np.stack([th.a * y[0] * y[1] / 3.0, -th.b * y[1] ** 2 * np.sin(y[0])]) + th.net(y)

    ops = {ins.op for ins in f.vjp_program.instructions}
    assert not ops & {"DMUL", "DDIV", "WHERE"}


# ---- Solves


def case(y0, theta, t=2.0):
    return np.array(y0, dtype=float), np.array(theta, dtype=float), np.linspace(0, t, 5)


@pn.field(state=2, theta={"k": 1.0})
def drag(t, y, th):
    return -th.k * y * np.sqrt(np.sum(y * y))


@pn.field(state=1, theta={"k": 1.0})
def torricelli(t, y, th):
    return np.where(y > 0, -th.k * np.sqrt(y), 0.0)


@pn.field(state=2, theta={"mu": 0.5, "k": 1.0})
def coulomb(t, y, th):
    q, v = y
    return [v, -th.k * q - th.mu * np.where(v != 0, v / np.abs(v), 0.0)]


@pn.field(state=4, theta={"g": 1.0})
def central(t, y, th):
    q = y[:2]
    r = np.linalg.norm(q)
    return np.concatenate([y[2:], -th.g * q * r - 0.1 * q * np.sqrt(q @ q) ** 1.5])


@pn.field(state=1, theta={"n": 2.5, "k": 0.5})
def hill(t, y, th):
    return -(y**th.n) / (th.k**th.n + y**th.n)


@pn.field(state=1, theta={"k": 1.0})
def gompertz(t, y, th):
    return np.where(y > 0, -th.k * y * np.log(y), 0.0)


SOLVES = {  # field, initial states (the first is the bad one), theta
    "drag": (drag, [[0.0, 0.0], [1.0, 0.5]], [1.2]),
    "torricelli": (torricelli, [[0.0], [9.0]], [0.7]),
    "coulomb": (coulomb, [[0.0, 0.0], [1.0, 3.0]], [0.3, 0.2]),
    "central": (central, [[0.0] * 4, [1.0, 0.0, 0.2, 0.7]], [0.8]),
    "hill": (hill, [[0.0], [1.0]], [2.5, 0.5]),
    "gompertz": (gompertz, [[0.0], [0.5]], [0.7]),
}


@pytest.mark.parametrize("adjoint", ["discrete", "backsolve", "interpolating"])
@pytest.mark.parametrize("name", SOLVES)
def test_one_sample_does_not_spoil_the_gradient(name, adjoint):
    f, y0, theta = SOLVES[name]
    y0, theta, t = case(y0, theta, 1.0)
    target = np.zeros((2, 5, f.d))
    options = {"adjoint": adjoint, "rtol": 1e-9, "atol": 1e-10, "reduction": "sum"}
    both = pn.loss_and_grad(f, y0, t, theta, target, wrt=("theta", "y0"), **options)
    good = pn.loss_and_grad(f, y0[1:], t, theta, target[1:], wrt=("theta", "y0"), **options)
    bad = pn.loss_and_grad(f, y0[:1], t, theta, target[:1], wrt=("theta", "y0"), **options)
    assert np.isfinite(both.theta).all() and np.isfinite(both.y0).all()
    assert not bad.theta.any()
    np.testing.assert_allclose(both.theta, good.theta, rtol=1e-9)
    np.testing.assert_allclose(both.y0[1:], good.y0, rtol=1e-9)
    if adjoint == "discrete":
        step = 1e-6
        loss = lambda th: pn.loss_and_grad(f, y0, t, th, target, **options).loss  # noqa: E731
        differences = [(loss(theta + e) - loss(theta - e)) / (2 * step) for e in step * np.eye(len(theta))]
        np.testing.assert_allclose(both.theta, differences, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", SOLVES)
def test_sensitivities(name):
    f, y0, theta = SOLVES[name]
    y0, theta, t = case(y0, theta, 1.0)
    s = pn.sensitivities(f, y0, t, theta)
    assert np.isfinite(s.theta).all() and np.isfinite(s.y0).all()


def test_one_of_a_hundred_samples():
    y0 = np.random.default_rng(0).normal(size=(100, 2))
    t = np.linspace(0, 1, 5)
    without = pn.loss_and_grad(drag, np.delete(y0, 17, axis=0), t, [1.0], np.zeros((99, 5, 2)), reduction="sum")
    y0[17] = 0.0
    found = pn.loss_and_grad(drag, y0, t, [1.0], np.zeros((100, 5, 2)), wrt=("theta", "y0"), reduction="sum")
    assert found.theta == pytest.approx(without.theta, rel=1e-12)
    assert not found.y0[17].any()


def test_losses_jumps_and_events():
    """The same rules hold in the programs beside the field."""

    @pn.field(state=1, theta={"a": 0.5})
    def decay(t, y, th):
        return -th.a * y

    @pn.field(state=1, inputs=1, theta={"g": 0.3})
    def jump(t, y, th, x):
        return y + th.g * np.where(x > 0, np.log(x), 0.0) * y + np.where(y > 0, 0.0, np.sqrt(-y))

    @pn.field(state=1, out=1, inputs=1, theta={"s": 2.0})
    def loss(t, y, th, x):
        return np.where(x > 0, y * np.log(x / y) * th.s, 0.0) + np.linalg.norm(y - x) ** 2 + np.linalg.norm(0 * y)

    system = pn.System(decay, jump=jump, loss=loss, events=[pn.event(lambda t, y: y[0] - 0.4, reset=lambda t, y: 2 * y)])
    t = np.linspace(0, 2, 4)
    data = np.array([[np.nan], [0.0], [2.0], [-1.0]])
    target = np.array([[0.0], [1.0], [0.0], [-2.0]])
    found = pn.check_grad(system, [1.0], t, system.init(), target, data=data, loss="program", wrt=("theta", "y0"))
    assert found.max_error < 2e-6, found
