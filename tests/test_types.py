from typing import get_args

from jaxdrop import _checks, _types


def test_the_bits_are_those_that_the_check_accepts():
    literal, none = get_args(_types.Bits)
    assert get_args(literal) == _checks.WIDTHS
    assert none is type(None)
