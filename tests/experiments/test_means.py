"""Means, their standard errors and verdicts."""

import numpy as np
import pytest

from experiments.means import Mean, mean_and_error


def test_mean_and_error():
    values = np.array([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]])
    mean, error = mean_and_error(values)
    np.testing.assert_allclose(mean, [2, 4])
    np.testing.assert_allclose(error, [1 / np.sqrt(3), 0])
    assert np.isnan(mean_and_error(np.array([1.0]))[1])
    assert Mean.of(values[0]) == (2.0, pytest.approx(1 / np.sqrt(3)))


@pytest.mark.parametrize(("factor", "digits", "expected"), [(100, 1, "12.3±0.5"), (1, 3, "0.123±0.005")])
def test_text(factor, digits, expected):
    assert Mean(0.1234, 0.0049).show(factor, digits) == expected
    assert Mean(0.1234, 0.0056).percent() == "12.34±0.56"


@pytest.mark.parametrize(
    ("difference", "error", "expected"),
    [
        (-0.03, 0.01, "helps"),
        (0.03, 0.01, "hurts"),
        (-0.015, 0.01, "unclear"),
        (0.1, float("nan"), "one seed"),
    ],
)
def test_verdict(difference, error, expected):
    assert Mean(difference, error).verdict() == expected


def test_verdict_in_other_words():
    words = ("worse", "better", "not told apart", "one split")
    found = [Mean(value, error).verdict(*words) for value, error in ((-3, 1), (3, 1), (1, 1), (1, np.nan))]
    assert tuple(found) == words
