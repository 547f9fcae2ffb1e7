"""Coverage and size of sets against NumPy and MAPIE."""

import re

import jax
import numpy as np
import pytest
from mapie.metrics.classification import (
    classification_coverage_score,
    classification_mean_width_score,
    classification_ssc_score,
)

from jaxdrop import uncertainty

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 80)
SETS = (RNG.uniform(size=(80, 4)) < 0.5) | (np.eye(4, dtype=bool)[LABELS] & (RNG.uniform(size=(80, 1)) < 0.8))
SIZES = SETS.sum(-1)


def test_coverage_and_size_are_those_of_mapie():
    found = jax.jit(uncertainty.set_coverage)(SETS, LABELS)
    covered = SETS[np.arange(80), LABELS]
    np.testing.assert_allclose(found.coverage, classification_coverage_score(LABELS, SETS[..., None])[0])
    np.testing.assert_allclose(found.size, classification_mean_width_score(SETS[..., None])[0])
    share = covered.mean()
    np.testing.assert_allclose(found.coverage_error, np.sqrt(share * (1 - share) / 80), rtol=1e-6)
    np.testing.assert_allclose(found.size_error, SIZES.std(ddof=1) / np.sqrt(80), rtol=1e-6)
    assert found.num_examples == 80


def test_coverage_by_size_is_that_of_mapie():
    """MAPIE too has one value for each size of a set, NaN where no set has it."""
    by_size = jax.jit(lambda *args: uncertainty.set_coverage(*args[:2], groups=args[2], num_groups=5))
    found = by_size(SETS, LABELS, SIZES)
    worst = classification_ssc_score(LABELS, SETS[..., None])[0]
    np.testing.assert_allclose(np.nanmin(found.coverage), worst, rtol=1e-6)
    np.testing.assert_array_equal(found.num_examples, np.bincount(SIZES, minlength=5))
    np.testing.assert_array_equal(found.size[1:], np.arange(1, 5))


def test_groups_and_masks():
    """A group without an example is NaN, and a group of one has no error of its size."""
    where = RNG.uniform(size=80) < 0.8
    groups = np.where(where, np.where(np.arange(80) == np.argmax(where), 2, LABELS % 2), 77)
    labels = np.where(where, LABELS, -100)
    by_group = jax.jit(
        lambda *args: uncertainty.set_coverage(*args, groups=groups, num_groups=4, where=where)
    )
    found = by_group(SETS, labels)
    for group in (0, 1):
        some = where & (groups == group)
        covered, sizes, count = SETS[some, LABELS[some]], SIZES[some], some.sum()
        expected = [covered.mean(), covered.std() / count**0.5, sizes.mean(), sizes.std(ddof=1) / count**0.5]
        np.testing.assert_allclose(np.stack(found[:4])[:, group], expected, rtol=1e-6)
    np.testing.assert_array_equal(found.num_examples[2:], [1, 0])
    assert np.isnan(found.coverage[3])
    assert np.isnan(found.size_error[2])
    assert np.isfinite(found.size[2])


def test_traced_labels_and_groups_out_of_range_give_nan():
    found = jax.jit(uncertainty.set_coverage)(SETS, LABELS + 1)
    assert np.isnan(found.coverage)
    found = jax.jit(lambda groups: uncertainty.set_coverage(SETS, LABELS, groups=groups, num_groups=3))(
        LABELS
    )
    assert np.isnan(found.coverage).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sets": SETS * 1.0}, TypeError, "`sets` must be a boolean array, got float64."),
        ({"sets": SETS[:0], "labels": LABELS[:0]}, ValueError, "`sets` must not be empty, got shape (0, 4)."),
        ({"labels": LABELS[:3]}, ValueError, "`labels` must have the shape of `sets` without its last axis"),
        ({"groups": LABELS}, ValueError, "`num_groups` must be given, as `groups` is, got None."),
        (
            {"groups": LABELS[:3], "num_groups": 4},
            ValueError,
            "`groups` must have the shape of `labels`, (80,), got (3,).",
        ),
        ({"groups": LABELS, "num_groups": 2}, ValueError, "`groups` must lie in [0, 1], got "),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        uncertainty.set_coverage(**{"sets": SETS, "labels": LABELS, **options})


@pytest.mark.slow
def test_sums_beyond_what_float32_counts():
    """Sums of ones end at 2**24, and beyond it one of 61's grows by 60."""
    sets = np.broadcast_to(np.arange(64) < 61, (300_000, 64))
    found = uncertainty.set_coverage(sets, np.zeros(300_000, np.int32))
    assert (found.coverage, found.size, found.size_error) == (1, 61, 0)
