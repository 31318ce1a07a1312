"""The posterior of Lotka and Volterra's equations, given 21 years of pelts of hare and lynx: by NUTS and by Laplace.

    python examples/nuts_lotka_volterra.py [picture.png] [--draws N]

    d hare / dt = birth hare - eaten hare lynx
    d lynx / dt = growth hare lynx - death lynx

with readings whose logarithms have a normal error each, as in Carpenter's study for Stan (2018, "Predator-prey population
dynamics: the Lotka-Volterra model in Stan"). `NeuralODE(field=...).fit` finds the likeliest numbers and their covariance,
which is Laplace's approximation of the posterior, in logarithms. NUTS (Hoffman & Gelman 2014, by NumPyro) draws from the
posterior itself, with wide priors: the equations are solved by `pynode.jax.odeint` inside NumPyro's program, the gradient is
that of the steps, and the chains share each call of the core. Needs jax and numpyro.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import effective_sample_size, gelman_rubin
from numpyro.infer import MCMC, NUTS, init_to_value

import pynode as pn

jax.config.update("jax_enable_x64", True)

GUESS = {"birth": 0.5, "eaten": 0.03, "death": 0.8, "growth": 0.03}
START = np.array([30.0, 4.0])
CHAINS = 4


@pn.field(state=["hare", "lynx"], theta={name: pn.positive(value) for name, value in GUESS.items()})
def predation(t, y, th):
    hare, lynx = y
    return [th.birth * hare - th.eaten * hare * lynx, th.growth * hare * lynx - th.death * lynx]


def model(t, pelts):
    """The posterior: logarithms of all numbers have normal priors of standard deviation 1 around a guess."""
    logs = [numpyro.sample(name, dist.Normal(np.log(value), 1.0)) for name, value in GUESS.items()]
    start = numpyro.sample("start", dist.Normal(np.log(START), 1.0).to_event(1))
    error = numpyro.sample("error", dist.Normal(np.log([0.25, 0.25]), 1.0).to_event(1))
    y = pn.jax.odeint(predation, jnp.exp(start), t, jnp.exp(jnp.stack(logs)), errors="ignore")
    usable = jnp.where(y > 0, y, jnp.nan)  # NUTS rejects what cannot be solved
    numpyro.sample("pelts", dist.Normal(jnp.log(usable), jnp.exp(error)).to_event(2), obs=np.log(pelts))


def laplace(t, pelts):
    """(means, standard deviations) of the logarithms of the parameters, around the likeliest ones."""
    start = {k: pn.positive(value) for k, value in enumerate(START)}
    fit = pn.NeuralODE(field=predation, noise="lognormal", initial=start).fit(t, pelts)
    return np.log(fit.theta_), np.sqrt(np.diag(fit.covariance_)) / fit.theta_


def nuts(t, pelts, draws):
    """(chains, draws, 4) the logarithms of the parameters."""
    first = {name: np.log(value) for name, value in GUESS.items()} | {"start": np.log(START), "error": np.log([0.25, 0.25])}
    kernel = NUTS(model, init_strategy=init_to_value(values=first), dense_mass=True)
    sampler = MCMC(
        kernel, num_warmup=draws, num_samples=draws, num_chains=CHAINS, chain_method="vectorized", progress_bar=False
    )
    sampler.run(jax.random.key(0), t, pelts, extra_fields=("num_steps", "diverging"))
    found = sampler.get_samples(group_by_chain=True)
    extra = sampler.get_extra_fields()
    print(
        f"{int(extra['num_steps'].sum())} steps of {CHAINS * draws} draws, {int(extra['diverging'].sum())} of them diverged"
    )
    return np.stack([found[name] for name in GUESS], axis=-1)


def compare(draws):
    """(means and deviations by Laplace, draws by NUTS), printed as a table."""
    t, pelts = (x[0] for x in (pn.datasets.lynx_hare().train.t, pn.datasets.lynx_hare().train.y))
    began = time.perf_counter()
    mean, deviation = laplace(t, pelts)
    fitted = time.perf_counter()
    drawn = nuts(t, pelts, draws)
    print(f"Laplace {fitted - began:.1f} s, NUTS {time.perf_counter() - fitted:.1f} s with compilation")
    print("logarithm      Laplace              NUTS                 effective draws   R-hat")
    for k, name in enumerate(GUESS):
        x = drawn[:, :, k]
        print(
            f"{name:10s} {mean[k]:8.3f} +- {deviation[k]:.3f}   {x.mean():8.3f} +- {x.std():.3f}   "
            f"{effective_sample_size(x):10.0f}        {gelman_rubin(x):8.3f}"
        )
    return mean, deviation, drawn


def draw(mean, deviation, drawn, path):
    """The four posteriors: histograms by NUTS, the normal densities by Laplace."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(12, 2.8), layout="constrained")
    for k, (name, axis) in enumerate(zip(GUESS, axes, strict=True)):
        x = np.linspace(mean[k] - 4 * deviation[k], mean[k] + 4 * deviation[k], 200)
        axis.hist(drawn[:, :, k].ravel(), bins=40, density=True, color="0.8", label="NUTS")
        axis.plot(
            x, np.exp(-0.5 * ((x - mean[k]) / deviation[k]) ** 2) / (deviation[k] * np.sqrt(2 * np.pi)), label="Laplace"
        )
        axis.set(xlabel=f"log {name}", yticks=[])
    axes[0].set_ylabel("density")
    axes[0].legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", help="file of a picture of the posteriors")
    parser.add_argument("--draws", type=int, default=1000, help="draws of each chain, and of its warm-up (%(default)s)")
    args = parser.parse_args()
    found = compare(args.draws)
    if args.picture:
        draw(*found, args.picture)


if __name__ == "__main__":
    main()
