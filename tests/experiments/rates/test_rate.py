"""Differences from the middle rates, and what is said of the paper's claims."""

import numpy as np
import pytest

from experiments.rates import rate, runs

PLAN = rate.make("mnist", 0, 3, 1 / 8, False)


def trained(test: list[float]) -> runs.Trained:
    """Errors of three seeds, a point apart at most."""
    values = np.array(test)[:, None] + np.array([-0.01, 0.0, 0.01])
    return runs.Trained({}, np.zeros((10, 10, 3)), values / 2, values)


def test_differences_are_from_the_mean_over_the_middle_rates_of_the_same_seed():
    found = trained([0.5, 0.4, 0.1, 0.2, 0.3, 0.2, 0.2, 0.4, 0.6, 0.9])
    rows = rate.summarize(PLAN, found)
    assert [row["rate"] for row in rows] == list(rate.RATES)
    np.testing.assert_allclose(
        [row["difference"].value for row in rows], found.test.mean(1) - 0.2, atol=1e-12
    )
    # What all rates of a seed share cancels.
    np.testing.assert_allclose([row["difference"].error for row in rows], 0, atol=1e-12)
    np.testing.assert_allclose(rows[0]["test"].error, 0.01 / 3**0.5)
    assert rows[0]["train"].value == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("test", "shows"),
    [
        ([0.5, 0.4, 0.2, 0.21, 0.2, 0.21, 0.2, 0.4, 0.5, 0.6], ["yes", "yes", "yes"]),
        ([0.1, 0.2, 0.2, 0.21, 0.2, 0.21, 0.3, 0.4, 0.5, 0.6], ["no", "yes", "no"]),
        ([0.23, 0.3, 0.2, 0.21, 0.2, 0.21, 0.3, 0.2, 0.1, 0.0], ["yes", "no", "no"]),
    ],
)
def test_claims(test, shows):
    found = rate.claims(PLAN, rate.summarize(PLAN, trained(test)))
    assert [claim.shows for claim in found] == shows


def test_the_rates_not_told_from_the_lowest_are_named():
    found = trained([0.5, 0.4, 0.2, 0.21, 0.2, 0.21, 0.2, 0.4, 0.5, 0.6])
    found.test[3] += [-0.02, 0.02, 0.0]
    here = rate.claims(PLAN, rate.summarize(PLAN, found))[-1].here
    assert here.endswith("the lowest of all is at 0.2, not told from it: 0.3, 0.4, 0.6")


def test_images_go_with_the_square_of_the_scale():
    assert {setting.size for setting in PLAN.settings} == {938}
    assert {setting.input for setting in PLAN.settings} == {0.0}
    assert PLAN.hidden == (256,) * 3
