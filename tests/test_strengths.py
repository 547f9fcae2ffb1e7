import re

import pytest

from jaxdrop import _strengths


def test_a_pair_or_one_for_both():
    assert _strengths.check_pair((0.1, 0.2)) == (0.1, 0.2)
    assert _strengths.check_pair(0.1) == (0.1, 0.1)
    with pytest.raises(
        ValueError, match=re.escape("`strength` must be a scalar or a pair (l1, l2), got (1,).")
    ):
        _strengths.check_pair((1,))


@pytest.mark.parametrize("strength", [-1.0, float("inf"), float("nan")])
def test_a_strength_is_finite_and_not_negative(strength: float):
    assert _strengths.check_strength(0.5) == 0.5
    with pytest.raises(
        ValueError, match=re.escape(f"`strength` must be finite and at least 0, got {strength:g}.")
    ):
        _strengths.check_strength(strength)
