"""NNX shells: each is its pure function."""

from tests.shells import GRAPHS, Case, cases, check_nnx


@cases(GRAPHS)
def test_it_is_its_function(case: Case):
    check_nnx(case)
