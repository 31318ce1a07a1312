"""Minibatches: samples in a random order, shuffled once in each epoch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Epochs:
    """Which of n samples belong to the minibatch of iteration k = 1, 2, ...

    The samples are shuffled once in each epoch and taken in batches of nearly equal size. Their order depends on the random
    state and the number of the epoch alone, so that training that goes on from a checkpoint sees the same minibatches.

    Parameters
    ----------
    n : int
        How many samples there are.
    batch_size : int or None
        How many samples a minibatch has; None, or more than n: all.
    random_state : int or sequence of int
        The same number, the same minibatches.
    at_most : bool, default False
        True: no minibatch has more than `batch_size` samples. False: none has fewer.

    Attributes
    ----------
    n_batches : int
        Minibatches in an epoch.

    Examples
    --------
    >>> from pynode.optim.minibatches import Epochs
    >>> epochs = Epochs(7, 3, random_state=0)
    >>> epochs.n_batches, epochs.place(4)
    (2, (1, 1))
    >>> sorted([*epochs.batch(3), *epochs.batch(4)]) == list(range(7))
    True
    """

    def __init__(self, n: int, batch_size: int | None, random_state: int | Sequence[int], *, at_most: bool = False) -> None:
        size = n if batch_size is None else min(batch_size, n)
        self.n = n
        self.n_batches = max(1, -(-n // size) if at_most else n // size)
        self._entropy = [random_state] if isinstance(random_state, (int, np.integer)) else list(random_state)
        self._epoch = -1
        self._batches: list[NDArray[np.int64]] = []

    def place(self, k: int) -> tuple[int, int]:
        """The epoch that iteration k belongs to and its place in that epoch, both counted from 0."""
        return divmod(k - 1, self.n_batches)

    def batch(self, k: int) -> NDArray[np.int64]:
        """The samples of iteration k, in the order in which they were drawn."""
        epoch, place = self.place(k)
        if epoch != self._epoch:
            order = np.random.default_rng([*self._entropy, epoch]).permutation(self.n)
            self._batches = np.array_split(order, self.n_batches)
            self._epoch = epoch
        return self._batches[place]
