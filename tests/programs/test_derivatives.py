"""Derivative rules, one operation at a time and composed, against the complex step."""

import numpy as np
import pytest
import reference_interpreter as reference
from reference_interpreter import backend  # noqa: F401

from pynode.fields.make import field, mlp
from pynode.programs.builder import Builder
from pynode.programs.derivatives import (
    Cotangent,
    GradSink,
    backsolve_program,
    interpolating_program,
    pullback,
    pushforward,
    vjp_program,
)
from pynode.programs.program import OPS, SAME
from pynode.programs.rules import RULES

pytestmark = pytest.mark.usefixtures("backend")
B, N = 3, 6  # samples, size of the state; theta has N parameters too
STEP = 1e-30


# ---- A program around each operation: slots t (1), y (N); theta (N); made so that everything moves it


def operands(b, count):
    """`count` registers of size N that depend on t, y and theta, positive and different."""
    y, p = 1, b.theta()
    first = b.add(b.mul(y, p), b.broadcast(0, N))
    second = b.add(b.gather(y, [5, 3, 1, 0, 2, 4]), b.mul(b.broadcast(0, N), p))
    third = b.mul(first, b.add(y, b.full(N, 0.1)))
    return [first, second, third][:count]


def elementwise(op):
    def write(b):
        x = operands(b, OPS[op]["operands"])
        if op == "WHERE":
            x[0] = b.lt(x[0], x[1])
        return [b.same(op, *x)]

    return write


def structural(b, op):
    x, z, w = operands(b, 3)
    p = b.theta()
    return {
        "CONST": lambda: b.add(x, b.const(np.arange(N) / 7)),
        "PARAM": lambda: b.mul(b.slice(p, 1, 3), b.slice(x, 0, 3)),
        "AFFINE": lambda: b.add(b.matvec(b.slice(p, 1, 4), b.slice(x, 0, 2)), b.slice(p, 4, 2)),
        "AFFINE_T": lambda: b.matvec_t(b.slice(p, 0, 6), b.slice(x, 1, 3)),
        "MATVEC": lambda: b.matvec(x, b.slice(z, 0, 3)),
        "MATVEC_T": lambda: b.matvec_t(x, b.slice(z, 1, 2)),
        "OUTER": lambda: b.outer(b.slice(x, 0, 2), b.slice(z, 2, 3)),
        "BCAST": lambda: b.mul(b.broadcast(b.slice(x, 2, 1), N), z),
        "SUM": lambda: b.sum(b.mul(x, z)),
        "SLICE": lambda: b.mul(b.slice(x, 5, 3, -2), b.slice(x, 0, 3, 2)),
        "CONCAT": lambda: b.square(b.concat(b.slice(x, 0, 2), b.full(1, 2.0), w)),
        "GATHER": lambda: b.mul(b.gather(x, [0, 3, 3, 1]), b.gather(z, [3, 3, 0, 4])),
        "SCATTER": lambda: b.square(b.scatter(x, [0, 3, 3, 1, 2, 0], 5)),
    }[op]()


def accumulating(b, op):
    x, z = operands(b, 2)
    if op == "ACC":
        b.acc(0, 2, b.sin(b.slice(x, 1, 4)))
    else:
        b.acc_outer(0, 1, b.sin(b.slice(x, 1, 2)), b.slice(z, 3, 2))
    return [b.mul(x, z)]


CASES = {
    **{op: elementwise(op) for op in SAME},
    **{op: lambda b, op=op: [structural(b, op)] for op in OPS if op not in SAME and op not in ("CALL", "ACC", "ACC_OUTER")},
    **{op: lambda b, op=op: accumulating(b, op) for op in ("ACC", "ACC_OUTER")},
}


def program_of(op):
    grads = (N,) if op in ("ACC", "ACC_OUTER") else ()
    b = Builder((1, N), (N,), grads)
    program = b.finish(CASES[op](b))
    assert op in {ins.op for ins in program.instructions}
    return program


