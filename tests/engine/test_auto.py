"""method="auto": samples change between dopri5 and rodas5p by themselves, and gradients go through the changes exactly."""

import numpy as np
import pytest

import pynode as pn

TIGHT = {"rtol": 1e-6, "atol": 1e-6}


@pn.field(state=2, theta=1)
def van_der_pol(t, y, th):
    return [y[1], th[0] * (1 - y[0] ** 2) * y[1] - y[0]]


@pn.field(state=3, theta=3)
def robertson(t, y, th):
    a = th[0] * y[0]
    b = th[1] * y[1] * y[2]
    c = th[2] * y[1] ** 2
    return [-a + b, a - b - c, c]


@pn.field(state=2, theta=2, inputs=1)
def driven(t, y, th, u):
    """Fast to follow what it is driven by, with a rate that falls off: stiff at first."""
    rate = th[0] * (1.0 + np.tanh(20.0 * (1.0 - t)))
    return [-rate * (y[0] - np.cos(3 * t) * u[0]), th[1] * (y[0] - y[1])]


@pn.field(state=2, theta=2)
def easy(t, y, th):
    return [th[0] * y[0] * (1 - y[1]), th[1] * y[1] * (y[0] - 1)]


SWITCHING = {"y0": [[2.0, 0.0], [0.5, 1.0], [1.0, -1.0]], "t": np.linspace(0, 120, 25), "theta": [40.0]}


def test_nothing_changes_where_nothing_is_stiff():
    y0 = np.array([[2.0, 1.0], [1.5, 0.3], [0.4, 0.9]])
    t = np.linspace(0, 30, 40)
    auto, plain = (pn.solve(easy, y0, t, [1.0, 1.0], method=m) for m in ("auto", "dopri5"))
    assert np.array_equal(auto.y, plain.y) and np.array_equal(auto.stats.nfe, plain.stats.nfe)
    assert auto.stats.stiff.tolist() == [0, 0, 0] and plain.stats.stiff.tolist() == [0, 0, 0]
    grads = [pn.loss_and_grad(easy, y0, t, [1.0, 1.0], np.zeros((3, 40, 2)), method=m).theta for m in ("auto", "dopri5")]
    assert np.array_equal(*grads)


def test_stiff_solutions():
    from scipy.integrate import solve_ivp

    rates = np.array([0.04, 1e4, 3e7])
    t = np.array([0.0, 1e2, 1e5])
    sol = pn.solve(robertson, [1.0, 0.0, 0.0], t, rates, method="auto", rtol=1e-6, atol=[1e-8, 1e-12, 1e-8])

    def right(t, y):
        a = rates[0] * y[0]
        b = rates[1] * y[1] * y[2]
        c = rates[2] * y[1] ** 2
        return [-a + b, a - b - c, c]

    reference = solve_ivp(right, (0, 1e5), [1.0, 0, 0], "Radau", t, rtol=1e-10, atol=1e-14).y.T
    assert sol.ok and sol.stats.stiff > 50 and sol.stats.accepted < 300
    assert np.allclose(sol.y, reference, rtol=3e-6, atol=1e-11)


def test_samples_change_there_and_back():
    sol = pn.solve(van_der_pol, **SWITCHING, method="auto", **TIGHT)
    explicit = pn.solve(van_der_pol, **SWITCHING, method="dopri5", rtol=1e-10, atol=1e-10)
    assert sol.ok and (sol.stats.stiff > 30).all() and (sol.stats.stiff < sol.stats.accepted - 100).all()
    assert np.abs(sol.y - explicit.y)[:, :, 0].max() < 2e-3  # jumps come at times that are right to 1e-4


def test_a_sample_does_not_depend_on_its_neighbours_or_threads():
    rng = np.random.default_rng(0)
    y0 = rng.uniform(-2, 2, (37, 2))
    theta = rng.uniform(0.5, 60.0, (37, 1))
    t = np.tile(np.linspace(0, 60, 9), (37, 1))
    target = np.zeros((37, 9, 2))

    def everything(rows, **options):
        r = pn.loss_and_grad(
            van_der_pol,
            y0[rows],
            t[rows],
            theta[rows],
            target[rows],
            loss="sse",
            method="auto",
            wrt=("theta", "y0", "t"),
            **TIGHT,
            **options,
        )
        return [np.asarray(x) for x in (r.theta, r.y0, r.t)]

    together = everything(slice(None))
    for rows in (slice(0, 1), slice(5, 9), slice(3, 20)):
        for a, b in zip(together, everything(rows), strict=True):
            assert np.array_equal(a[rows], b)
    for options in ({"threads": 3}, {"memory": "200KB"}, {"memory": "1MB"}):
        for a, b in zip(together, everything(slice(None), **options), strict=True):
            assert np.array_equal(a, b)


