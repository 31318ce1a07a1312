"""Plans of calls with events: later calls give what first calls give, whatever was changed since."""

import copy
import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import pynode as pn
from pynode.fields.plans import Reading
from pynode.fields.system import kept_system

T = np.linspace(0.0, 2.0, 21)
LEVEL = 0.5


@pn.field(state=2, theta={"g": 9.81, "drag": 0.1})
def ball(t, y, th):
    return [y[1], -th.g - th.drag * y[1]]


def ground(t, y):
    return y[0]


def bounce(t, y):
    return [0.0 * y[0], -0.8 * y[1]]


EVENTS = {
    "terminal": lambda: pn.event(ground, direction=-1),
    "hold": lambda: pn.event(ground, direction=-1, hold=True),
    "reset": lambda: pn.event(ground, direction=-1, reset=bounce),
    "several": lambda: [
        pn.event(ground, direction=-1, reset=bounce),
        pn.event(lambda t, y: y[1], terminal=False),
        pn.event(pn.field(state=2, out=1, theta={"at": 1.7})(lambda t, y, th: [t - th.at])),
    ],
}


def states(n=None, dtype=np.float64):
    y = np.random.default_rng(0).uniform([2.0, -1.0], [6.0, 1.0], (n or 1, 2)).astype(dtype)
    return y if n else y[0]


def fresh(f):
    """The same field, or system, without plans."""
    return pn.Field(f.program, f.spec, f.name) if isinstance(f, pn.Field) else pn.System(f.field, f.jump, f.loss, f.events)


def same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def same_solve(f, *args, **keys):
    now, then = (pn.solve(g, *args, **keys) for g in (f, fresh(f)))
    assert now.y.dtype == then.y.dtype
    parts = [(s.y, s.t, s.theta, s.batch.y0, s.events.t, s.events.after, s.terminated, s.stats.nfe) for s in (now, then)]
    same(*parts)
    back = [s.vjp(event_t=np.ones(len(s.events)), wrt=("theta", "y0", "t")) for s in (now, then)]
    same(*((g.theta, g.y0, g.t) for g in back))
    return now


def same_gradient(f, *args, **keys):
    now, then = (pn.loss_and_grad(g, *args, wrt=("theta", "y0"), **keys) for g in (f, fresh(f)))
    same(*((v.loss, v.theta, v.y0, v.y, v.sample_loss) for v in (now, then)))
    return now


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("n", [None, 4])
def test_later_calls_are_first_calls(kind, n):
    events = EVENTS[kind]()
    f = fresh(ball)
    y0, t = states(n), T.copy()
    theta = pn.System(ball, events=events).init()
    target = np.random.default_rng(1).standard_normal((*y0.shape[:-1], 21, 2))
    for _ in range(2):
        same_solve(f, y0, t, theta, events=events)
        same_gradient(f, y0, t, theta, target, events=events)
    (system,) = (plan[0] for plan in f.plans.values())
    assert len(system.plans) == 2
    for array in (y0, theta, target):  # in place
        array *= 1.1
        same_solve(f, y0, t, theta, events=events)
        same_gradient(f, y0, t, theta, target, events=events)
    assert len(system.plans) == 2
    t *= 0.9
    same_solve(f, y0, t, theta, events=events)
    same_solve(f, y0, t[:7], theta, events=events, dense=True)
    same_solve(f, y0, t[::-1].copy(), theta, events=events, steps=True)
    same_solve(f, states(7), t, theta, events=events, threads=2)
    same_solve(f, states(1), t, theta, events=events, max_events=2, errors="ignore")
    now = same_solve(f, states(n, np.float32), t, theta.astype(np.float32), events=events)
    assert now.y.dtype == np.float32
    same_gradient(f, states(n, np.float32), t, theta, target.astype(np.float32), events=events)


def test_a_plan_is_used_again():
    event, f = pn.event(ground), fresh(ball)
    first = pn.solve(f, states(), T, f.init(), events=event)
    again = pn.solve(f, states() + 1, T, 2 * f.init(), events=[event])
    assert again.field is first.field and again.prepared.whole is first.prepared.whole
    assert pn.solve(f, states(), T, f.init(), events=event, rtol=1e-5).prepared.whole is not first.prepared.whole
    system = pn.System(f, events=event)
    wholes = {id(pn.solve(system, states(), T, f.init()).prepared.whole) for _ in range(3)}
    assert len(wholes) == 1


def test_other_events():
    f, theta = fresh(ball), ball.init()
    y0 = states(3)
    events = [pn.event(lambda t, y: y[0] - 1.0, direction=-1), pn.event(lambda t, y: y[1], terminal=False)]
    same_solve(f, y0, T, theta, events=events)
    events[0] = dataclasses.replace(events[0], direction=1)
    assert len(same_solve(f, y0, T, theta, events=events).events.of(which=0)) == 0
    events.pop()
    same_solve(f, y0, T, theta, events=events)
    same_solve(f, y0, T, theta, events=tuple(events))
    assert isinstance(pn.solve(f, y0, T, theta), pn.Solution)
    for level in (0.5, 1.0, 1.5):  # new functions
        sol = same_solve(f, y0, T, theta, events=pn.event(lambda t, y, level=level: y[0] - level))
        np.testing.assert_allclose(sol.events.before[:, 0], level)
    for level in range(40):
        pn.solve(f, y0, T, theta, events=pn.event(lambda t, y, level=level: y[0] - level))
    assert len(f.plans) <= 16