def test_every_operation_has_a_rule_and_a_case():
    assert set(RULES) == set(OPS) - {"CALL"} == set(CASES)


# ---- Numbers


def numbers(program, rng):
    """Slots and parameter vectors, all in (0.2, 0.9)."""
    draw = lambda *shape: rng.uniform(0.2, 0.9, shape)  # noqa: E731
    return [draw(B, n) for n in program.slot_sizes], [draw(n) for n in program.n_theta]


def complex_step(program, slots, thetas, dslots, dthetas):
    """Tangents of the outputs and of the accumulated gradients."""
    move = lambda xs, ds: [x + 1j * STEP * d for x, d in zip(xs, ds, strict=True)]  # noqa: E731
    outputs, grads = reference.evaluate(program, move(slots, dslots), move(thetas, dthetas))
    imag = lambda x: None if x is None else np.imag(x) / STEP  # noqa: E731
    return [imag(x) for x in outputs], [imag(x) for x in grads]


def zeros(xs, shapes):
    return [np.zeros(shape) if x is None else x for x, shape in zip(xs, shapes, strict=True)]


def assert_same(actual, desired):
    for x, y in zip(actual, desired, strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-11, atol=1e-12)


# ---- Whole derivatives of any program, as programs


def jvp_of(program):
    """Slots, then their tangents; theta, then its tangent. Outputs and gradients are tangents of theirs."""
    n = program.n_slots
    b = Builder(program.slot_sizes * 2, program.n_theta * 2, program.n_grad)
    env = b.replay(program, b.slots[:n])
    dtheta = [b.theta(len(program.n_theta) + k) for k in range(len(program.n_theta))]
    dgrad = [GradSink(b, k) for k in range(len(program.n_grad))]
    tangents = b.slots[n:]
    return b.finish(pushforward(b, program, env, tangents, dtheta=dtheta, dgrad=dgrad))


def vjp_of(program):
    """Slots, then seeds of the outputs; theta, then seeds of the gradients. Outputs are the cotangents of the
    slots; the cotangents of the parameters are accumulated."""
    n, outputs = program.n_slots, [n for n in program.output_sizes if n is not None]
    b = Builder((*program.slot_sizes, *outputs), (*program.n_theta, *program.n_grad), program.n_theta)
    env = b.replay(program, b.slots[:n])
    seeds = iter(b.slots[n:])
    seeds = [None if r < 0 else next(seeds) for r in program.outputs]
    grad_bar = [b.theta(len(program.n_theta) + k) for k in range(len(program.n_grad))]
    sinks = [GradSink(b, k) for k in range(len(program.n_theta))]
    bars = pullback(b, program, env, seeds, range(n), theta_bar=sinks, grad_bar=grad_bar)
    return b.finish(bars)


def check_jvp(program, rng):
    slots, thetas = numbers(program, rng)
    dslots, dthetas = numbers(program, rng)
    outputs, grads = jvp_of(program).evaluate([*slots, *dslots], [*thetas, *dthetas])
    expected, expected_grads = complex_step(program, slots, thetas, dslots, dthetas)
    shapes = [(B, n or 1) for n in program.output_sizes]
    assert_same(zeros(outputs, shapes), zeros(expected, shapes))
    assert_same(grads, expected_grads)


def check_vjp(program, rng):
    """<seed, J v> = <J^T seed, v> for every direction v of the slots and the parameters at once."""
    slots, thetas = numbers(program, rng)
    live = [n for n in program.output_sizes if n is not None]
    seeds = [rng.normal(size=(B, n)) for n in live]
    grad_seeds = [rng.normal(size=n) for n in program.n_grad]
    bars, theta_bars = vjp_of(program).evaluate([*slots, *seeds], [*thetas, *grad_seeds])
    bars = zeros(bars, [(B, n) for n in program.slot_sizes])
    for _ in range(3):
        dslots, dthetas = ([rng.normal(size=x.shape) for x in xs] for xs in (slots, thetas))
        outputs, grads = complex_step(program, slots, thetas, dslots, dthetas)
        outputs = [x for x in outputs if x is not None]
        left = sum(np.vdot(s, x) for s, x in zip([*seeds, *grad_seeds], [*outputs, *grads], strict=True))
        right = sum(np.vdot(x, d) for x, d in zip([*bars, *theta_bars], [*dslots, *dthetas], strict=True))
        assert right == pytest.approx(left, rel=1e-10, abs=1e-11)


