"""torchdiffeq's calls, beside torchdiffeq where it is installed."""

import math

import pytest
import torch
from torch import nn

from pynode.torch import diffeq

TIMES = torch.linspace(0, 2, 10, dtype=torch.float64)


class Func(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2))
        self.scale = 1.0
        self.nfe = 0

    def forward(self, t, y):
        self.nfe += 1
        return self.scale * self.net(y**3)


def run(odeint, func, y0, **options):
    func.zero_grad()
    y = odeint(func, y0, TIMES, **options)
    (y**2).mean().backward()
    return y.detach(), torch.cat([p.grad.reshape(-1) for p in func.parameters()])


@pytest.mark.parametrize(
    "method, options, error",
    [
        (None, None, 1e-5),
        ("dopri5", None, 1e-5),
        ("bosh3", None, 1e-3),
        ("adaptive_heun", None, 1e-5),
        ("dopri8", None, 1e-5),
        *((m, None, 1e-13) for m in ("euler", "midpoint", "rk4", "heun2")),
        ("rk4", {"step_size": float(TIMES[1]) / 10}, 1e-13),
    ],
)
def test_same_numbers(method, options, error):
    there = pytest.importorskip("torchdiffeq")
    func = Func().double()
    y0 = torch.randn(20, 2, dtype=torch.float64)
    y, g = run(there.odeint, func, y0, method=method, options=options)
    for odeint in (diffeq.odeint, diffeq.odeint_adjoint):
        mine, gradient = run(odeint, func, y0, method=method, options=options)
        assert (mine - y).abs().max() < error and (gradient - g).abs().max() < error
    assert len([m for m in diffeq.READ if m is func]) == 1


def test_shapes_and_changes_are_noticed():
    func = Func()
    assert diffeq.odeint(func, torch.ones(2), TIMES).shape == (10, 2)
    assert diffeq.odeint(func, torch.ones(3, 4, 2), TIMES).shape == (10, 3, 4, 2)
    before = diffeq.odeint(func, torch.ones(2), TIMES)
    func.scale = 2.0
    assert (diffeq.odeint(func, torch.ones(2), TIMES) - before).abs().max() > 1e-3
    with torch.no_grad():
        func.net[2].weight.zero_()
        func.net[2].bias.zero_()
    assert torch.equal(diffeq.odeint(func, torch.ones(2), TIMES), torch.ones(10, 2))


def test_functions_of_constants():
    y = diffeq.odeint(lambda t, y: -y * t, torch.ones(3, dtype=torch.float64), TIMES)
    assert torch.allclose(y[:, 0], torch.exp(-(TIMES**2) / 2), atol=1e-7)


class Ball(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = nn.Parameter(torch.tensor(9.81, dtype=torch.float64))

    def forward(self, t, y):
        v = y[..., 1:]
        return torch.cat([v, -self.g + torch.zeros_like(v)], -1)


def test_event_has_the_derivatives_of_the_closed_form():
    ball = Ball()
    y0 = torch.tensor([10.0, 0.0], dtype=torch.float64, requires_grad=True)
    time, y = diffeq.odeint_event(ball, y0, 0.0, event_fn=lambda t, y: y[0])
    fall = math.sqrt(2 * 10 / 9.81)
    assert abs(time.item() - fall) < 1e-9 and torch.equal(y[0], y0) and abs(y[1, 0].item()) < 1e-9
    of_time = torch.autograd.grad(time, (y0, ball.g), retain_graph=True)
    assert torch.allclose(of_time[0], torch.tensor([fall / 20, 1 / 9.81]).double(), atol=1e-8)
    assert abs(of_time[1].item() + fall / 2 / 9.81) < 1e-8
    of_speed = torch.autograd.grad(y[1, 1], (y0, ball.g))  # v = -sqrt(2 g h + v0^2)
    assert torch.allclose(of_speed[0], torch.tensor([-9.81 / (9.81 * fall), 0.0]).double(), atol=1e-8)
    assert abs(of_speed[1].item() + 10 / (9.81 * fall)) < 1e-8
    back = diffeq.odeint_event(ball, y0, 0.0, event_fn=lambda t, y: y[0], reverse_time=True)[0]
    assert abs(back.item() + fall) < 1e-9
    with pytest.raises(RuntimeError, match="no event"):
        diffeq.odeint_event(lambda t, y: 0 * y, torch.ones(1), 0.0, event_fn=lambda t, y: y[0] + 1, rtol=1e-3, atol=1e-3)


def test_events_beside_torchdiffeq():
    there = pytest.importorskip("torchdiffeq")
    y0 = torch.tensor([10.0, 1.0], dtype=torch.float64)
    options = {"event_fn": lambda t, y: y[0] - t, "rtol": 1e-9, "atol": 1e-11}
    a, ya = there.odeint_event(Ball(), y0, torch.tensor(0.0).double(), odeint_interface=there.odeint, **options)
    b, yb = diffeq.odeint_event(Ball(), y0, torch.tensor(0.0).double(), **options)
    assert torch.allclose(a, b, atol=1e-7) and torch.allclose(ya, yb, atol=1e-6)
    c, _ = diffeq.odeint(Ball(), y0, TIMES, **options)
    assert torch.equal(b, c)


def test_what_is_refused():
    y0 = torch.ones(2)
    for options, words in [
        ({"method": "explicit_adams"}, "explicit_adams"),
        ({"method": "rk4", "options": {"first_step": 0.1}}, "does not belong"),
        ({"options": {"perturb": True}}, "perturb"),
    ]:
        with pytest.raises(ValueError, match=words):
            diffeq.odeint(Func(), y0, TIMES, **options)
    with pytest.raises(TypeError, match="tuple of states"):
        diffeq.odeint(Func(), (y0, y0), TIMES)
    with pytest.raises(TypeError, match="cannot be read"):
        diffeq.odeint(lambda t, y: torch.cumsum(y, -1), y0, TIMES)
