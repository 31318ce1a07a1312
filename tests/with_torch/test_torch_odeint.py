"""`pynode.torch.odeint`: values and derivatives of every kind, against pynode without torch, gradcheck, closed forms."""

import gc
import warnings

import numpy as np
import pytest
import torch
from torch import func as tf

import pynode as pn
import pynode.torch as pt
from pynode.torch import ops, tensors
from pynode.torch.solves import solver_of
from pynode.torch.tensors import to_array

F = pn.mlp(2, (8,))
TIMES = torch.linspace(0, 2, 5, dtype=torch.float64)
FIXED = {"method": "rk4", "step": 0.25}


@pytest.fixture
def given():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(3, 2))), torch.from_numpy(F.init(0))


def test_values_and_gradients_are_those_of_solve(given):
    y0, theta = (x.requires_grad_() for x in given)
    t = TIMES.clone().requires_grad_()
    y = pt.odeint(F, y0, t, theta)
    sol = pn.solve(F, y0.detach().numpy(), TIMES.numpy(), theta.detach().numpy())
    assert (y.detach().numpy() == sol.y).all()
    g = torch.randn_like(y)
    y.backward(g)
    wanted = sol.vjp(g.numpy(), wrt=("theta", "y0", "t"))
    for x, name in ((y0, "y0"), (theta, "theta"), (t, "t")):
        assert (x.grad.numpy() == getattr(wanted, name)).all()


def test_what_is_computed_of_the_parameters_alone():
    """Once for a solve, and so are its gradients and those of these."""
    f = pn.field(state=6, theta={"A": (6, 6)})(lambda t, y, th: np.tanh((th.A - th.A.T) @ y))
    assert f.hoisted is not None
    theta, y0 = torch.randn(36, dtype=torch.float64, requires_grad=True), torch.randn(3, 6, dtype=torch.float64)
    g = torch.randn(3, 5, 6, dtype=torch.float64)
    (found,) = torch.autograd.grad((pt.odeint(f, y0, TIMES, theta) * g).sum(), theta)
    wanted = pn.solve(f, y0.numpy(), TIMES.numpy(), theta.detach().numpy()).vjp(g.numpy())
    assert (found.numpy() == wanted.theta).all()
    assert torch.autograd.gradgradcheck(lambda th: pt.odeint(f, y0[0], TIMES[:2], th, **FIXED), theta)


def test_shapes(given):
    y0, theta = given
    y = pt.odeint(F, y0, TIMES, theta)
    assert pt.odeint(F, y0[0], TIMES, theta).shape == (5, 2)
    assert torch.equal(pt.odeint(F, y0.reshape(3, 1, 1, 2), TIMES, theta)[:, 0, 0], y)
    assert torch.equal(pt.odeint(F, y0, TIMES, theta.expand(3, -1)), y)
    assert torch.allclose(pt.odeint(F, y0[0], TIMES, theta.expand(3, -1)), y[:1].expand(3, 5, 2), atol=1e-12)
    assert torch.equal(pt.odeint(F, y0, TIMES.expand(3, -1), theta), y)
    assert torch.equal(pt.odeint(F, y0, TIMES, {k: torch.from_numpy(v) for k, v in F.unflatten(theta.numpy()).items()}), y)
    assert pt.odeint(F, y0.float(), TIMES, theta).dtype == torch.float32


def test_no_copy_of_cpu_tensors(given):
    y0 = given[0]
    assert to_array(y0).ctypes.data == y0.data_ptr()


def test_float32_gradients(given):
    y0, theta = (x.float().requires_grad_() for x in given)
    (pt.odeint(F, y0, TIMES, theta, rtol=1e-4, atol=1e-5) ** 2).sum().backward()
    assert theta.grad.dtype == torch.float32
    a, b = (x.requires_grad_() for x in given)
    (pt.odeint(F, a, TIMES, b) ** 2).sum().backward()
    assert torch.allclose(theta.grad.double(), b.grad, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("options", [FIXED, {"method": "rodas5p", "rtol": 1e-9, "atol": 1e-11}])
def test_gradcheck(given, options):
    y0, theta = (x.requires_grad_() for x in given)
    assert torch.autograd.gradcheck(lambda y, p: pt.odeint(F, y, TIMES, p, **options), (y0, theta), eps=1e-6, atol=1e-5)


def test_gradgradcheck(given):
    y0, theta = given[0][:2].clone().requires_grad_(), given[1].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda y, p: pt.odeint(F, y, TIMES[:3], p, **FIXED), (y0, theta), atol=1e-5)