def ways(field, sol, theta, t, **options):
    """Of each step of one sample, whether it is one of rodas5p: by taking it again with either method."""
    records = sol.results["steps"][0]
    d = field.d
    found = []
    for k, (start, h) in enumerate(records[:, :2]):
        end = records[k + 1, 0] if k + 1 < len(records) else start + h
        y = records[k, 2 : 2 + d]
        after = records[k + 1, 2 : 2 + d] if k + 1 < len(records) else sol.y[-1]
        far = [
            np.abs(
                pn.solve(field, y, [start, end], theta, method=m, grid=np.array([start, end]), **options).y[-1] - after
            ).max()
            for m in ("dopri5", "rodas5p")
        ]
        assert min(far) < 1e-12 * max(1.0, np.abs(after).max())
        found.append(far[1] < far[0])
    return np.array(found)


@pytest.mark.parametrize(("field", "y0", "theta", "span"), [
    (van_der_pol, [2.0, 0.0], [40.0], (0.0, 60.0)),
    (robertson, [1.0, 0.0, 0.0], [0.04, 1e4, 3e7], (0.0, 10.0)),
    (van_der_pol, [2.0, 0.0], [-40.0], (0.0, -60.0)),
])  # fmt: skip
def test_gradients_go_through_changes_exactly(field, y0, theta, span):
    """Against the product of the derivatives of all steps, each taken again with its method."""
    options = {"rtol": 1e-5, "atol": [1e-7, 1e-11, 1e-7] if field.d == 3 else 1e-7}
    sol = pn.solve(field, y0, span, theta, method="auto", dense=True, steps=True, **options)
    stiff = ways(field, sol, theta, span)
    assert sol.stats.stiff == stiff.sum() and stiff.any() and not stiff[:16].any()
    if field is van_der_pol:
        assert np.count_nonzero(np.diff(stiff.astype(int))) >= 3  # there and back
    g = np.linspace(1.0, 2.0, field.d)
    back = sol.vjp(np.stack([np.zeros(field.d), g]), wrt=("theta", "y0"))
    records, total = sol.results["steps"][0], np.zeros(len(theta))
    for k in reversed(range(len(records))):
        start = records[k, 0]
        end = records[k + 1, 0] if k + 1 < len(records) else span[1]
        method = "rodas5p" if stiff[k] else "dopri5"
        step = pn.solve(field, records[k, 2 : 2 + field.d], [start, end], theta, method=method, grid=np.array([start, end]))
        one = step.vjp(np.stack([np.zeros(field.d), g]), wrt=("theta", "y0"))
        total, g = total + one.theta, one.y0
    assert np.allclose(back.theta, total, rtol=1e-9, atol=0)
    assert np.allclose(back.y0, g, rtol=1e-9, atol=1e-12 * np.abs(total).max())


def test_sensitivities_are_the_gradient():
    S = pn.sensitivities(van_der_pol, **SWITCHING, method="auto", **TIGHT)
    sol = pn.solve(van_der_pol, **SWITCHING, method="auto", **TIGHT)
    assert np.allclose(S.solution.y, sol.y, rtol=1e-12) and np.array_equal(S.solution.stats.stiff, sol.stats.stiff)
    g = np.random.default_rng(1).normal(size=sol.y.shape)
    back = sol.vjp(g, wrt=("theta", "y0"))
    assert np.allclose((S.theta * g[..., None]).sum(axis=(0, 1, 2)), back.theta, rtol=1e-9)
    assert np.allclose((S.y0 * g[..., None]).sum(axis=(1, 2)), back.y0, rtol=1e-9, atol=1e-9 * np.abs(back.y0).max())