def helper(y):
    return y[0] - LEVEL


def calls_helper(t, y):
    return helper(y)


def test_what_a_function_reads_is_read_again():
    """A number around the function, in the module, in a function that it calls; an array, an object: no plan."""
    level, array = 0.5, np.array([0.5])
    thing = SimpleNamespace(level=0.5)

    def around(t, y):
        return y[0] - level

    def default(t, y, at=0.5):
        return y[0] - at

    f, found = fresh(ball), {}
    functions = {
        "around": around,
        "module": calls_helper,
        "array": lambda t, y: y[0] - array[0],
        "object": lambda t, y: y[0] - thing.level,
        "default": default,
    }
    events = {name: pn.event(g) for name, g in functions.items()}

    def solved():
        return {n: pn.solve(f, states(), T, f.init(), events=e).events.before[0, 0] for n, e in events.items()}

    for _ in range(2):
        np.testing.assert_allclose(list(solved().values()), 0.5)
    assert {n for n, e in events.items() if kept_system(f, (e,))} == {"around", "module", "default"}
    level = array[0] = thing.level = 1.25
    default.__defaults__ = (1.25,)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "LEVEL", 1.25)
        for _ in range(2):
            found = solved()
            np.testing.assert_allclose(list(found.values()), 1.25)
        patch.setitem(globals(), "helper", lambda y: y[0] - 1.5)
        assert np.isclose(solved()["module"], 1.5)
    assert np.isclose(solved()["module"], 0.5)


def test_reading():
    def known(*functions):
        return Reading(functions, (pn.Field,)).known

    net, empty = pn.mlp(2, (3,), 1), {}
    assert known(lambda t, y: np.sin(y[0]) - abs(LEVEL), lambda t, y: net.bind(None)(y), helper, ball)
    assert known(lambda t, y: (lambda x: x - LEVEL)(y[0]), lambda t, y: float(np.float32(2.0)))
    assert not known(lambda t, y: (lambda x: x - empty["x"])(y[0]))
    assert not known(lambda t, y, *, at=1.0: y[0] - at)
    assert not known(SimpleNamespace(level=1.0).__repr__)
    assert not known(empty.get)

    def imports(t, y):
        import math

        return y[0] - math.pi

    def later(t, y):
        return y[0] - unset

    assert not known(imports)
    assert not known(later)
    reading = Reading([later], ())
    unset = 1.0
    assert not reading.same() and known(later)

    def recursive(t, y, n=0):
        return y[0] if n else recursive(t, y, 1)

    assert known(recursive)
    reading = Reading([recursive], ())
    assert reading.same()
    recursive = None
    assert not reading.same()


def test_errors_are_those_of_first_calls():
    f, event = fresh(ball), pn.event(ground)
    y0, theta = states(3), ball.init()
    target = np.zeros((3, 21, 2))
    cases = [
        ((y0, T, theta * np.nan), {}),
        ((y0, T, theta[:1]), {}),
        ((y0, T, np.tile(theta, (3, 1))), {}),
        ((y0[:, :1], T, theta), {}),
        ((y0, T[::-1] * np.nan, theta), {}),
        ((y0, T, theta), {"max_events": 0}),
        ((y0, T, theta), {"max_events": True}),
        ((y0, T, theta), {"max_events": "a"}),
        ((y0, T, theta), {"data": target}),
        ((y0, T, theta), {"events": [event, 3]}),
        ((y0, T, theta), {"events": []}),
        ((y0, T, theta), {"errors": "no"}),
        ((y0, T, theta, target), {"coupling": 0.9}),
    ]

    def message(call, f, args, keys):
        with pytest.raises((ValueError, TypeError)) as caught:
            call(f, *args, **{"events": event} | keys)
        return str(caught.value)

    pn.solve(f, y0, T, theta, events=event)
    pn.solve(f, y0, T, theta, events=event, max_events=1)
    pn.loss_and_grad(f, y0, T, theta, target, events=event, max_events=1)
    pn.loss_and_grad(f, y0, T, theta, target, events=event)
    for args, keys in cases:
        if len(args) == 3:
            assert message(pn.solve, f, args, keys) == message(pn.solve, fresh(f), args, keys)
        with_target = (*args[:3], target)
        expected = message(pn.loss_and_grad, fresh(f), with_target, keys)
        assert message(pn.loss_and_grad, f, with_target, keys) == expected
    for bad in (target + np.inf, target * np.nan, target[:2]):
        args = y0, T, theta, bad
        assert message(pn.loss_and_grad, f, args, {}) == message(pn.loss_and_grad, fresh(f), args, {})


