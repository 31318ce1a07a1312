"""`SolveOptions`, which type checkers see, and `Options`, which does the work, name the same keywords; so does `solve`."""

import inspect
from dataclasses import fields
from typing import get_type_hints

import numpy as np
import pytest

import pynode as pn
from pynode.calls.objective import ObjectiveOptions
from pynode.engine.options import Options, SolveOptions

T = [0.0, 1.0]


def test_the_names_are_the_same_everywhere():
    names = [field.name for field in fields(Options)]
    assert list(get_type_hints(SolveOptions)) == names
    assert not SolveOptions.__required_keys__
    keywords = inspect.signature(pn.solve).parameters
    assert [name for name in keywords if name in names] == names
    assert {name: keywords[name].default for name in names} == {field.name: field.default for field in fields(Options)}


@pytest.mark.parametrize("call", [pn.loss_and_grad, pn.check_grad])
def test_a_misspelt_option_is_named(call):
    f = pn.mlp(1, (2,))
    with pytest.raises(TypeError, match="unexpected keyword argument 'methd'"):
        call(f, [1.0], T, f.init(0), np.zeros((2, 1)), methd="rk4")


def test_a_misspelt_option_of_objectives_and_sensitivities_is_named():
    f = pn.mlp(1, (2,))
    with pytest.raises(TypeError, match="unexpected keyword argument 'methd'"):
        pn.Objective(f, [1.0], T, np.zeros((2, 1)), methd="rk4")
    with pytest.raises(TypeError, match=r"sensitivities\(\) got an unexpected keyword argument 'methd'"):
        pn.sensitivities(f, [1.0], T, f.init(0), methd="rk4")


def test_the_options_of_check_grad_are_those_of_objectives():
    keywords = inspect.signature(pn.Objective).parameters.values()
    names = {p.name for p in keywords if p.kind is p.KEYWORD_ONLY} - {"wrt"}
    assert set(ObjectiveOptions.__annotations__) == names | set(SolveOptions.__annotations__)
    assert not ObjectiveOptions.__required_keys__
