"""Free states in chains, against dense matrices."""

import numpy as np
import pytest

from pynode.optim.chains import ChainedStates


def system(N, d, n, ends, seed=0):
    """(ChainedStates, J^T J, J^T r) of random residuals of N states of d numbers and n shared coordinates."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(N):
        own = np.zeros((d + 1, N * d + n))
        own[:, k * d : (k + 1) * d] = rng.standard_normal((d + 1, d))
        rows.append(own)
        if k not in ends:
            between = np.zeros((d, N * d + n))
            between[:, k * d : (k + 2) * d] = rng.standard_normal((d, 2 * d))
            between[:, N * d :] = rng.standard_normal((d, n))
            rows.append(between)
    J = np.concatenate(rows)
    M, v = J.T @ J, J.T @ rng.standard_normal(len(J))
    blocks = M[: N * d, : N * d].reshape(N, d, N, d)
    own = np.stack([blocks[k, :, k] for k in range(N)])
    following = np.stack([blocks[k, :, k + 1] if k + 1 < N else np.zeros((d, d)) for k in range(N)])
    coupling = M[: N * d, N * d :].reshape(N, d, n)
    return ChainedStates(M[N * d :, N * d :], v[N * d :], coupling, own, following, v[: N * d].reshape(N, d)), M, v


@pytest.mark.parametrize(("N", "d", "n"), [(2, 2, 2), (7, 1, 2), (6, 2, 3), (5, 3, 4), (9, 4, 0)])
def test_against_dense_matrices(N, d, n):
    chain, M, v = system(N, d, n, ends={2, N - 1})
    inverse = np.linalg.inv(M[: N * d, : N * d]).reshape(N, d, N, d)
    best = np.linalg.solve(M, v)
    H, g, gain, shift = chain.eliminated()
    step = np.linalg.solve(H, g)
    np.testing.assert_allclose(step, best[N * d :], atol=1e-12)
    np.testing.assert_allclose((shift - gain @ step).ravel(), best[: N * d], atol=1e-12)
    spread, between = chain.covariances()
    for k in range(N):
        np.testing.assert_allclose(spread[k], inverse[k, :, k], atol=1e-12)
        if k + 1 < N:
            np.testing.assert_allclose(between[k], inverse[k, :, k + 1], atol=1e-12)
    assert chain.log_determinant() == pytest.approx(np.linalg.slogdet(M[: N * d, : N * d])[1], abs=1e-10)
    rng = np.random.default_rng(1)
    z = rng.standard_normal(N * d + n)
    promised = chain.change(z[N * d :], z[: N * d].reshape(N, d))
    assert promised == pytest.approx(2 * v @ z + z @ M @ z, rel=1e-10)


def test_damping_is_relative_to_the_curvature():
    chain, M, v = system(6, 2, 3, ends={5})
    T = M[:12, :12] + 0.3 * np.diag(np.diag(M)[:12])
    *_, shift = chain.eliminated(0.3)
    np.testing.assert_allclose(shift.ravel(), np.linalg.solve(T, v[:12]), atol=1e-12)


def test_states_that_nothing_determines():
    zero = np.zeros((3, 2, 2))
    chain = ChainedStates(np.eye(1), np.zeros(1), np.zeros((3, 2, 1)), zero, zero, np.zeros((3, 2)))
    with pytest.raises(np.linalg.LinAlgError):
        chain.eliminated()