def test_parameters_of_events_are_checked():
    level = pn.field(state=2, out=1, theta={"level": 0.5})(lambda t, y, th: [y[0] - th.level])
    system = pn.System(ball, events=pn.event(level))
    theta = system.init()
    for p in (theta, theta + 0.25, theta.astype(np.float32)):
        sol = pn.solve(system, states(3), T, p)
        np.testing.assert_allclose(sol.events.before[:, 0], p[-1])
    assert len(system.plans) == 1
    with pytest.raises(ValueError, match=r"theta\[2\] is nan"):
        pn.solve(system, states(3), T, [*theta[:2], np.nan])
    theta[2] = np.inf
    with pytest.raises(ValueError, match=r"theta\[2\] is inf"):
        pn.solve(system, states(3), T, theta)
    with pytest.raises(ValueError, match="theta"):
        pn.solve(system, states(3), T, theta[:2])


@pytest.mark.parametrize("hold", [False, True])
def test_jumps_and_data(hold):
    rng = np.random.default_rng(3)
    push = pn.field(state=2, theta={"gain": 1.0}, inputs=1)(lambda t, y, th, x: [y[0], y[1] + th.gain * x[0]])
    loss = pn.field(state=2, out=1, theta={"w": 0.5}, inputs=1)(lambda t, y, th, x: [th.w * (y[0] - x[0]) ** 2])
    system = pn.System(ball, jump=push, loss=loss, events=pn.event(ground, hold=hold))
    theta, y0 = system.init(), states(3)
    data, target = rng.uniform(0, 3, (3, 21, 1)), rng.standard_normal((3, 21, 1))
    data[:, 1::2] = np.nan
    for array in (None, data, target, data, y0, theta):
        if array is not None:
            array *= 1.2
        for _ in range(2):
            same_solve(system, y0, T, theta, data=data)
            same_gradient(system, y0, T, theta, target, loss="program", data=data)
    data[:, 3] = 1.0
    same_solve(system, y0, T, theta, data=data)
    data[:] = np.nan
    same_solve(system, y0, T, theta, data=data)


def test_warnings_come_each_time():
    f, event = fresh(ball), pn.event(ground, reset=bounce)
    for _ in range(3):
        with pytest.warns(pn.SolveWarning, match="max_events"):
            pn.solve(f, states(), 3 * T, f.init(), events=event, max_events=1)
        with pytest.raises(pn.SolveError):
            pn.solve(f, states(), 3 * T, f.init(), events=event, max_events=1, errors="raise")
    tiny = np.array([1e-3, 0.0])
    for _ in range(3):
        with pytest.warns(pn.ToleranceWarning):
            pn.solve(f, tiny, T[:2] / 1e5, f.init(), events=event, atol=1.0)
        with pytest.warns(pn.ToleranceWarning):
            pn.loss_and_grad(f, tiny, T[:2] / 1e5, f.init(), np.zeros((2, 2)), events=event, atol=1.0)


def test_results_are_not_shared():
    f, event = fresh(ball), pn.event(ground, hold=True)
    y0, theta = states(2), ball.init()
    first = [pn.solve(f, y0, T, theta, events=event, dense=True) for _ in range(2)][1]
    kept = copy.deepcopy(first.y), first.events.before.copy(), first.vjp(event_t=np.ones(2)).theta
    y0 += 1.0
    theta *= 2.0
    other = pn.solve(f, y0, T, theta, events=event, dense=True)
    other.y[:] = other.events.before[:] = other.events.t[:] = 7.0
    other.results["stop_t"][:] = 7.0
    same((first.y, first.events.before, first.vjp(event_t=np.ones(2)).theta), kept)
    np.testing.assert_array_equal(first.batch.y0, y0 - 1.0)
    np.testing.assert_array_equal(first.theta * 2.0, theta)
    assert not np.array_equal(pn.solve(f, y0, T, theta, events=event, dense=True).y, other.y)


def test_a_solution_by_a_plan_is_pickled():
    system = pn.System(ball, events=pn.event(ground))
    sol = [pn.solve(system, states(2) + i, T, ball.init()) for i in range(2)][1]
    other = pickle.loads(pickle.dumps(sol))
    same((other.y, other.batch.y0, other.events.t), (sol.y, states(2) + 1, sol.events.t))
    np.testing.assert_array_equal(other.vjp(event_t=np.ones(2)).theta, sol.vjp(event_t=np.ones(2)).theta)


def test_threads_share_a_plan():
    f, event = fresh(ball), pn.event(ground, direction=-1, reset=bounce)
    target = np.zeros((3, 21, 2))

    def one(i):
        args = states(3) + 0.1 * i, T, ball.init() * (1 + 0.01 * i)
        value = pn.loss_and_grad(f, *args, target, events=event)
        return pn.solve(f, *args, events=event).y, value.theta, value.loss

    expected = [one(i) for i in range(12)]
    f.plans.clear()
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(one, [*range(12)] * 3), expected * 3, strict=True):
            same(got, want)
