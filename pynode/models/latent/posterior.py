"""The posterior of the initial state of a latent equation: from the encoder's estimate, by Gauss-Newton steps.

An encoder is trained to give good estimates for all series with one set of weights; for a single series the posterior under
the model,

    -log p(z_0 | x) = 1/2 sum_i |x_i - decoder(z(t_i; z_0))|^2 / noise^2 + 1/2 |z_0|^2 + const,

is a small problem of nonlinear least squares, from which the encoder is a few steps away (amortisation gap: Cremer, Li,
Duvenaud 2018, arXiv:1801.03558; Kim, Wiseman, Miller, Sontag, Rush 2018, arXiv:1802.02550). Its Gauss-Newton matrix at the
minimum is the inverse of the covariance (Laplace's approximation, MacKay 1992).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pynode.engine.options import Options
from pynode.engine.problem import core_problem, implicit_programs
from pynode.errors import OK
from pynode.fields.transforms import jvp
from pynode.models.latent.elbo import Networks, inputs_of
from pynode.models.latent.series import Series
from pynode.optim.batched import minimise_each
from pynode.programs.program import Program

Array = NDArray[np.float64]

ENOUGH = 1e-6
"""Relative fall of the misfit that ends the steps of a series."""


MOST_NUMBERS = 1 << 22
"""Sensitivities of observed states with respect to z_0 that are held at a time."""


LONGEST = 2.0
"""Longest step, in standard deviations of the prior: far away the equation may be stiff."""


@dataclass(frozen=True)
class LatentPosterior:
    """N(mean, F F^T) for each of B series.

    Attributes
    ----------
    mean : (B, latent) array
    factor : (B, latent, latent) array
        F, lower triangular.
    """

    mean: Array
    factor: Array

    @classmethod
    def independent(cls, mean: Array, std: Array) -> Self:
        """With the standard deviations std (B, latent)."""
        return cls(mean, std[:, :, None] * np.eye(mean.shape[1]))

    @property
    def std(self) -> Array:
        """(B, latent) standard deviations."""
        return np.asarray(np.sqrt(np.sum(self.factor**2, axis=2)))

    @property
    def log_det(self) -> Array:
        """(B,) log of the determinants of the factors."""
        return np.asarray(np.log(np.diagonal(self.factor, axis1=1, axis2=2)).sum(axis=1))

    @property
    def kl(self) -> Array:
        """(B,) divergences KL(q || N(0, 1))."""
        squares = np.sum(self.mean**2, axis=1) + np.sum(self.factor**2, axis=(1, 2))
        return np.asarray(0.5 * (squares - self.mean.shape[1]) - self.log_det)

    def draws(self, eps: Array) -> Array:
        """mean + F eps, (n, B, latent), for eps of that shape."""
        return np.asarray(self.mean + np.einsum("bij,nbj->nbi", self.factor, eps))


class Misfit:
    """-log p(z_0 | x) of each series, up to a constant, with its gradient and Gauss-Newton matrix.

    Parameters
    ----------
    networks : Networks
    theta : (p,) array
    series : Series
    noise : (d,) array
        Standard deviation of the observations, scaled.
    options : Options
        Of the solve.
    """

    def __init__(self, networks: Networks, theta: Array, series: Series, noise: Array, options: Options) -> None:
        self.series, self.noise, self.decoder = series, noise, networks.decoder
        part = networks.generator.split(theta[networks.parts["generator"]])
        self.theta, self.decoder_theta = part["field"], part["loss"][: networks.decoder.n_params]
        field = networks.generator.field
        self.seen, times = series.from_start()
        keys = inputs_of(series, np.float64, 1, options) | implicit_programs(field, options, series.signal, True)
        reverse = _of_state(field.vjp_program)
        y0 = np.zeros((len(series), field.d))
        self.problem = core_problem(field.program, reverse, y0, times, options.arguments(field.d), **keys)

    def __call__(self, z0: Array) -> tuple[Array, Array, Array]:
        """(B,) values, inf where the solve fails; (B, latent) gradients; (B, latent, latent) matrices."""
        s, raw = self.series, self.problem.run(self.theta, y0=z0, sensitivity=True)
        z, dz = raw["y"][self.seen], raw["sensitivity"][self.seen]
        residual = s.mask * (s.value - self.decoder(0.0, z, self.decoder_theta)) / self.noise
        pushed = jvp(self.decoder)
        columns = [pushed(0.0, z, self.decoder_theta, dz[:, :, k]) for k in range(z0.shape[1])]
        J = (-s.mask / self.noise)[:, :, None] * np.stack(columns, axis=2)
        value = 0.5 * np.add.reduceat(np.sum(residual**2, axis=1), s.start) + 0.5 * np.sum(z0**2, axis=1)
        gradient = np.add.reduceat(np.einsum("rik,ri->rk", J, residual), s.start) + z0
        matrix = np.add.reduceat(np.einsum("rik,ril->rkl", J, J), s.start) + np.eye(z0.shape[1])
        return np.where((raw["status"] == OK) & np.isfinite(value), value, np.inf), gradient, matrix


def posterior_of(
    networks: Networks,
    theta: Array,
    series: Series,
    start: LatentPosterior,
    noise: Array,
    options: Options,
    iterations: int,
) -> LatentPosterior:
    """`refined` for any number of series, a part of them after the other.

    Parameters
    ----------
    networks, theta, series, noise, options
        See `Misfit`.
    start, iterations
        See `refined`.

    Returns
    -------
    LatentPosterior
    """
    numbers = len(series.t) * start.mean.shape[1] ** 2
    parts = np.array_split(np.arange(len(series)), min(len(series), 1 + numbers // MOST_NUMBERS))
    done = []
    for which in parts:
        misfit = Misfit(networks, theta, series.take(which), noise, options)
        done.append(refined(misfit, LatentPosterior(start.mean[which], start.factor[which]), iterations))
    return LatentPosterior(np.concatenate([q.mean for q in done]), np.concatenate([q.factor for q in done]))


def refined(misfit: Misfit, start: LatentPosterior, iterations: int) -> LatentPosterior:
    """The posterior after so many steps of Levenberg-Marquardt from the mean of `start`, each series by itself.

    Parameters
    ----------
    misfit : Misfit
        The series.
    start : LatentPosterior
        The encoder's estimate; it stays for series whose solve fails.
    iterations : int
        The most steps.

    Returns
    -------
    LatentPosterior
    """
    found = minimise_each(misfit, start.mean, max_iter=iterations, tol=ENOUGH, longest=LONGEST, factor=10.0)
    fine = ~found.failed
    factor = start.factor.copy()
    factor[fine] = np.linalg.cholesky(np.linalg.inv(found.matrix[fine]))
    return LatentPosterior(found.x, factor)


def _of_state(program: Program) -> Program:
    """A vjp program without the gradient with respect to theta: sensitivities have the columns of y0 alone then."""
    p, kept = program, sum(program.segments)
    return Program(p.sizes, p.n_slots, p.code[:kept], p.consts, p.index, p.outputs, p.n_theta, (), p.segments)
