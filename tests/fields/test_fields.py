"""Fields: networks, traced fields, callbacks, and their derivatives on numbers and inside other fields."""

import copy
import json
import pickle
import re

import numpy as np
import pytest
from reference_interpreter import backend  # noqa: F401

from pynode.fields.callback import callback_field
from pynode.fields.field import Field
from pynode.fields.make import field, mlp
from pynode.fields.transforms import divergence, grad, hvp, jacobian, jvp, vjp
from pynode.programs.functions import ACTIVATIONS
from pynode.programs.traced import TraceError

pytestmark = pytest.mark.usefixtures("backend")
B = 5


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def close(actual, desired, rtol=1e-11):
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=1e-12)


def differences(fn, x, h=1e-3):
    """The Jacobian of fn at the 1-d point x by sixth-order differences; derivatives on the last axis."""
    weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}

    def along(e):
        return sum(w * (fn(x + k * h * e) - fn(x - k * h * e)) for k, w in weights.items()) / h

    return np.stack([along(e) for e in np.eye(len(x))], axis=-1)


# ---- mlp


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_is_the_formula(activation, rng):
    f = mlp(3, (5, 4), 2, activation)
    theta, y = rng.normal(size=f.n_params), rng.normal(size=(B, 3))
    p = f.unflatten(theta)
    h = ACTIVATIONS[activation](y @ p["W0"].T + p["b0"])
    h = ACTIVATIONS[activation](h @ p["W1"].T + p["b1"])
    close(f(0.0, y, theta), h @ p["W2"].T + p["b2"])


def test_mlp_layout():
    f = mlp(2, (3,), 1)
    assert (f.d, f.n_out, f.inputs, f.n_params) == (2, 1, 0, 13)
    assert [(p.name, p.shape, p.offset) for p in f.spec] == [
        *(("W0", (3, 2), 0), ("b0", (3,), 6)),
        *(("W1", (1, 3), 9), ("b1", (1,), 12)),
    ]
    p = f.unflatten(np.arange(13.0))
    assert p["W0"].tolist() == [[0, 1], [2, 3], [4, 5]] and p["b0"].tolist() == [6, 7, 8]


def test_mlp_time_and_inputs(rng):
    f = mlp(2, (4,), time=True, inputs=3)
    assert f.time_dependent and f.inputs == 3 and not mlp(2, (4,)).time_dependent
    theta = rng.normal(size=f.n_params)
    t, y, u = rng.normal(size=B), rng.normal(size=(B, 2)), rng.normal(size=(B, 3))
    p = f.unflatten(theta)
    x = np.hstack([y, t[:, None], u])
    close(f(t, y, theta, u), np.tanh(x @ p["W0"].T + p["b0"]) @ p["W1"].T + p["b1"])


def test_mlp_widths():
    assert mlp(2, ()).n_params == 6
    assert mlp(2, 7).n_params == mlp(2, (7,)).n_params
    assert mlp(2, [7, 7]).name == "mlp(2-7-7-2, tanh)"


@pytest.mark.parametrize(
    ("options", "variance"),
    [({}, 1 / 200), ({"gain": 2.0}, 4 / 200), ({"init": "xavier"}, 2 / 300), ({"init": "he"}, 2 / 200)],
)
def test_mlp_initial_values(options, variance):
    f = mlp(200, (100,), 200, **options)
    p = f.unflatten(f.init(3))
    assert np.var(p["W0"]) == pytest.approx(variance, rel=0.05)
    assert not p["b0"].any() and not p["b1"].any()
    assert (f.init(3) == f.init(3)).all() and not (f.init(3) == f.init(4)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp(2, (3,), activation="swish"), "activation must be one of tanh, "),
        (lambda: mlp(2, (3,), init="orthogonal"), "init must be one of lecun"),
        (lambda: mlp(0, (3,)), "d_in must be an integer >= 1"),
        (lambda: mlp(2, (0,)), "width must be an integer"),
        (lambda: mlp(2, (2.5,)), "width must be an integer"),
        (lambda: mlp(2, (3,), inputs=-1), "inputs must be an integer >= 0"),
    ],
)
def test_mlp_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- field


