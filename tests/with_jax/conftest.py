"""The two ways of pynode.jax to the core."""

import pytest

jax = pytest.importorskip("jax")
jax.config.update("jax_enable_x64", True)
from jax.interpreters import mlir  # noqa: E402

from pynode.jax import primitives  # noqa: E402


@pytest.fixture
def through_python():
    """A function that makes what is traced from now on call Python, as where there are no handlers."""

    def switch():
        for name in primitives.HOST:
            rule = mlir.lower_fun(primitives.through_python(name), multiple_results=primitives.SEVERAL[name])
            mlir.register_lowering(primitives.PRIMITIVES[name], rule, platform="cpu")
        jax.clear_caches()

    yield switch
    for name in primitives.HOST:
        mlir.register_lowering(primitives.PRIMITIVES[name], primitives.from_compiled_code(name), platform="cpu")
    jax.clear_caches()
