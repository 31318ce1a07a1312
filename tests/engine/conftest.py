"""What tests of the engine share."""

import pytest

import pynode as pn


@pytest.fixture(params=pn.ISAS)
def isa(request):
    """Each instruction set that this processor has, set; the one of before is put back."""
    before = pn.isa()
    pn.set_isa(request.param)
    yield request.param
    pn.set_isa(before)