def test_torch_func(given):
    y0, theta = given

    def loss(p):
        return (pt.odeint(F, y0, TIMES, p) ** 2).sum()

    s = pn.sensitivities(F, y0.numpy(), TIMES.numpy(), theta.numpy())
    for jacobian in (tf.jacrev, tf.jacfwd):
        J = jacobian(lambda p: pt.odeint(F, y0, TIMES, p))(theta)
        assert np.allclose(J.numpy(), s.theta, rtol=1e-9, atol=1e-11)
        J = jacobian(lambda y: pt.odeint(F, y, TIMES, theta))(y0)
        assert np.allclose(np.einsum("bticj->btij", J[:, :, :, [0, 1, 2]].numpy()), s.y0, rtol=1e-9, atol=1e-11)
    y, pull = tf.vjp(lambda p: pt.odeint(F, y0, TIMES, p), theta)
    wanted = tf.grad(loss)(theta)
    assert torch.allclose(pull(2 * y)[0], wanted)
    direction = torch.randn_like(theta)
    assert torch.allclose(tf.jvp(loss, (theta,), (direction,))[1], wanted @ direction)
    H = tf.hessian(loss)(theta)
    assert torch.allclose(H, tf.jacrev(tf.jacrev(loss))(theta), atol=1e-10)
    assert torch.allclose(H, H.T, atol=1e-10)


def test_vmap_is_one_call(given, monkeypatch):
    y0, theta = given
    calls = []
    run = pn.calls.taped.TapedSolver.run
    monkeypatch.setattr(pn.calls.taped.TapedSolver, "run", lambda self, *a: calls.append(a[0].shape) or run(self, *a))
    y = tf.vmap(lambda y: pt.odeint(F, y, TIMES, theta))(y0)
    assert calls == [(3, 2)]
    each = torch.stack([pt.odeint(F, y0, TIMES, p) for p in (theta, 2 * theta)])
    calls.clear()
    both = tf.vmap(lambda p: pt.odeint(F, y0, TIMES, p))(torch.stack([theta, 2 * theta]))
    assert calls == [(6, 2)]
    assert torch.allclose(both, each, atol=1e-12) and torch.allclose(y, each[0], atol=1e-12)


def test_gradients_of_each_sample(given):
    y0, theta = given

    def loss(p, y):
        return (pt.odeint(F, y, TIMES, p, **FIXED) ** 2).sum()

    each = tf.vmap(tf.grad(loss), in_dims=(None, 0))(theta, y0)
    assert torch.allclose(each, torch.stack([tf.grad(loss)(theta, y) for y in y0]), atol=1e-10)
    rows = tf.vmap(tf.grad(loss))(torch.stack([theta, 2 * theta]), y0[:2])
    assert torch.allclose(rows[1], tf.grad(loss)(2 * theta, y0[1]), atol=1e-10)


