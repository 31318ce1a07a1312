"""Hamiltonian and second-order fields, and known physics with a network: equations, gradients, training, the examples."""

import sys
from pathlib import Path

import numpy as np
import pytest

import pynode as pn

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import mass_spring
import ude_lotka_volterra as lotka

RNG = np.random.default_rng(0)


@pn.field(state=4, out=1, theta={"m": np.array([1.0, 2.0]), "net": pn.mlp(2, (6,), 1)})
def separable(t, y, th):
    return np.sum(y[2:] ** 2 / (2 * th.m)) + th.net(y[:2])[0]


@pn.field(state=4, out=1, theta={"a": 0.7, "net": pn.mlp(4, (5,), 1)}, inputs=1)
def driven(t, y, th, u):
    return y[0] * y[3] + th.net(y)[0] * np.cos(th.a * t) + u[0] * y[1] * y[2]


NETWORK = pn.mlp(4, (8, 8), 1)


def numeric_gradient(H, t, y, theta, u=None, e=1e-6):
    return np.array([(H(t, y + d, theta, u) - H(t, y - d, theta, u)).item() / (2 * e) for d in e * np.eye(len(y))])


# ---- The equations


@pytest.mark.parametrize("H", [separable, driven, NETWORK], ids=["separable", "driven", "network"])
def test_hamilton_equations(H):
    f = pn.hamiltonian(H)
    assert (f.d, f.n_out, f.n_params, f.inputs) == (4, 4, H.n_params, H.inputs)
    theta = H.init(3)
    assert np.array_equal(f.init(3), theta) and f.unflatten(theta).keys() == H.unflatten(theta).keys()
    for _ in range(3):
        y, t, u = RNG.normal(size=4), RNG.normal(), RNG.normal(size=H.inputs) if H.inputs else None
        g = numeric_gradient(H, t, y, theta, u)
        assert np.abs(f(t, y, theta, u) - np.concatenate([g[2:], -g[:2]])).max() < 1e-8
    y = RNG.normal(size=(7, 4))
    u = RNG.normal(size=(7, H.inputs)) if H.inputs else None
    assert np.abs(pn.divergence(f)(0.3, y, theta, u)).max() < 1e-12  # Liouville


@pytest.mark.parametrize("of_velocity", [False, True])
def test_second_order_equations(of_velocity):
    a = pn.mlp(6 if of_velocity else 3, (5,), 3, time=True, inputs=2)
    f, theta = pn.second_order(a), a.init(1)
    assert (f.d, f.n_out, f.n_params, f.inputs) == (6, 6, a.n_params, 2)
    y, u = RNG.normal(size=(5, 6)), RNG.normal(size=(5, 2))
    want = np.concatenate([y[:, 3:], a(0.4, y if of_velocity else y[:, :3], theta, u)], axis=1)
    assert np.abs(f(0.4, y, theta, u) - want).max() < 1e-15


def test_closed_forms():
    t = np.linspace(0, 10, 51)

    @pn.hamiltonian
    @pn.field(state=2, out=1, theta={"k": 4.0, "m": 2.0})
    def spring(t, y, th):
        q, p = y
        return p**2 / (2 * th.m) + th.k * q**2 / 2

    w = np.sqrt(4.0 / 2.0)
    want = np.stack([np.cos(w * t), -2.0 * w * np.sin(w * t)], axis=1)
    assert np.abs(pn.solve(spring, [1.0, 0.0], t, spring.init(), rtol=1e-10, atol=1e-10).y - want).max() < 1e-7

    @pn.second_order
    @pn.field(state=2, out=1)
    def falling(t, y):
        return [-9.81 - 0.5 * y[1]]  # with friction: v = -19.62 (1 - exp(-t / 2)) from rest

    want = 10 - 19.62 * (t - 2 * (1 - np.exp(-t / 2)))
    assert np.abs(pn.solve(falling, [10.0, 0.0], t, rtol=1e-10, atol=1e-10).y[:, 0] - want).max() < 1e-6


