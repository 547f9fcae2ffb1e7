"""Numbers in words; the whole page is tested in `test_reporting.py`."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from jaxdrop._report import compose, kinds


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


def test_the_error_of_an_example_with_parts_is_an_upper_limit():
    """It is the mean of those of the parts, and the noise that it makes may be all that there is."""
    doubts, error = {"total_entropy": np.arange(5.0)}, np.full(5, 3.0)
    analysis = SimpleNamespace(noise_share=3.6, doubts=doubts, doubt_error=error, pictures=())
    for parts, words in (((), "makes 360 % of"), ((4, 4), "makes at most 100 % of")):
        about = SimpleNamespace(kind=kinds.Kind("logits", 3, False, parts))
        (text,) = compose._uncertainty(about, analysis)
        assert words in text.text
        assert ("smaller unless the parts err together" in compose._cards_text(about, analysis)) == bool(
            parts
        )
