"""`ODEBlock`; modules to fields and back."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pynode as pn
import pynode.torch as pt


def model(**options):
    return nn.Sequential(nn.Linear(3, 2), pt.ODEBlock(pn.mlp(2, (8,)), random_state=0, **options), nn.Linear(2, 1))


@pytest.mark.parametrize("named", [False, True])
def test_state_dict(named):
    a, b = model(named=named), model(named=named)
    b.load_state_dict(a.state_dict())
    x = torch.randn(5, 3)
    assert torch.equal(a(x), b(x))
    assert len(list(a.parameters())) == (8 if named else 5)


def test_copies():
    net = model()
    x = torch.randn(5, 3)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x)) and other[1].solver.number != net[1].solver.number


def test_training_and_compiling():
    torch.manual_seed(1)
    net = model()
    x = torch.randn(32, 3)
    target = torch.sin(x.sum(1, keepdim=True))
    optimiser = torch.optim.Adam(net.parameters(), 2e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = ((net(x) - target) ** 2).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), net(x), atol=1e-6)


def test_block():
    f = pn.field(state=1, theta={"k": pn.frozen(0.5), "net": pn.mlp(1, (4,))})(lambda t, y, th: -th.k * y + th.net(y))
    block = pt.ODEBlock(f, [0.0, 0.1, 1.0], named=True, last=False, method="rk4", step=0.1, dtype=torch.float64)
    names = {name: p.requires_grad for name, p in block.named_parameters()}
    assert names == {"theta.k": False, **{f"theta.net.{n}": True for n in ("W0", "b0", "W1", "b1")}}
    y = block(torch.ones(2, 4, 1).double())
    assert y.shape == (2, 4, 3, 1)
    assert block(torch.ones(1).double(), t=[0.0, 2.0]).shape == (2, 1)
    y.sum().backward()
    assert block.theta.net.W0.grad is not None
    assert block.float().t.dtype == torch.float64
    with pytest.raises(ValueError, match="takes"):
        block(torch.ones(2, 1).double())
    with pytest.warns(UserWarning, match="do not keep parameters positive"):
        pt.ODEBlock(pn.field(state=1, theta={"k": pn.positive(1.0)})(lambda t, y, th: -th.k * y))
    with pytest.raises(ValueError, match="theta must have shape"):
        pt.ODEBlock(f, theta=np.ones(3))
    with pytest.raises(TypeError, match="unexpected keyword argument 'tol'"):
        pt.ODEBlock(f, tol=1)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3, bias=False)
        self.k = nn.Parameter(torch.tensor(2.0))

    def forward(self, y):
        return y + self.b(torch.relu(self.a(y))) * self.k


class Timed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, t, y):
        return torch.tanh(self.layer(torch.cat([torch.ones_like(y[:, :1]) * t, y], dim=1)))


class Populations(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([1.0, 0.5, 0.3, 0.2]))

    def forward(self, t, y):
        a, b = y.unbind(-1)
        return torch.stack(
            [self.p[..., 0] * a - self.p[..., 1] * a * b, self.p[..., 3] * a * b - self.p[..., 2] * b], dim=-1
        )


def deep():
    layers = [
        nn.GELU(),
        nn.ELU(0.5),
        nn.Softplus(2.0),
        nn.SiLU(),
        nn.LeakyReLU(0.2),
        nn.Hardtanh(),
        nn.GELU("tanh"),
        nn.Identity(),
    ]
    return nn.Sequential(
        nn.Linear(3, 6), *(x for layer in layers for x in (layer, nn.Linear(6, 6))), nn.Sigmoid(), nn.Linear(6, 3)
    )


@pytest.mark.parametrize("make, state", [(Residual, None), (Timed, None), (Populations, 2), (deep, None)])
def test_from_torch(make, state):
    module = make()
    f, theta = pt.from_torch(module, state)
    assert np.allclose(theta, nn.utils.parameters_to_vector(module.parameters()).detach().numpy())
    assert [p.name for p in f.spec] == [name for name, _ in module.named_parameters()]
    y = torch.randn(5, f.d)
    there = module(y) if make in (Residual, deep) else module(torch.tensor(0.3), y)
    assert np.allclose(f(0.3, y.numpy(), theta), there.detach().numpy(), atol=1e-5)


def test_tied_weights():
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    net[2].weight = net[0].weight
    f, theta = pt.from_torch(net)
    assert f.n_params == len(theta) == 8


def bad(forward, **layers):
    return type("Bad", (nn.Module,), {"forward": forward, "__init__": lambda self: _init(self, layers)})()


def _init(self, layers):
    nn.Module.__init__(self)
    for name, layer in layers.items():
        setattr(self, name, layer)


@pytest.mark.parametrize(
    "forward, words",
    [
        (lambda self, t, y: self.k(y) - y.mean(0), "last axis"),
        (lambda self, t, y: self.k(y)[0], "first axis is that of the samples"),
        (lambda self, t, y: self.k(y) if y.sum() > 0 else y, "torch.fx does not trace it"),
        (lambda self, t, y: torch.cumsum(self.k(y), -1), "'cumsum'"),
        (lambda self, t, y: self.norm(self.k(y)), "BatchNorm1d"),
        (lambda self, t, y: self.drop(self.k(y)), "random"),
        (lambda self, t, y, u: y, "takes 3 arguments"),
    ],
)
def test_what_cannot_be_read(forward, words):
    module = bad(forward, norm=nn.BatchNorm1d(3), drop=nn.Dropout(0.5), k=nn.Linear(3, 3))
    with pytest.raises(TypeError, match=words):
        pt.from_torch(module)


def test_what_is_read_wrongly_is_noticed():
    class Sneaky(nn.Module):
        def forward(self, y):
            return y * self.factor()

        def factor(self):
            self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
            return 1.0 + self.__dict__["calls"]

    with pytest.raises(ValueError, match="other numbers than the module"):
        pt.from_torch(Sneaky(), 2)


@pn.field(state=3, theta={"k": 2.0, "A": (3, 3), "net": pn.mlp(3, (4,), activation="gelu")})
def mixed(t, y, th):
    value = np.where(y > 0.3, th.A @ y, np.sin(y) ** 3 / (1 + np.exp(-t))) * th.k
    return value + th.net(y)[::-1] + np.maximum(y.sum(), 0.1)


@pytest.mark.parametrize(
    "f",
    [
        pn.mlp(2, (8, 8)),
        pn.mlp(2, (8,), activation="silu"),
        pn.mlp(2, (8,), time=True, inputs=1, skip=3),
        mixed,
        pn.jacobian(mixed),
    ],
    ids=lambda f: f.name,
)
def test_to_torch(f):
    rng = np.random.default_rng(0)
    theta = f.init(0)
    module = pt.to_torch(f, theta)
    y, u = rng.normal(size=(5, f.d)), rng.normal(size=(5, f.inputs)) if f.inputs else None
    plain = isinstance(module, nn.Sequential)
    assert plain == (f.name == "mlp(2-8-8-2, tanh)")
    value = (
        module(torch.from_numpy(y))
        if plain
        else module(0.3, torch.from_numpy(y), None if u is None else torch.from_numpy(u))
    )
    assert np.allclose(value.detach().numpy(), f(0.3, y, theta, u), rtol=1e-12, atol=1e-13)
    if plain:
        assert (pt.from_torch(module)[1] == theta).all()


def test_without_torch():
    code = "import sys; sys.modules['torch'] = None; import pynode; pynode.solve; pynode.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install torch" in done.stderr
    lazy = subprocess.run([sys.executable, "-c", "import sys, pynode; assert 'torch' not in sys.modules"])
    assert lazy.returncode == 0


def test_the_example():
    path = Path(__file__).parents[2] / "examples" / "torch_encoder.py"
    done = subprocess.run([sys.executable, path, "--epochs", "20"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "error of the forecast" in done.stdout