@field(state=2, theta={"k": (), "net": mlp(2, (6,), 1)})
def spring(t, y, th):
    x, v = y
    return [v, -th.k * x + th.net(y)[0]]


def test_physics_and_a_network(rng):
    theta, y = rng.normal(size=spring.n_params), rng.normal(size=(B, 2))
    net = mlp(2, (6,), 1)
    expected = np.stack([y[:, 1], -theta[0] * y[:, 0] + net(0, y, theta[1:])[:, 0]], axis=1)
    close(spring(0, y, theta), expected)
    assert spring.name == "spring" and spring.n_params == 1 + net.n_params


def test_shapes_of_a_call(rng):
    theta = spring.init(0)
    assert spring(0.0, [1.0, 2.0], theta).shape == (2,)
    assert spring(np.zeros(B), np.ones((B, 2)), theta).shape == (B, 2)
    assert spring(np.zeros(B), [1.0, 2.0], theta).shape == (B, 2)
    assert spring(0.0, np.ones((1, 2)), theta).shape == (1, 2)
    assert spring(0.0, np.ones((0, 2)), theta).shape == (0, 2)
    close(spring(0, [1.0, 2.0], spring.unflatten(theta)), spring(0, [1, 2], theta))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((0, [1.0, 2.0, 3.0]), r"y must have shape \(2,\) or \(B, 2\), not \(3,\)"),
        ((0, np.ones((2, 2, 2))), "y must have shape"),
        ((np.zeros(3), np.ones((4, 2))), "different batch sizes"),
        ((np.zeros((3, 2)), np.ones((3, 2))), "t must have shape"),
        ((0, [1.0, 2.0], np.zeros(3)), r"theta must have shape \(26,\), not \(3,\)"),
        ((0, [1.0, 2.0], None), "theta is missing"),
        ((0, [1.0, 2.0], spring.init(0), [1.0]), "u must have shape"),
    ],
)
def test_wrong_arguments(args, message):
    args = args if len(args) > 2 else (*args, spring.init(0))
    with pytest.raises(ValueError, match=message):
        spring(*args)


def test_kinds_of_theta(rng):
    @field(state=2)
    def none(t, y):
        return -y

    @field(state=2, theta=3)
    def vector(t, y, th):
        a, b, c = th
        return a * y + [b, c]

    @field(state=2, theta=(2, 2))
    def matrix(t, y, th):
        return th @ y

    @field(state=2, theta={"a": {"b": (2,), "c": 2.0}, "M": np.eye(2)})
    def nested(t, y, th):
        return th["M"] @ y * th.a.c + th["a"]["b"] + len(th) * 0 + sum(0 for _ in th.items())

    y = rng.normal(size=2)
    close(none(0, y), -y)
    close(vector(0, y, [2.0, 3.0, 4.0]), 2 * y + [3, 4])
    close(matrix(0, y, np.arange(4.0)), np.arange(4.0).reshape(2, 2) @ y)
    assert [p.name for p in nested.spec] == ["a.b", "a.c", "M"]
    tree = nested.unflatten(nested.init(0))
    assert tree["a"]["c"] == 2.0 and (tree["M"] == np.eye(2)).all()
    close(nested(0, y, tree), 2 * y + tree["a"]["b"])
    assert none.init(0).shape == (0,) and vector.unflatten([1, 2, 3])["theta"].tolist() == [1, 2, 3]


def test_time_inputs_and_outputs(rng):
    @field(state=3, theta={"k": 0.5}, inputs=2, out=1)
    def f(t, y, th, u):
        return np.sin(t) * y[0] + th.k * u[1] * y[2]

    assert (f.d, f.inputs, f.n_out, f.time_dependent) == (3, 2, 1, True)
    y, u = rng.normal(size=(B, 3)), rng.normal(size=(B, 2))
    close(f(0.3, y, f.init(), u)[:, 0], np.sin(0.3) * y[:, 0] + 0.5 * u[:, 1] * y[:, 2])
    with pytest.raises(ValueError, match="u is missing: 2 numbers"):
        f(0.3, y, f.init())