@pytest.mark.parametrize("save", ["interpolate", "land"])
def test_gradients_with_inputs_and_times(save):
    """Against differences of a solve so tight that its steps do not matter."""
    t = np.linspace(0, 2, 7)
    inputs = (np.linspace(0, 2, 5), np.array([[1.0], [1.2], [0.8], [1.1], [1.0]]))
    theta = np.array([3e3, 1.5])
    options = {"method": "auto", "save": save, "rtol": 1e-9, "atol": 1e-9}
    target = np.zeros((7, 2))

    def loss(theta, u):
        return pn.loss_and_grad(
            driven, [1.0, 0.5], t, theta, target, inputs=pn.Signal(inputs[0], u, "cubic"), loss="sse", **options
        )

    r = loss(theta, inputs[1])
    with_inputs = pn.loss_and_grad(
        driven,
        [1.0, 0.5],
        t,
        theta,
        target,
        inputs=pn.Signal(*inputs, "cubic"),
        loss="sse",
        wrt=("theta", "inputs"),
        **options,
    )
    assert pn.solve(driven, [1.0, 0.5], t, theta, inputs=pn.Signal(*inputs, "cubic"), **options).stats.stiff > 10
    for k, h in ((0, 1.0), (1, 1e-4)):
        move = np.eye(2)[k] * h
        difference = (loss(theta + move, inputs[1]).loss - loss(theta - move, inputs[1]).loss) / (2 * h)
        assert r.theta[k] == pytest.approx(difference, rel=1e-4)
    move = np.zeros((5, 1))
    move[2] = 1e-4
    difference = (loss(theta, inputs[1] + move).loss - loss(theta, inputs[1] - move).loss) / 2e-4
    assert np.asarray(with_inputs.inputs).reshape(-1)[2] == pytest.approx(difference, rel=1e-4)


def test_events_and_float32_and_dense_output():
    event = pn.event(lambda t, y: y[0] - 1.0)
    long = {"y0": [2.0, 0.0], "t": [0.0, 60.0], "theta": [40.0]}
    found = pn.solve(van_der_pol, **long, events=[event], method="auto", **TIGHT)
    reference = pn.solve(van_der_pol, **long, events=[event], method="dopri5", rtol=1e-10, atol=1e-10)
    times = [s.events.t for s in (found, reference)]
    assert len(times[0]) == len(times[1]) > 0 and np.allclose(*times, rtol=1e-4)
    sol = pn.solve(van_der_pol, **long, method="auto", dense=True, **TIGHT)
    t = np.linspace(0, 60, 500)
    tight = pn.solve(van_der_pol, [2.0, 0.0], t, [40.0], method="rodas5p", rtol=1e-10, atol=1e-10)
    assert np.median(np.abs(sol(t) - tight.y)[:, 0]) < 1e-4
    single = pn.solve(van_der_pol, np.float32([2.0, 0.0]), [0.0, 20.0], [40.0], method="auto", rtol=1e-4, atol=1e-4)
    assert single.y.dtype == np.float32 and single.ok and single.stats.stiff > 3
    assert np.allclose(single.y[-1], pn.solve(van_der_pol, [2.0, 0.0], [0.0, 20.0], [40.0], **TIGHT).y[-1], rtol=1e-3)


def calls_that_prescribe_steps(field, y0, t, theta):
    """Of the names of calls what they return, with method= to be given: those that go through given steps once more."""
    zeros = np.zeros((len(t), 2))
    event = pn.event(lambda t, y: y[0] - 1.2, terminal=False)
    kick = pn.System(field, jump=pn.field(state=2)(lambda t, y: y + 0.1))
    return {
        "gradient with events": lambda m: pn.loss_and_grad(field, y0, t, theta, zeros, events=event, method=m).theta,
        "sensitivities with events": lambda m: pn.sensitivities(field, y0, t, theta, events=event, method=m).theta,
        "sensitivities with jumps": lambda m: pn.sensitivities(kick, y0, t, theta, method=m).theta,
        "check_grad": lambda m: pn.check_grad(field, y0, t, theta, zeros, method=m).difference,
    }


