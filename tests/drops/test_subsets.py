import pytest

from jaxdrop.drops._subsets import kept_count


def test_the_count_is_rounded_down_whatever_a_float_makes_of_it():
    assert [kept_count(100, rate, "x") for rate in (0.1, 0.7, 0.9, 0.99, 0.999)] == [90, 30, 10, 1, 1]


def test_there_must_be_something_to_keep():
    with pytest.raises(ValueError, match="`tokens` must hold at least one item to keep, got 0"):
        kept_count(0, 0.5, "tokens")
