"""Networks of Equinox and Flax as fields, and back."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp  # noqa: E402

import pynode as pn  # noqa: E402


@pytest.mark.parametrize("time", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus", "silu"])
def test_equinox(activation, time):
    equinox = pytest.importorskip("equinox")
    function = {"tanh": jnp.tanh}.get(activation) or getattr(jax.nn, activation)
    network = equinox.nn.MLP(2 + time, 2, 5, 2, activation=function, key=jax.random.key(0))
    f, theta = pn.jax.from_equinox(network, time=time)
    y = np.array([0.3, -0.7])
    given = np.append(y, 1.5) if time else y
    np.testing.assert_allclose(f(1.5, y, theta), network(given), rtol=1e-6)
    moved = pn.jax.to_equinox(2 * theta, network)
    np.testing.assert_allclose(f(1.5, y, 2 * theta), moved(given), rtol=1e-6)

    def loss(network):
        theta = jnp.concatenate([x.ravel() for layer in network.layers for x in (layer.weight, layer.bias)])
        return pn.jax.odeint(f, y, [0.0, 1.0], theta)[-1].sum()

    grad = equinox.filter_grad(loss)(network)
    assert np.abs(grad.layers[0].weight).max() > 0


def test_equinox_refused():
    equinox = pytest.importorskip("equinox")
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="bias"):
        pn.jax.from_equinox(equinox.nn.MLP(2, 2, 5, 2, use_bias=False, key=key))
    with pytest.raises(ValueError, match="last layer"):
        pn.jax.from_equinox(equinox.nn.MLP(2, 2, 5, 2, final_activation=jnp.tanh, key=key))
    with pytest.raises(ValueError, match="takes 3 numbers and gives 2"):
        pn.jax.from_equinox(equinox.nn.MLP(3, 2, 5, 2, key=key))
    with pytest.raises(ValueError, match="activation"):
        pn.jax.from_equinox(equinox.nn.MLP(2, 2, 5, 2, activation=lambda x: jnp.tanh(x) ** 3, key=key))
    with pytest.raises(TypeError, match="Linear"):
        pn.jax.from_equinox(equinox.nn.Linear(2, 2, key=key))


def test_flax():
    rng = np.random.default_rng(0)
    params = {
        "Dense_0": {"kernel": rng.standard_normal((2, 5)), "bias": rng.standard_normal(5)},
        "Dense_1": {"kernel": rng.standard_normal((5, 2)), "bias": rng.standard_normal(2)},
    }
    f, theta = pn.jax.from_flax(params, "tanh")
    y = np.array([0.3, -0.7])
    hidden = np.tanh(y @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    np.testing.assert_allclose(f(0.0, y, theta), hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"])
    again = pn.jax.to_flax(theta, params)
    jax.tree.map(np.testing.assert_allclose, again, params)
    with pytest.raises(ValueError, match="Dense_0 has kernel"):
        pn.jax.from_flax({"Dense_0": {"kernel": np.ones((2, 2))}})


def test_ravel_and_unravel():
    f = pn.mlp(2, (8,))
    theta = f.init(0)
    named = pn.jax.unravel(f, theta)
    np.testing.assert_array_equal(pn.jax.ravel(f, named), theta)
    with pytest.raises(ValueError, match="W0"):
        pn.jax.ravel(f, {"W": named["W0"]})
    with pytest.raises(ValueError, match="shape"):
        pn.jax.ravel(f, named | {"b0": np.ones(3)})