def test_a_constant_acceleration_and_a_free_particle():
    a = pn.second_order(pn.field(state=1, out=1, theta={"g": -9.81})(lambda t, q, th: [th.g]))
    assert np.allclose(a(0.0, [3.0, 2.0], a.init()), [2.0, -9.81])
    free = pn.hamiltonian(pn.field(state=2, out=1, theta={"c": 1.0})(lambda t, y, th: th.c))
    assert np.array_equal(free(0.0, [3.0, 2.0], free.init()), [0.0, 0.0])


def test_inside_another_field():
    @pn.field(state=4, theta={"H": NETWORK, "friction": 0.3})
    def damped(t, y, th):
        return pn.hamiltonian(th.H)(y) - th.friction * np.concatenate([np.zeros(2), y[2:]])

    @pn.field(state=2, theta={"a": pn.mlp(1, (4,), 1), "forced": 0.2})
    def forced(t, y, th):
        return pn.second_order(th.a)(y) + np.array([0.0, 1.0]) * th.forced * np.cos(t)

    theta, y = damped.init(0), RNG.normal(size=4)
    want = pn.hamiltonian(NETWORK)(0.0, y, theta[:-1]) - 0.3 * np.concatenate([np.zeros(2), y[2:]])
    assert np.abs(damped(0.0, y, theta) - want).max() < 1e-14
    theta = forced.init(0)
    want = [y[1], pn.mlp(1, (4,), 1)(0.0, y[:1], theta[:-1])[0] + 0.2 * np.cos(0.5)]
    assert np.abs(forced(0.5, y[:2], theta) - want).max() < 1e-14


def test_refusals():
    with pytest.raises(ValueError, match=r"a scalar \(n_out == 1\); .* has values of shape \(2,\)"):
        pn.hamiltonian(pn.mlp(2, (4,)))
    with pytest.raises(ValueError, match=r"even size; that of .* is 3"):
        pn.hamiltonian(pn.mlp(3, (4,), 1))
    with pytest.raises(ValueError, match="maps 3 numbers to 2"):
        pn.second_order(pn.mlp(3, (4,), 2))
    for make in (pn.hamiltonian, pn.second_order):
        with pytest.raises(TypeError, match=f"{make.__name__} takes a Field .*, not function"):
            make(lambda t, y: y)
        with pytest.raises(ValueError, match="is a callback"):
            make(pn.callback_field(lambda t, y: -y, 2))


# ---- Solutions and gradients


def test_energy_is_kept():
    theta, y0 = separable.init(2), RNG.normal(size=(3, 4))
    f, t = pn.hamiltonian(separable), np.linspace(0, 300, 601)

    def drift(**options):
        y = pn.solve(f, y0, t, theta, **options).y
        E = separable(0.0, y.reshape(-1, 4), theta).reshape(3, -1)
        return np.abs(E - E[:, :1]).max()

    assert drift(method="dop853", rtol=1e-12, atol=1e-12) < 1e-8
    errors = [drift(method="leapfrog", step=h) for h in (0.1, 0.05)]
    assert errors[0] < 0.02 and np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("options", [{"rtol": 1e-6, "atol": 1e-6}, {"method": "leapfrog", "step": 0.07}], ids=str)
@pytest.mark.parametrize("of", ["hamiltonian", "second order", "driven"])
def test_gradients(of, options):
    f = {
        "hamiltonian": pn.hamiltonian(separable),
        "driven": pn.hamiltonian(driven),
        "second order": pn.second_order(pn.mlp(4, (6,), 2)),
    }[of]
    options = dict(options)
    if f.inputs:
        options["inputs"] = (np.array([0.0, 0.7, 2.0]), RNG.normal(size=(3, 1)))
    y0, t, target = RNG.normal(size=(3, 4)), np.linspace(0, 2, 6), RNG.normal(size=(3, 6, 4))
    check = pn.check_grad(f, y0, t, f.init(0), target, wrt=("theta", "y0"), delta=1e-4, **options)
    assert check.max_error < 1e-8, str(check)