def test_deep_nesting_and_time(rng):
    """Fields in fields in fields, with offsets, time and inputs passed on."""
    base = mlp(2, (3,), time=True, inputs=1)

    @field(state=2, theta={"scale": 2.0, "net": base}, inputs=1)
    def middle(t, y, th, u):
        return th.scale * th.net(t, y, u)

    @field(state=2, theta={"shift": (2,), "one": middle, "two": middle})
    def outer(t, y, th):
        return th.one(t, y, [np.sin(t)]) + th.two(t + 1.0, th.shift * y, u=y[:1])

    assert outer.spec[1].name == "one.scale" and outer.spec[2].name == "one.net.W0"
    theta, y, t = outer.init(2), rng.normal(size=(B, 2)), rng.normal(size=B)
    n, shift = middle.n_params, theta[:2]
    expected = middle(t, y, theta[2 : 2 + n], np.sin(t)[:, None])
    expected = expected + middle(t + 1, shift * y, theta[2 + n :], y[:, :1])
    close(outer(t, y, theta), expected)


def test_parameters_of_a_network_by_name():
    net = mlp(2, (3,))

    @field(state=2, theta={"net": net})
    def f(t, y, th):
        p = th.net.parameters
        return p.W1 @ np.tanh(p["W0"] @ y + p.b0) + p.b1

    theta = f.init(0)
    close(f(0, [0.3, 0.4], theta), net(0, [0.3, 0.4], theta))


def test_a_field_called_with_theta_in_a_trace(rng):
    """A Field used directly: with a slice of theta, with computed parameters, and without any."""
    net, drift = mlp(2, (3,)), field(state=2)(lambda t, y: -y)

    @field(state=2, theta=net.n_params + 1)
    def f(t, y, th):
        return net(t, y, th[1:]) + net(t, y, th[0] * th[1:]) + drift(t, y) + net(0.0, y, net.init(5))

    theta, y = f.init(1), rng.normal(size=(B, 2))
    expected = net(0, y, theta[1:]) + net(0, y, theta[0] * theta[1:]) - y + net(0, y, net.init(5))
    close(f(0, y, theta), expected)


def test_initial_values():
    @field(state=2, theta={"k": (), "v": (3,), "W": (40, 50)})
    def f(t, y, th):
        return y

    p = f.unflatten(f.init(0))
    assert np.var(p["W"]) == pytest.approx(1 / 50, rel=0.1) and abs(p["v"]).max() < 1

    def g(t, y, th):
        return th.k * y

    theta = {"k": (), "b": (2,)}
    assert field(state=2, theta=theta, init={"k": 3.0})(g).init(0)[0] == 3.0
    assert field(state=2, theta=theta, init=[1.0, 2.0, 3.0])(g).init(0).tolist() == [1, 2, 3]
    for init, message in (
        ({"q": 1.0}, "unknown parameters: .*'q'"),
        ({"b": 1.0}, "init of b has shape"),
        ([1.0], "shape"),
    ):
        with pytest.raises(ValueError, match=message):
            field(state=2, theta=theta, init=init)


def test_flatten_is_the_inverse_of_unflatten():
    theta = spring.init(0)
    assert (spring.flatten(spring.unflatten(theta)) == theta).all()
    spring.unflatten(theta)["net"]["b0"][:] = 5.0
    assert (theta == 5.0).sum() == 6  # views
    tree = spring.unflatten(theta)
    with pytest.raises(ValueError, match=r"missing: \['k'\]"):
        spring.flatten({"net": tree["net"]})
    with pytest.raises(ValueError, match=r"unknown: \['q'\]"):
        spring.flatten({**tree, "q": 1.0})
    with pytest.raises(ValueError, match="parameter k has shape"):
        spring.flatten({**tree, "k": [1.0, 2.0]})


