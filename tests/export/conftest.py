"""Exported files, compiled and loaded."""

import numpy as np
import pytest
from exported_c import COMPILERS, Exported


@pytest.fixture
def exported(tmp_path):
    """Export, compile, load."""
    if not COMPILERS:
        pytest.skip("no C compiler: neither gcc nor clang is installed")
    from pynode import export

    def make(f, theta=None, *, precision="double", parameters="baked", **options):
        files = export.c(f, theta, tmp_path / "model.c", precision=precision, parameters=parameters, **options)
        field = getattr(f, "field_", f)
        own = field.n_params and parameters == "argument"
        real = np.float64 if precision == "double" else np.float32
        return Exported(field, files, real, theta=(f.theta_ if theta is None else theta) if own else None)

    return make