# ---- One operation at a time


@pytest.mark.parametrize("op", CASES)
def test_value(op, rng):
    program = program_of(op)
    slots, thetas = numbers(program, rng)
    outputs, grads = program.evaluate(slots, thetas)
    expected, expected_grads = reference.evaluate(program, slots, thetas)
    assert_same(outputs, expected)
    assert_same(grads, expected_grads)


@pytest.mark.parametrize("op", CASES)
def test_jvp(op, rng):
    check_jvp(program_of(op), rng)


@pytest.mark.parametrize("op", CASES)
def test_vjp(op, rng):
    check_vjp(program_of(op), rng)


@pytest.mark.parametrize("op", CASES)
def test_jvp_of_vjp(op, rng):
    program = vjp_of(program_of(op))
    if len(program.n_theta) == 2:
        pytest.skip("four parameter vectors: see test_third_order, by the reference")
    check_jvp(program, rng)


@pytest.mark.parametrize("op", CASES)
def test_vjp_of_jvp(op, rng):
    program = jvp_of(program_of(op))
    if len(program.n_theta) + len(program.n_grad) > 2:
        pytest.skip("more than two parameter vectors")
    check_vjp(program, rng)


@pytest.mark.parametrize("op", CASES)
def test_vjp_of_vjp(op, rng):
    program = vjp_of(program_of(op))
    if len(program.n_theta) + len(program.n_grad) > 2:
        pytest.skip("more than two parameter vectors")
    check_vjp(program, rng)


@pytest.mark.parametrize("op", CASES)
def test_third_order_by_the_reference(op, rng, monkeypatch):
    """Every composition of two and three modes; more parameter vectors than the core takes."""
    monkeypatch.setattr("pynode.programs.program.Program.evaluate", reference.evaluate)
    program = program_of(op)
    for modes in (
        (vjp_of,),
        (jvp_of,),
        (vjp_of, vjp_of),
        (vjp_of, jvp_of),
        (jvp_of, vjp_of),
        (jvp_of, jvp_of),
    ):
        derived = program
        for mode in modes:
            derived = mode(derived)
        if any(n is not None for n in derived.output_sizes) or derived.n_grad:
            check_jvp(derived, rng)
            check_vjp(derived, rng)


# ---- Where the rules have corners


def gradient_at(op, *values):
    """dy/dx_i of an elementwise operation at single numbers."""
    b = Builder((1,) * len(values), (0,))
    program = vjp_of(b.finish([b.same(op, *b.slots)]))
    bars, _ = program.evaluate([np.full((1, 1), v) for v in (*values, 1.0)], [np.empty(0)])
    return [0.0 if bar is None else bar[0, 0] for bar in bars[: len(values)]]


@pytest.mark.parametrize(
    ("op", "values", "expected"),
    [
        ("ABS", (-2.0,), [-1.0]),
        ("ABS", (0.0,), [0.0]),
        ("RELU", (0.0,), [0.0]),
        ("RELU", (-1.0,), [0.0]),
        ("MAX", (1.0, 1.0), [1.0, 0.0]),
        ("MAX", (1.0, 2.0), [0.0, 1.0]),
        ("MIN", (1.0, 1.0), [1.0, 0.0]),
        ("MIN", (1.0, 2.0), [1.0, 0.0]),
        ("WHERE", (0.0, 3.0, 4.0), [0.0, 0.0, 1.0]),
        ("WHERE", (2.0, 3.0, 4.0), [0.0, 1.0, 0.0]),
        ("POW", (0.0, 2.0), [0.0, 0.0]),
        ("POW", (0.0, 1.0), [1.0, 0.0]),
        ("POW", (0.0, 0.0), [0.0, 0.0]),
        ("POW", (-2.0, 3.0), [12.0, np.nan]),
        ("EXPM1", (-40.0,), [np.exp(-40.0)]),
        ("SOFTPLUS", (-800.0,), [0.0]),
        ("SIGN", (0.3,), [0.0]),
    ],
)
def test_corners(op, values, expected):
    np.testing.assert_allclose(gradient_at(op, *values), expected, rtol=1e-14)


