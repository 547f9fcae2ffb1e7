"""NNX shells: each is its pure function."""

from tests.shells import SEQUENCES, Case, cases, check_nnx


@cases(SEQUENCES)
def test_it_is_its_function(case: Case):
    check_nnx(case)
