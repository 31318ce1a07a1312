"""BLAS on one thread: for the small matrices here more threads only wait for each other."""

from functools import cache

LARGE = 600
"""From this size of matrix on, BLAS may use the threads it wants."""


@cache
def _controller():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def small_matrices(size):
    """A context in which BLAS works on matrices of this size with as many threads as pay."""
    return _controller().limit(limits=1 if size < LARGE else None, user_api="blas")