WRONG = {
    "no call": (lambda: field(lambda t, y: y), TypeError, "write @pn.field"),
    "size": (lambda: field(state=0), ValueError, "state must be an integer >= 1"),
    "arguments": (
        lambda: field(state=2, theta={"k": ()})(lambda t, y: y),
        TypeError,
        r"is called as .*\(t, y, th\)",
    ),
    "no inputs": (lambda: field(state=2)(lambda t, y, u: y), TypeError, r"\(t, y\)"),
    "theta is a field": (lambda: field(state=2, theta=mlp(2, ())), TypeError, "theta={'net': net}"),
    "an int": (lambda: field(state=2, theta={"n": 3}), ValueError, r"write \(3,\) or 3.0"),
    "not a shape": (lambda: field(state=2, theta={"n": (1.5,)}), ValueError, "is not a shape"),
    "a name": (lambda: field(state=2, theta={"a.b": ()}), ValueError, "identifier"),
    "a string": (lambda: field(state=2, theta={"a": "b"}), ValueError, "not 'b'"),
    "unknown": (
        lambda: field(state=2, theta={"k": (), "m": ()})(lambda t, y, th: th.q * y),
        TraceError,
        "theta has no 'q'; it has k, m",
    ),
    "assignment": (
        lambda: field(state=2, theta={"k": ()})(lambda t, y, th: setattr(th, "k", 1.0)),
        TraceError,
        "cannot be changed",
    ),
    "no theta": (lambda: field(state=2)(lambda t, y: mlp(2, ())(t, y)), TraceError, "has 6 parameters"),
    "theta size": (
        lambda: field(state=2, theta=3)(lambda t, y, th: mlp(2, ())(t, y, th)),
        TraceError,
        r"theta has shape \(3,\)",
    ),
    "state size": (
        lambda: field(state=3, theta={"net": mlp(2, ())})(lambda t, y, th: th.net(y)),
        TraceError,
        "takes y of 2 numbers",
    ),
    "time": (
        lambda: field(state=2, theta={"net": mlp(2, (), time=True)})(lambda t, y, th: th.net(y)),
        TraceError,
        "depends on t",
    ),
    "inputs": (
        lambda: field(state=2, theta={"net": mlp(2, (), inputs=1)})(lambda t, y, th: th.net(y)),
        TraceError,
        "needs u",
    ),
    "too many": (
        lambda: field(state=2, theta={"net": mlp(2, ())})(lambda t, y, th: th.net(t, y, y, y)),
        TraceError,
        "not 4 arguments",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use(name):
    make, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        make()


def test_it_is_immutable():
    with pytest.raises(AttributeError):
        spring.name = "other"
    with pytest.raises(ValueError, match="the parameters named have"):
        Field(spring.program)
    with pytest.raises(ValueError, match="not the program of a field"):
        Field(spring.vjp_program)


def test_repr():
    assert repr(spring).startswith("<Field spring: d=2, 26 parameters: k (), net.W0 (6, 2)")
    assert "n_out=1, inputs=2" in repr(mlp(3, (), 1, inputs=2))


def test_copies_and_files(rng):
    theta, y = spring.init(0), rng.normal(size=(B, 2))
    spring.vjp_program.check()
    data = spring.to_dict()
    plain = json.loads(json.dumps(data, default=np.ndarray.tolist))
    twins = [
        copy.deepcopy(spring),
        pickle.loads(pickle.dumps(spring)),
        Field.from_dict(data),
        Field.from_dict(plain),
    ]
    for twin in twins:
        assert (twin(0, y, theta) == spring(0, y, theta)).all()
        assert twin.spec == spring.spec and twin.name == "spring" and (twin.init(0) == theta).all()
    code = data["program"]["code"].copy()
    code[:, 2] = 77
    with pytest.raises(ValueError, match="register 77"):
        Field.from_dict({**data, "program": {**data["program"], "code": code}})


def test_cached_programs():
    assert spring.vjp_program is spring.vjp_program
    assert spring.backsolve_program.slot_sizes == (1, 4, 0)
    assert spring.interpolating_program.slot_sizes == (1, 2, 2)


# ---- Callback fields


def lotka(t, y, theta):
    a, b = theta
    return np.array([a * y[0] - y[0] * y[1] + t, y[0] * y[1] - b * y[1]])


def lotka_vjp(t, y, theta, g):
    a, b = theta
    J = np.array([[a - y[1], -y[0]], [y[1], y[0] - b]])
    return g @ J, np.array([g[0] * y[0], -g[1] * y[1]])


def lotka_all(t, y, theta):
    return np.stack([lotka(*args, theta) for args in zip(t, y, strict=True)])


def lotka_vjp_all(t, y, theta, g):
    pairs = [lotka_vjp(ti, yi, theta, gi) for ti, yi, gi in zip(t, y, g, strict=True)]
    return tuple(np.stack(x) for x in zip(*pairs, strict=True))


CALLBACKS = {
    "one": callback_field(lotka, 2, 2, lotka_vjp, init=[1.0, 2.0]),
    "vectorized": callback_field(lotka_all, 2, 2, lotka_vjp_all, vectorized=True, name="lv"),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_callback(name, rng):
    f = CALLBACKS[name]
    theta, y, t, g = rng.normal(size=2), rng.normal(size=(B, 2)), rng.normal(size=B), rng.normal(size=(B, 2))
    assert f.time_dependent and f.callbacks == (f.callback.f, f.callback.vjp)
    close(f(t, y, theta), lotka_all(t, y, theta))
    result = vjp(f)(t, y, theta, g)
    gy, gtheta = lotka_vjp_all(t, y, theta, g)
    close(result.y, gy)
    close(result.theta, gtheta.sum(0))
    assert not result.t.any()


def test_callback_without_parameters_and_with_inputs(rng):
    f = callback_field(lambda t, y, u: u[0] * y, 2, vjp=lambda t, y, u, g: u[0] * g, inputs=1)
    y, u, g = rng.normal(size=(B, 2)), rng.normal(size=(B, 1)), rng.normal(size=(B, 2))
    close(f(0.0, y, u=u), u * y)
    close(vjp(f)(0.0, y, g, u=u).y, u * g)
    assert callback_field(lambda t, y, u: y, 1, inputs=1).init().shape == (0,)


def test_callback_initial_values():
    assert CALLBACKS["one"].init(0).tolist() == [1.0, 2.0] and CALLBACKS["vectorized"].init(0).tolist() == [
        0,
        0,
    ]
    assert CALLBACKS["vectorized"].name == "lv"


class Mine(Exception):
    pass


def test_callback_errors():
    def broken(t, y):
        raise Mine("unchanged")

    with pytest.raises(Mine, match="unchanged"):
        callback_field(broken, 2)(0.0, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"f must return an array of shape \(2,\), not \(3,\)"):
        callback_field(lambda t, y: np.ones(3), 2)(0.0, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"f must return an array of shape \(4, 2\)"):
        callback_field(lambda t, y: y[0], 2, vectorized=True)(0.0, np.ones((4, 2)))
    bad = callback_field(lotka, 2, 2, lambda t, y, theta, g: g)
    with pytest.raises(TypeError, match=r"pair \(gy, gtheta\)"):
        vjp(bad)(0.0, [1.0, 2.0], [1.0, 1.0], [1.0, 1.0])
    bad = callback_field(lotka, 2, 2, lambda t, y, theta, g: (g, g[:1]))
    with pytest.raises(ValueError, match=r"gtheta must return an array of shape \(2,\)"):
        vjp(bad)(0.0, [1.0, 2.0], [1.0, 1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="no vjp"):
        _ = callback_field(lotka, 2, 2).vjp_program
    with pytest.raises(ValueError, match="cannot be written to a file"):
        CALLBACKS["one"].to_dict()
    with pytest.raises(ValueError, match="cannot be used inside another field"):
        field(state=2)(lambda t, y: CALLBACKS["one"](t, y, [1.0, 2.0]))
    with pytest.raises(ValueError, match="callback"):
        jacobian(CALLBACKS["one"])
    with pytest.raises(ValueError, match="callback"):
        _ = CALLBACKS["one"].backsolve_program
    with pytest.raises(TypeError, match="f must be a function"):
        callback_field(3, 2)


# ---- Derivatives on numbers


@field(state=2, theta={"k": 0.7, "net": mlp(2, (4,), activation="softplus")}, inputs=2)
def driven(t, y, th, u):
    return th.net(y) * np.cos(t) + th.k * u * y[::-1]


@pytest.fixture
def point(rng):
    return 0.4, rng.normal(size=2), driven.init(1), rng.normal(size=2)


def test_jacobians(point):
    t, y, theta, u = point
    close(jacobian(driven)(t, y, theta, u), differences(lambda y: driven(t, y, theta, u), y), 1e-9)
    close(jacobian(driven, "u")(t, y, theta, u), differences(lambda u: driven(t, y, theta, u), u), 1e-9)
    close(jacobian(driven, wrt="theta")(t, y, theta, u), differences(lambda p: driven(t, y, p, u), theta), 1e-9)
    close(
        jacobian(driven, wrt="t")(t, y, theta, u),
        differences(lambda t: driven(t[0], y, theta, u), np.array([t]))[:, 0],
        1e-9,
    )
    assert jacobian(driven) is jacobian(driven)


def test_jacobian_by_columns(rng):
    f = mlp(2, (5,), 7)
    theta, y = f.init(0), rng.normal(size=(B, 2))
    J = jacobian(f)(0.0, y, theta)
    assert J.shape == (B, 7, 2)
    close(J[3], differences(lambda y: f(0.0, y, theta), y[3]), 1e-9)
    assert jacobian(f, "t")(0.0, y, theta).tolist() == np.zeros((B, 7)).tolist()


def test_vjp_and_jvp(point, rng):
    t, y, theta, u = point
    Jy, Jt, Ju, Jp = (jacobian(driven, wrt)(t, y, theta, u) for wrt in ("y", "t", "u", "theta"))
    g, dy, du, dtheta = (rng.normal(size=n) for n in (2, 2, 2, driven.n_params))
    bars = vjp(driven)(t, y, theta, g, u=u)
    for actual, J in zip(bars, (Jy, Jp, Jt, Ju), strict=True):
        close(actual, g @ J)
    close(jvp(driven)(t, y, theta, dy, u=u), Jy @ dy)
    close(jvp(driven)(t, y, theta, u=u, dt=2.0), 2 * Jt)
    close(jvp(driven)(t, y, theta, direction=dy, u=u), Jy @ dy)
    close(jvp(driven)(t, y, theta, u=u, dtheta=dtheta), Jp @ dtheta)
    close(jvp(driven)(t, y, theta, dy, u=u, du=du, dt=1.0, dtheta=dtheta), Jy @ dy + Ju @ du + Jt + Jp @ dtheta)


def test_a_batch(rng):
    theta, y, t = driven.init(0), rng.normal(size=(B, 2)), rng.normal(size=B)
    u, g = rng.normal(size=(B, 2)), rng.normal(size=(B, 2))
    bars = vjp(driven)(t, y, theta, g, u=u)
    assert bars.y.shape == (B, 2) and bars.t.shape == (B,) and bars.theta.shape == theta.shape
    singles = [vjp(driven)(t[i], y[i], theta, g[i], u=u[i]) for i in range(B)]
    close(bars.y, [s.y for s in singles])
    close(bars.u, [s.u for s in singles])
    close(bars.theta, sum(s.theta for s in singles))
    close(jvp(driven)(t, y, theta, g, u=u), [jvp(driven)(t[i], y[i], theta, g[i], u=u[i]) for i in range(B)])


def test_divergence(rng):
    theta, y, u = driven.init(0), rng.normal(size=(B, 2)), rng.normal(size=(B, 2))
    value = divergence(driven)(0.3, y, theta, u)
    assert value.shape == (B,)
    close(value, np.trace(jacobian(driven)(0.3, y, theta, u), axis1=1, axis2=2))
    assert divergence(driven)(0.3, y[0], theta, u[0]).shape == ()
    rotation = field(state=2)(lambda t, y: [y[1], -y[0]])
    assert divergence(rotation)(0.0, y).tolist() == [0.0] * B


def test_grad_and_hvp(rng):
    H = mlp(3, (5,), 1)
    theta, y, v = H.init(0), rng.normal(size=3), rng.normal(size=(B, 3))
    g = grad(H)
    assert isinstance(g, Field) and g.out_shape == (3,) and g.spec == H.spec
    close(g(0.0, y, theta), differences(lambda y: H(0.0, y, theta)[0], y), 1e-9)
    hessian = differences(lambda y: g(0.0, y, theta), y)
    close(jacobian(g)(0.0, y, theta), hessian, 1e-9)
    close(hvp(H)(0.0, y, theta, v), v @ hessian, 1e-9)
    close(divergence(grad(H))(0.0, y, theta), np.trace(hessian), 1e-9)


def test_derivatives_of_plain_functions(rng):
    def h(y):
        return np.sum(y**2) * np.sin(y[0])

    y, v = rng.normal(size=3), rng.normal(size=3)
    gradient = 2 * y * np.sin(y[0]) + np.sum(y**2) * np.cos(y[0]) * np.eye(3)[0]
    close(grad(h)(y), gradient)
    close(grad(h)(np.stack([y, y])), [gradient, gradient])
    close(jacobian(grad(h))(y) @ v, hvp(h)(y, v))
    close(jvp(h)(y, v), gradient @ v)
    close(vjp(h)(y, [2.0]).y, 2 * gradient)
    close(jacobian(lambda y: np.outer(y, y))(y)[0, 1], [y[1], y[0], 0])
    close(divergence(lambda y: y * y)(y), 2 * y.sum())
    close(grad(np.sin)(0.3), np.cos(0.3))


# ---- Derivatives inside a field


def test_derivatives_inside_a_field(rng):
    net, H = mlp(2, (4,)), mlp(2, (5,), 1)

    @field(state=2, theta={"net": net, "H": H})
    def f(t, y, th):
        gy = vjp(th.net)(y, y).y
        dy = jvp(th.net)(y, y)
        hessian = jacobian(grad(th.H))(y)
        return gy + 2 * dy + grad(th.H)(y) + hessian @ y + divergence(th.net)(y) * y + hvp(th.H)(y, gy)

    theta, y = f.init(0), rng.normal(size=2)
    a, b = theta[: net.n_params], theta[net.n_params :]
    J, hessian = jacobian(net)(0, y, a), jacobian(grad(H))(0, y, b)
    expected = J.T @ y + 2 * J @ y + grad(H)(0, y, b) + hessian @ y + np.trace(J) * y + hessian @ (J.T @ y)
    close(f(0, y, theta), expected)
    close(jacobian(f, "theta")(0, y, theta), differences(lambda p: f(0, y, p), theta), 1e-8)


def test_parameter_derivatives_inside_a_field(rng):
    net = mlp(2, (3,))

    @field(state=2, theta={"net": net}, out=net.n_params)
    def f(t, y, th):
        return vjp(th.net)(t, y, y).theta + jacobian(th.net, "theta")(y)[0]

    @field(state=2, theta=net.n_params)
    def tangent(t, y, th):
        return jvp(net)(t, y, th, dtheta=th**2)

    theta, y = net.init(0), rng.normal(size=2)
    J = jacobian(net, "theta")(0, y, theta)
    close(f(0, y, theta), y @ J + J[0])
    close(tangent(0, y, theta), J @ theta**2)


def test_hamiltonian_field(rng):
    @field(state=4, theta={"H": mlp(4, (6,), 1)})
    def f(t, y, th):
        g = grad(th.H)(y)
        return np.concatenate([g[2:], -g[:2]])

    H, theta, y = mlp(4, (6,), 1), f.init(0), rng.normal(size=(B, 4))
    close(np.sum(grad(H)(0, y, theta) * f(0, y, theta), axis=1), np.zeros(B))
    close(divergence(f)(0, y, theta), np.zeros(B))


def test_wrong_derivatives():
    with pytest.raises(TypeError, match=r"taken at \(t, y, theta\), not at 1 arguments"):
        vjp(mlp(2, ()))(0.0, dy=[1.0, 2.0])
    with pytest.raises(ValueError, match="dy is missing"):
        vjp(mlp(2, ()))(0.0, [1.0, 2.0], np.zeros(6))
    with pytest.raises(ValueError, match="grad needs a scalar"):
        grad(mlp(2, ()))
    with pytest.raises(ValueError, match="divergence needs a vector field"):
        divergence(mlp(2, (), 3))
    with pytest.raises(ValueError, match="wrt must be"):
        jacobian(mlp(2, ()), "x")
    with pytest.raises(ValueError, match="has no u"):
        jacobian(mlp(2, ()), "u")
    for transform in (grad, divergence, jacobian, vjp, jvp, hvp):
        with pytest.raises(TypeError, match=re.escape(f"{transform.__name__} takes a field or a function, not 3")):
            transform(3)