def test_training_through_leapfrog():
    # the gradient of a symplectic solve, by L-BFGS from a wrong start: k and m of a spring come back
    @pn.hamiltonian
    @pn.field(state=2, out=1, theta={"k": 1.0, "m": 1.0})
    def spring(t, y, th):
        return y[1] ** 2 / (2 * th.m) + th.k * y[0] ** 2 / 2

    t, y0 = np.linspace(0, 3, 31), RNG.normal(size=(4, 2))
    options = {"method": "leapfrog", "step": 0.05}
    target = pn.solve(spring, y0, t, [2.0, 1.5], **options).y
    result = pn.fit.lbfgs(pn.Objective(spring, y0, t, target, **options), spring.init(), max_iter=200)
    assert np.abs(result.theta - [2.0, 1.5]).max() < 1e-5


# ---- Models


@pytest.fixture(scope="module")
def springs():
    return mass_spring.rollouts(0)


def test_energy_error_far_below_that_of_a_plain_network(springs):
    # a hundred periods; medians of ten data sets are 41, 67 and 68 (examples/mass_spring.py)
    errors = {name: np.abs(mass_spring.energy(y) - 0.5).mean() for name, (y, _) in springs[1].items()}
    plain = errors.pop("plain network")
    assert plain > 0.1
    for name, error in errors.items():
        assert error < 0.1 * plain, name
    for name, (y, _) in springs[1].items():  # bounded: the last period is no worse than the first
        error = np.abs(mass_spring.energy(y) - 0.5)
        assert (name == "plain network") == (error[-50:].mean() > 1.2 * error[:50].mean()), name


def test_second_order_training_of_structured_fields(tmp_path):
    t, Y = mass_spring.data(1)
    for name, field in mass_spring.FIELDS.items():
        if field is None:
            continue
        model = pn.NeuralODE(field=field, random_state=0).fit(t, Y)
        assert model.report_["optimizer"] == "levenberg-marquardt" and model.report_["status"] == "finished"
        for noise in model.report_["noise"].values():  # 0.1 in the data
            assert noise == pytest.approx(0.1, rel=0.1), name
        mean, std = model.predict(np.linspace(0, 6, 61), [1.0, 0.0], return_std=True)
        truth = np.stack([np.cos(np.linspace(0, 6, 61)), -np.sin(np.linspace(0, 6, 61))], axis=1)
        assert np.isfinite(std).all() and np.abs(mean - truth).max() < 0.1
        assert np.mean(np.abs(mean - truth)[1:] < 3 * std[1:]) > 0.9
        model.save(tmp_path / "model.npz")
        again = pn.load(tmp_path / "model.npz")
        assert np.array_equal(again.predict(t, [1.0, 0.0]), model.predict(t, [1.0, 0.0]))


def test_velocities_that_nobody_measured():
    t, Y = mass_spring.data(0)
    Y[..., 1] = np.nan
    model = pn.NeuralODE(field=pn.second_order(pn.mlp(1, (8,), 1)), random_state=0).fit(t, Y)
    times = np.linspace(0, 12, 121)
    assert np.abs(model.predict(times, [1.0, 0.0])[:, 0] - np.cos(times)).max() < 0.15
    assert model.report_["noise"]["y1"] == pytest.approx(0.1, rel=0.1)


