"""Linen shells: each is its pure function."""

from tests.shells import ELEMENTS, Case, cases, check_linen


@cases(ELEMENTS)
def test_it_is_its_function(case: Case):
    check_linen(case)
