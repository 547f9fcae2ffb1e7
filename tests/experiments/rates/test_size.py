"""Pairs without and with dropout, and what is said of the paper's claims."""

import numpy as np
import pytest

from experiments.rates import runs, size

PLAN = size.make("mnist", 0, 3, 1 / 8, False)


def trained(gains: list[float]) -> runs.Trained:
    """Errors of three seeds; with dropout they are lower by the gains."""
    seeds = np.array([-0.01, 0.0, 0.01])
    test = np.stack([0.5 - gain * with_it + seeds for gain in gains for with_it in (0, 1)])
    return runs.Trained({}, np.zeros((10, 12, 3)), test / 2, test)


def test_settings_come_in_pairs_over_the_same_images():
    assert [setting.size for setting in PLAN.settings[::2]] == list(size.SIZES)
    for without, dropout in zip(PLAN.settings[::2], PLAN.settings[1::2], strict=True):
        assert without == runs.Setting(0.0, 0.0, without.size)
        assert dropout == runs.Setting(0.2, 0.5, without.size)
    assert PLAN.hidden == (128, 128, 256)


def test_differences_are_of_dropout_paired_by_seed():
    rows = size.summarize(PLAN, trained([-0.1, 0.0, 0.1, 0.2, 0.1, 0.05]))
    np.testing.assert_allclose([row["difference"].value for row in rows], [0.1, 0, -0.1, -0.2, -0.1, -0.05])
    np.testing.assert_allclose([row["difference"].error for row in rows], 0, atol=1e-12)
    np.testing.assert_allclose(rows[0]["without"].error, 0.01 / 3**0.5)
    np.testing.assert_allclose(rows[3]["train_dropout"].value, 0.15)


@pytest.mark.parametrize(
    ("gains", "shows"),
    [
        ([-0.1, -0.1, 0.1, 0.2, 0.1, 0.05], ["yes", "yes", "yes"]),
        ([-0.1, 0.3, 0.1, 0.2, -0.1, -0.1], ["no", "in part", "yes"]),
        ([-0.1, -0.2, -0.3, -0.2, -0.1, -0.1], ["yes", "no", "no"]),
    ],
)
def test_claims(gains, shows):
    assert [claim.shows for claim in size.claims(size.summarize(PLAN, trained(gains)))] == shows


def test_every_size_is_named_with_its_verdict():
    here = size.claims(size.summarize(PLAN, trained([-0.1, 0.0, 0.1, 0.2, 0.1, 0.05])))[0].here
    assert here.startswith("100: hurts (10.00±0.00); 500: ")