def test_a_driven_oscillator_with_unknown_friction():
    def force(t, y, th, u):
        return -th.k * y[:1] + u - th.friction(y[1:])

    f = pn.second_order(pn.field(state=2, out=1, inputs=1, theta={"k": 1.0, "friction": pn.mlp(1, (8,), 1)})(force))
    truth = pn.second_order(pn.field(state=2, out=1, inputs=1)(lambda t, y, u: -1.5 * y[:1] + u - 0.2 * y[1:] ** 3))
    t = np.linspace(0, 12, 121)
    u, rng = np.sin(1.7 * t)[:, None], np.random.default_rng(1)
    clean = pn.solve(truth, rng.normal(size=(4, 2)), t, inputs=(t, u)).y
    model = pn.NeuralODE(field=f, random_state=0).fit(t, clean + 0.02 * rng.normal(size=clean.shape), u=[u] * 4)
    assert model.theta_[0] == pytest.approx(1.5, abs=0.05)
    want = pn.solve(truth, [1.0, 0.0], t, inputs=(t, u)).y
    assert np.abs(model.predict(t, [1.0, 0.0], u=u) - want).max() < 0.05


def test_parameters_that_do_not_matter():
    # an additive constant of the energy moves nothing: it stays, and does no harm to the others
    @pn.hamiltonian
    @pn.field(state=2, out=1, theta={"k": pn.positive(0.5), "m": pn.frozen(1.0), "zero": 3.0})
    def spring(t, y, th):
        return th.k * y[0] ** 2 / 2 + y[1] ** 2 / (2 * th.m) + th.zero

    t, Y = mass_spring.data(0)
    with pytest.warns(pn.fit.FitWarning, match="the data do not determine zero = 3:"):
        model = pn.NeuralODE(field=spring, random_state=0).fit(t, Y)
    assert model.theta_[0] == pytest.approx(1.0, abs=0.03) and np.array_equal(model.theta_[1:], [1.0, 3.0])
    assert 1e-3 < np.sqrt(model.covariance_[0, 0]) < 0.03


# ---- Known physics and a network


@pytest.fixture(scope="module")
def species():
    with pytest.warns(pn.fit.FitWarning, match="determine the network loosely"):  # the plain one, and so it is
        return lotka.models(0)


def test_learned_interaction_is_the_true_one(species):
    # medians of ten data sets: 1.3 and 1.4 % of the interaction; plain 2.5 and 19 %
    model, plain = species
    along, around = lotka.exact(np.linspace(0, lotka.END, 241)), lotka.around()
    assert lotka.relative_error(model, along) < 0.03 and lotka.relative_error(model, around) < 0.05
    assert lotka.relative_error(plain, around) > 3 * lotka.relative_error(model, around)
    learned, std = lotka.interaction_with_band(model, along)
    assert np.allclose(learned, model.derivative(0.0, along) - lotka.known(along), atol=1e-12)
    assert np.mean(np.abs(learned - lotka.true_interaction(along)) < 3 * std) > 0.8
    for line, (value, name) in zip(lotka.law(along, learned), ((-0.9, "xy"), (0.8, "xy")), strict=True):
        coefficient, term = line.split(" ")
        assert float(coefficient) == pytest.approx(value, abs=0.03) and term == name


def test_known_constants_stay_and_the_trajectory_goes_on(species):
    model = species[0]
    parts = model.field_.unflatten(model.theta_)
    assert parts["growth"] == lotka.GROWTH and parts["decay"] == lotka.DECAY
    t = np.linspace(0, 2 * lotka.END, 241)
    errors = [np.abs(m.predict(t) - lotka.exact(t))[t > lotka.END].mean() for m in species]
    assert errors[0] < 0.2 and errors[1] > 2 * errors[0]


def test_law():
    y = RNG.uniform(0, 3, (200, 2))
    assert lotka.law(y, np.stack([2 - 0.5 * y[:, 0] * y[:, 1], 3 * y[:, 1] ** 2 + y[:, 0]], axis=1)) == [
        "+2.00 1 -0.50 xy",
        "+3.00 yy +1.00 x",
    ]


@pytest.mark.filterwarnings("ignore:the data determine the network loosely")
def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    for module in (mass_spring, lotka):
        module.picture(tmp_path / "picture.png")
        assert (tmp_path / "picture.png").stat().st_size > 30_000