@pytest.mark.parametrize("name", calls_that_prescribe_steps(easy, [2.0, 1.0], [0.0, 1.0], [1.0, 1.0]))
def test_steps_that_are_gone_through_again(name):
    """Where nothing is stiff they are those of dopri5, to the bit; steps of two methods are refused."""
    call = calls_that_prescribe_steps(easy, [2.0, 1.0], np.linspace(0, 6, 7), [1.0, 1.0])[name]
    assert np.array_equal(call("auto"), call("dopri5"))
    stiff = calls_that_prescribe_steps(van_der_pol, [2.0, 0.0], [0.0, 20.0], [40.0])[name]
    with pytest.raises(ValueError, match=r"method='auto': sample 0 was stiff.*take method='rodas5p'"):
        stiff("auto")


def test_no_warning_of_stiffness():
    """A solve that would warn with an explicit method."""
    with pytest.warns(pn.StiffnessWarning):
        pn.solve(van_der_pol, [2.0, 0.0], [0.0, 60.0], [60.0])
    pn.solve(van_der_pol, [2.0, 0.0], [0.0, 60.0], [60.0], method="auto")


def test_what_cannot_change_methods_is_refused():
    y0, t = [2.0, 0.0], [0.0, 1.0]
    for options, words in (
        ({"step": 0.1}, "name one method"),
        ({"grid": np.array([0.0, 1.0])}, "name one method"),
        ({"coupling": 0.9}, "coupling must be 0"),
        ({"mass": np.eye(2)}, "method='auto' does not"),
    ):
        with pytest.raises(ValueError, match=words):
            pn.solve(van_der_pol, y0, t, [1.0], method="auto", **options)
    for adjoint in ("backsolve", "interpolating"):
        with pytest.raises(ValueError, match="continuous adjoints take explicit methods"):
            pn.loss_and_grad(van_der_pol, y0, t, [1.0], np.zeros((2, 2)), method="auto", adjoint=adjoint)


@pytest.mark.parametrize("given", [False, True])
def test_callbacks_change_their_method_too(given):
    def f(t, y):
        return np.stack([y[:, 1], 1000.0 * (1 - y[:, 0] ** 2) * y[:, 1] - y[:, 0]], axis=1)

    def jacobian(t, y):
        J = np.zeros((len(t), 2, 2))
        J[:, 0, 1] = 1.0
        J[:, 1, 0] = -2000.0 * y[:, 0] * y[:, 1] - 1
        J[:, 1, 1] = 1000.0 * (1 - y[:, 0] ** 2)
        return J

    def vjp(t, y, g):
        return np.einsum("ni,nij->nj", g, jacobian(t, y))

    called = pn.callback_field(f, 2, vjp=vjp, vectorized=True, jacobian=jacobian if given else None)
    traced = pn.field(state=2)(lambda t, y: [y[1], 1000.0 * (1 - y[0] ** 2) * y[1] - y[0]])
    y0, t = [[2.0, 0.0], [1.0, 0.0], [1.5, 0.1]], np.linspace(0, 1000, 5)
    a, b = (pn.solve(g, y0, t, method="auto", rtol=1e-8, atol=1e-10) for g in (called, traced))
    assert a.stats.jacobian == ("given" if given else "differences") and (a.stats.stiff > 0).all()
    assert (a.stats.accepted > a.stats.stiff).all() and (a.stats.jacobians == a.stats.stiff).all()
    np.testing.assert_allclose(a.y, b.y, rtol=1e-6, atol=1e-8)
    g = np.ones((3, 5, 2))
    back = a.vjp(g, wrt=("y0",)).y0
    np.testing.assert_allclose(back, b.vjp(g, wrt=("y0",)).y0, rtol=1e-3)
    assert np.array_equal(a.vjp(g, wrt=("y0",), memory="200KB").y0, back)


def test_steps_by_the_stiff_method_are_counted_between_events_too():
    f = pn.field(state=2)(lambda t, y: [y[1], 1000.0 * (1 - y[0] ** 2) * y[1] - y[0]])
    half = pn.event(lambda t, y: y[0] - 1.5, reset=lambda t, y: y)
    sol = pn.solve(f, [2.0, 0.0], [0.0, 2000.0], method="auto", events=half)
    assert 0 < sol.stats.stiff < sol.stats.accepted and sol.stats.jacobians >= sol.stats.stiff