# ---- Whole fields


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@field(
    state=3,
    theta={"k": (), "W": (3, 3), "net": mlp(3, (5, 4), 2, activation="softplus")},
    inputs=2,
)
def rich(t, y, th, u):
    """Everything at once: time, inputs, physics, a network, a computed matrix."""
    x, v, w = y
    a, c = th.net(y)
    spin = np.array([[0.0, th.k, a], [-th.k, 0.0, c], [-a, -c, 0.0]])
    forced = np.tanh(th.W @ y) * np.exp(-t) + u[0] * y / (1 + np.sum(y**2))
    return spin @ y + forced + np.where(x > v, w, u[1] * t)


FIELDS = {
    "rich": rich,
    "tanh": mlp(3, (5, 4)),
    "relu": mlp(3, (5,), activation="relu", time=True),
    "gelu": mlp(3, (4,), activation="gelu", inputs=2),
    "linear": mlp(3, ()),
}


@pytest.fixture(params=FIELDS)
def f(request):
    return FIELDS[request.param]


def field_numbers(f, rng):
    draw = lambda *shape: rng.normal(size=shape)  # noqa: E731
    return draw(B, 1), draw(B, f.d), draw(B, f.inputs), draw(f.n_params)


def field_tangent(f, t, y, u, theta, dt=0, dy=0, du=0, dtheta=0):
    program = f.program
    moves = [x + 1j * STEP * d for x, d in ((t, dt), (y, dy), (u, du))]
    return reference.evaluate(program, moves, [theta + 1j * STEP * dtheta])[0][0].imag / STEP


def explicit_gradients(f, t, y, u, theta, s):
    """s^T df/dy, s^T df/dt, s^T df/du (a row a sample), and s^T df/dtheta summed, column by column."""
    column = lambda **d: np.sum(s * field_tangent(f, t, y, u, theta, **d), axis=1)  # noqa: E731
    gy = np.stack([column(dy=e) for e in np.eye(f.d)], axis=1)
    gt = column(dt=1)[:, None]
    gu = np.stack([column(du=e) for e in np.eye(f.inputs)], axis=1) if f.inputs else np.zeros((B, 0))
    gtheta = np.array([column(dtheta=e).sum() for e in np.eye(f.n_params)])
    return gy, gt, gu, gtheta


def filled(outputs, shapes):
    return zeros(outputs, [(B, n) for n in shapes])


def test_vjp_program(f, rng):
    t, y, u, theta = field_numbers(f, rng)
    s = rng.normal(size=(B, f.d))
    program = vjp_program(f.program)
    assert program.n_theta == program.n_grad == (f.n_params,)
    outputs, (gtheta,) = program.evaluate([t, y, u, s], [theta])
    value, gy, gt, gu = filled(outputs, (f.d, f.d, 1, f.inputs))
    gradients = explicit_gradients(f, t, y, u, theta, s)
    assert_same([value], f.program.evaluate([t, y, u], [theta])[0])
    assert_same([gy, gt, gu, gtheta], gradients)


