"""Minibatches: every sample once an epoch, by the random state and the number of the iteration alone."""

import numpy as np
import pytest

from pynode.optim.minibatches import Epochs


@pytest.mark.parametrize("at_most", [False, True])
@pytest.mark.parametrize("n, size", [(10, 3), (10, 4), (12, 4), (5, 9), (5, None), (1, 1)])
def test_every_sample_once_an_epoch(n, size, at_most):
    epochs = Epochs(n, size, 3, at_most=at_most)
    batches = [epochs.batch(k) for k in range(1, 2 * epochs.n_batches + 1)]
    for epoch in (batches[: epochs.n_batches], batches[epochs.n_batches :]):
        assert sorted(np.concatenate(epoch)) == list(range(n))
    lengths = [len(batch) for batch in batches]
    whole = n if size is None else min(size, n)
    assert max(lengths) <= whole if at_most else min(lengths) >= whole
    assert max(lengths) - min(lengths) <= 1


def test_the_order_depends_on_the_random_state_and_the_number_alone():
    a, b = Epochs(50, 7, 1), Epochs(50, 7, 1)
    forwards = [a.batch(k) for k in range(1, 22)]
    for k in (20, 3, 20, 9, 1):
        np.testing.assert_array_equal(b.batch(k), forwards[k - 1])
    for other in (Epochs(50, 7, 2), Epochs(50, 7, (1, 1))):
        assert (other.batch(1) != forwards[0]).any()
    np.testing.assert_array_equal(Epochs(50, 7, (1,)).batch(4), forwards[3])
    assert (forwards[0] != forwards[7]).any()  # another epoch, another order
