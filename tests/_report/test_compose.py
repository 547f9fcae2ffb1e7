"""Numbers in words; the whole page is tested in `test_reporting.py`."""

import math

import pytest

from jaxdrop._report import compose


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (0.91234, 0.0123, "0.912 ± 0.012"),
        (151.6, 52.1, "152 ± 52"),
        (1e9, 2.3e8, "1e+09 ± 2.3e+08"),
        (0.5, math.nan, "0.5"),
        (0.5, 0.0, "0.5"),
        (math.nan, math.nan, "not known"),
        (math.inf, math.nan, "inf"),
    ],
)
def test_a_value_with_its_error(value, error, words):
    assert compose.with_error(value, error) == words


def test_every_score_has_words():
    assert compose._meaning("error_auroc_total_entropy") == "AUROC of mistakes by total entropy"
    assert compose._meaning("nll") == "negative log likelihood"
    assert compose._meaning("new_score") == "new score"