def test_inputs():
    f = pn.field(state=1, theta={"k": 1.0}, inputs=1)(lambda t, y, th, u: -th.k * y + u)
    k = torch.tensor([0.5], dtype=torch.float64)
    y0 = torch.ones(2, 1, dtype=torch.float64)
    u = torch.tensor([[1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    y = pt.odeint(f, y0, TIMES, k, u=u, rtol=1e-10, atol=1e-12)
    wanted = u * 2 * (1 - torch.exp(-0.5 * TIMES)) + torch.exp(-0.5 * TIMES)
    assert torch.allclose(y[..., 0], wanted, atol=1e-8)
    assert torch.allclose(*(torch.autograd.grad(x.sum(), u, retain_graph=True)[0] for x in (y, wanted)), atol=1e-8)
    ramp = torch.tensor([[0.0], [2.0]], dtype=torch.float64, requires_grad=True)
    options = {"rtol": 1e-9, "atol": 1e-11}
    assert torch.autograd.gradcheck(lambda r: pt.odeint(f, y0, TIMES, k, u=([0.0, 2.0], r), **options), (ramp,), atol=1e-5)
    with pytest.raises(NotImplementedError, match="forward-mode derivatives with respect to u"):
        tf.jvp(lambda v: pt.odeint(f, y0, TIMES, k, u=v), (u.detach(),), (u.detach(),))
    with pytest.raises(ValueError, match="u is missing"):
        pt.odeint(f, y0, TIMES, k)


def test_compiled(given):
    y0, theta = (x.requires_grad_() for x in given)

    def loss(y0, theta):
        return (pt.odeint(F, 2 * y0, TIMES, theta) ** 2).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    wanted = torch.autograd.grad(loss(y0, theta), (y0, theta))
    value = compiled(y0, theta)
    found = torch.autograd.grad(value, (y0, theta))
    assert torch.equal(value, loss(y0, theta))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    del value
    gc.collect()
    assert len(ops.TAPES) == 0
    number = solver_of(F, "warn", {"method": "dopri5"}).number
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(ops.solve_op, (y0, TIMES, theta, number), test_utils=checks)
    batched = tf.vmap(lambda y: ops.compiled_solve(y, TIMES, theta, number))(y0[:, None])
    assert torch.allclose(batched[:, 0], pt.odeint(F, y0, TIMES, theta), atol=1e-12)
    assert torch.allclose(
        torch.autograd.grad((2 * batched).sum(), theta)[0],
        torch.autograd.grad(2 * pt.odeint(F, y0, TIMES, theta).sum(), theta)[0],
        atol=1e-10,
    )


def test_retain_graph_and_sums(given):
    y0, theta = (x.requires_grad_() for x in given)
    y = pt.odeint(F, y0, TIMES, theta)
    first = torch.autograd.grad(y.sum(), theta, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(y.sum(), theta)[0])


def test_what_is_refused(given):
    y0, theta = given
    for arguments, words in [
        ((F, y0[:, :1], TIMES, theta), "has 2 states"),
        ((F, y0, TIMES, theta[:3]), "theta has shape"),
        ((F, y0, TIMES), "theta is missing"),
        ((F, y0, TIMES.expand(2, 5), theta), "t has 2 rows for 3 samples"),
    ]:
        with pytest.raises(ValueError, match=words):
            pt.odeint(*arguments)
    with pytest.raises(TypeError, match="is not a Field"):
        pt.odeint(torch.nn.Linear(2, 2), y0, TIMES, theta)
    with pytest.raises(TypeError, match="float16"):
        pt.odeint(F, y0.half(), TIMES, theta)
    with pytest.raises(TypeError, match="unexpected keyword argument 'stepp'"):
        pt.odeint(F, y0, TIMES, theta, stepp=1)
    t = TIMES.clone().requires_grad_()
    g = torch.autograd.grad(pt.odeint(F, y0, t, theta).sum(), t, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="second derivatives with respect to t"):
        g.sum().backward()
    with pytest.raises(NotImplementedError, match="stays the same"):
        tf.jvp(lambda y: pt.odeint(F, y, TIMES, theta, method="auto"), (y0,), (y0,))
    with pytest.raises(pn.SolveError):
        blow_up = pn.field(state=1)(lambda t, y: y**2)
        pt.odeint(blow_up, torch.full((1, 1), 5.0), TIMES, errors="raise")


def test_devices_are_copied_with_one_warning(monkeypatch):
    """No GPU here: a tensor that says it is on one."""

    class Far:
        device = torch.device("cuda")
        is_cpu = False
        requires_grad = True

        def detach(self):
            return self

        def cpu(self):
            return torch.ones(2)

    monkeypatch.setattr(tensors, "WARNED", set())
    with pytest.warns(UserWarning, match="'cuda' are copied"):
        assert (tensors.to_array(Far()) == 1).all()
    tensors.to_array(Far())


def test_labelled_states_and_parameters_go_by_name():
    pd = pytest.importorskip("pandas")
    f = pn.field(state=["x", "v"], theta={"k": 2.0, "c": 0.3})(lambda t, y, th: [y[1], -th.k * y[0] - th.c * y[1]])
    expected = pt.odeint(f, [1.0, 0.0], TIMES, [3.0, 0.5])
    y0, theta = pd.Series({"v": 0.0, "x": 1.0}), pd.Series({"c": 0.5, "k": 3.0})
    assert torch.equal(pt.odeint(f, y0, TIMES, theta), expected)
    assert torch.equal(pt.odeint(f, y0.to_frame().T, TIMES, theta)[0], expected)
    for made in (pt.ODEBlock(f, theta=theta), pt.to_torch(f, theta)):
        assert made.theta.tolist() == [3.0, 0.5]
    with pytest.raises(ValueError, match="y0 is labelled v, z"):
        pt.odeint(f, y0.rename({"x": "z"}), TIMES, theta)


def test_names_of_parameters_are_all_there_and_no_others():
    f = pn.field(state=1, theta={"k": 2.0, "net": pn.mlp(1, (3,))})(lambda t, y, th: th.net(y) - th.k * y)
    theta = f.init(0)
    named = {p.name: theta[p.offset : p.stop].reshape(p.shape) for p in f.spec}
    expected = pt.odeint(f, [1.0], TIMES, theta)
    assert torch.equal(pt.odeint(f, [1.0], TIMES, named), expected)
    assert torch.equal(pt.odeint(f, [1.0], TIMES, f.unflatten(theta)), expected)
    with pytest.raises(ValueError, match="'q' is not a parameter of the field"):
        pt.odeint(f, [1.0], TIMES, named | {"q": 1.0})
    del named["k"]
    with pytest.raises(ValueError, match="'k' is not in theta"):
        pt.odeint(f, [1.0], TIMES, named)


def test_arrays_are_real_numbers_and_stay_as_they_are():
    theta = F.init(0)
    theta.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pt.odeint(F, np.ones(2), TIMES, theta)
    with pytest.raises(TypeError, match="y0 must hold real numbers, not complex128"):
        pt.odeint(F, np.ones(2) + 0j, TIMES, theta)
    pushed = pn.field(state=1, inputs=1)(lambda t, y, u: [u[0] - y[0]])
    with pytest.raises(TypeError, match=r"u is a pynode.Signal: give \(knots, values, 'linear'\)"):
        pt.odeint(pushed, [1.0], TIMES, u=pn.Signal([0.0, 2.0], [[1.0], [1.0]]))
    with pytest.raises(TypeError, match="the input must be a tensor, not ndarray"):
        pt.ODEBlock(F)(np.ones(2))