def test_backsolve_program(f, rng):
    t, y, u, theta = field_numbers(f, rng)
    a = rng.normal(size=(B, f.d))
    program = backsolve_program(f.program)
    outputs, (gtheta,) = program.evaluate([t, np.hstack([y, a]), u], [theta])
    dz, _, gt, gu = filled(outputs, (2 * f.d, 1, 1, f.inputs))
    gy, *rest = explicit_gradients(f, t, y, u, theta, a)
    value = f.program.evaluate([t, y, u], [theta])[0][0]
    assert program.outputs[1] == -1
    assert_same([dz, gt, gu, gtheta], [np.hstack([value, -gy]), *rest])


def test_interpolating_program(f, rng):
    t, y, u, theta = field_numbers(f, rng)
    a = rng.normal(size=(B, f.d))
    program = interpolating_program(f.program)
    outputs, (gtheta,) = program.evaluate([t, a, np.hstack([y, u])], [theta])
    da, _, gt, gw = filled(outputs, (f.d, 1, 1, f.d + f.inputs))
    gy, *rest = explicit_gradients(f, t, y, u, theta, a)
    assert program.outputs[1] == -1 and not gw[:, : f.d].any()
    assert_same([da, gt, gw[:, f.d :], gtheta], [-gy, *rest])


@pytest.mark.parametrize("make", [vjp_program, backsolve_program, interpolating_program])
def test_segments(make, f):
    """The accumulating part holds ACC only; the forward part computes output 0 without the rest, in a vjp
    without the seed."""
    program = make(f.program)
    prologue, forward, reverse = program.segments
    code = program.instructions
    assert all((i >= prologue + forward + reverse) == (ins.out < 0) for i, ins in enumerate(code))
    known = {*range(program.n_slots), *(ins.out for ins in code[: prologue + forward])}
    assert program.outputs[0] in known
    assert all(r < program.n_slots + prologue for ins in code[:prologue] for r in ins.operands)
    if make is vjp_program:
        assert not any(3 in ins.operands for ins in code[: prologue + forward])
        assert forward == f.program.segments[1]


def test_theta_hessian(rng):
    """d^2 (s^T f) / dtheta^2 by jvp of vjp: against the complex step of the gradient, and symmetric."""
    f = mlp(2, (4, 3))
    program = vjp_program(f.program)
    hessian = jvp_of(program)
    t, y, u, theta = field_numbers(f, rng)
    s = rng.normal(size=(B, f.d))
    slots, dslots = [t, y, u, s], [np.zeros_like(x) for x in (t, y, u, s)]
    rows = [hessian.evaluate([*slots, *dslots], [theta, e])[1][0] for e in np.eye(f.n_params)]
    steps = [complex_step(program, slots, [theta], dslots, [e])[1][0] for e in np.eye(f.n_params)]
    assert_same(rows, steps)
    assert_same(rows, np.array(rows).T)


def test_vjp_of_vjp_of_a_field(f, rng):
    program = vjp_program(f.program)
    if f.inputs == 0:
        b = Builder((1, f.d, 1, f.d), program.n_theta, program.n_grad)
        program = b.finish(b.inline(program, [0, 1, None, 3], sinks=[GradSink(b)]))
    check_vjp(program, rng)


def test_a_parameter_gradient_in_a_register(rng):
    """`Cotangent` as a sink gives the gradient of a sample as an output."""
    f = mlp(2, (4,))
    b = Builder((*f.program.slot_sizes, 2), f.program.n_theta)
    env = b.replay(f.program, b.slots[:3])
    sink = Cotangent(b, f.n_params)
    pullback(b, f.program, env, [3], (), theta_bar=[sink])
    t, y, u, theta = field_numbers(f, rng)
    s = rng.normal(size=(B, 2))
    (gtheta,), _ = b.finish([sink.total()]).evaluate([t, y, u, s], [theta])
    assert_same([gtheta.sum(0)], [explicit_gradients(f, t, y, u, theta, s)[3]])


def test_a_callback_has_no_rule():
    b = Builder((1, 2, 0))
    program = b.finish([b.emit("CALL", 2)])
    b = Builder((1, 2, 0))
    with pytest.raises(ValueError, match="callback"):
        pushforward(b, program, [0, 1, 2, 1], [None, 1, None])
