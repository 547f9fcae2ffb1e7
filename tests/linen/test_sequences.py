"""Linen shells: each is its pure function."""

from tests.shells import SEQUENCES, Case, cases, check_linen


@cases(SEQUENCES)
def test_it_is_its_function(case: Case):
    check_linen(case)
