"""A few of the random combinations of tests/combinations.py."""

import pytest
from combinations import one


@pytest.mark.parametrize("number", range(24))
def test_a_combination_of_features_is_right(number):
    outcome, text, case = one(7, number)
    assert outcome in ("right", "refused", "left out"), f"{text}\n{case}"
