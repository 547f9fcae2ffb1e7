"""Scores of intervals against uncertainty-toolbox, their definitions in float64, and pinball losses."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import uncertainty_toolbox
from scipy import stats

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
LEVELS = np.arange(1, 10) / 10
Y = RNG.normal(size=(4, 5))
LOWER = RNG.normal(size=(9, 4, 5)) - 0.5
UPPER = LOWER + RNG.uniform(size=(9, 4, 5))


def by_definition(lower: np.ndarray, upper: np.ndarray, y: np.ndarray, level: float) -> np.ndarray:
    """In float64, as Gneiting and Raftery write it."""
    penalty = 2 / (1 - level)
    return upper - lower + penalty * ((lower - y) * (y < lower) + (y - upper) * (y > upper))


def test_interval_score():
    scores = uncertainty.interval_score(LOWER, UPPER, Y, LEVELS)
    each = zip(LOWER, UPPER, LEVELS, strict=True)
    expected = [by_definition(low, up, Y, level) for low, up, level in each]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    traced = jax.jit(uncertainty.interval_score)(LOWER[0], UPPER[0], Y, 0.1)
    np.testing.assert_allclose(traced, expected[0], rtol=1e-5)
    infinite = np.full(Y.shape, np.inf)
    assert np.isinf(uncertainty.interval_score(-infinite, infinite, Y, 0.5)).all()


def test_the_mean_over_levels_is_that_of_uncertainty_toolbox():
    mean, stddev, y = RNG.normal(size=20), RNG.uniform(0.5, 2, 20), RNG.normal(size=20)
    levels = np.linspace(0.01, 0.99, 99)
    lower, upper = (stats.norm.ppf((1 + sign * levels[:, None]) / 2, mean, stddev) for sign in (-1, 1))
    expected = uncertainty_toolbox.interval_score(mean, stddev, y)
    np.testing.assert_allclose(
        uncertainty.interval_score(lower, upper, y, levels).mean(), expected, rtol=1e-5
    )


def test_a_level_near_1_is_not_rounded():
    """In float32 1 - level would be wrong by 5 %."""
    level = 1 - 1e-6 - 2e-8
    expected = by_definition(LOWER[0], UPPER[0], Y, level)
    found = uncertainty.interval_score(LOWER[0], UPPER[0], Y, level)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_weighted_interval_score_is_twice_the_mean_pinball_loss():
    median = RNG.normal(size=Y.shape)
    scores = jax.jit(uncertainty.weighted_interval_score)(median, LOWER, UPPER, Y, LEVELS)
    each = [by_definition(*args, level) for *args, level in zip(LOWER, UPPER, [Y] * 9, LEVELS, strict=True)]
    parts = [(1 - level) / 2 * score for level, score in zip(LEVELS, each, strict=True)]
    np.testing.assert_allclose(scores, (np.abs(Y - median) / 2 + sum(parts)) / 9.5, rtol=1e-5)
    # Ends in the wrong order, too.
    quantiles = np.concatenate([UPPER, median[None], LOWER])
    levels = np.concatenate([(1 - LEVELS) / 2, [0.5], (1 + LEVELS) / 2])
    expected = 2 * uncertainty.pinball(quantiles, Y, levels).mean(0)
    crossed = uncertainty.weighted_interval_score(median, UPPER, LOWER, Y, LEVELS)
    np.testing.assert_allclose(crossed, expected, rtol=1e-5)


def test_weighted_interval_score_of_many_levels_is_the_crps():
    levels = (np.arange(200) + 0.5) / 200
    mean, stddev, y = RNG.normal(size=5), RNG.uniform(0.5, 2, 5), RNG.normal(size=5)
    lower, upper = (stats.norm.ppf((1 + sign * levels[:, None]) / 2, mean, stddev) for sign in (-1, 1))
    expected = uncertainty.crps_gaussian(mean, stddev, y)
    found = jax.jit(uncertainty.weighted_interval_score)(mean, lower, upper, y, levels)
    np.testing.assert_allclose(found, expected, rtol=5e-3)


def test_a_mask_leaves_targets_out_and_large_offsets_are_subtracted_first():
    where = np.array([True, False, True, True])[:, None]
    y = np.where(where, Y, np.nan) + 1e8
    expected = uncertainty.interval_score(LOWER, UPPER, Y, LEVELS)
    found = uncertainty.interval_score(LOWER + 1e8, UPPER + 1e8, y, LEVELS, where=where)
    assert np.isnan(found[:, 1]).all()
    np.testing.assert_allclose(found[:, ::2], expected[:, ::2], rtol=1e-5)
    weighted = uncertainty.weighted_interval_score(y, LOWER + 1e8, UPPER + 1e8, y, LEVELS, where=where)
    expected = uncertainty.weighted_interval_score(Y, LOWER, UPPER, Y, LEVELS)
    assert np.isnan(weighted[1]).all()
    np.testing.assert_allclose(weighted[::2], expected[::2], rtol=1e-5)


def test_half_precision_is_widened():
    lower, upper, y = (array.astype(np.float16) for array in (LOWER, UPPER, Y))
    assert uncertainty.interval_score(lower[0], upper[0], y, 0.5).dtype == jnp.float32
    found = uncertainty.weighted_interval_score(y, lower, upper, y, LEVELS.astype(np.float16))
    expected = uncertainty.weighted_interval_score(Y, LOWER, UPPER, Y, LEVELS)
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)
    assert found.dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.interval_score(LOWER, UPPER, Y, 0.5),
            ValueError,
            "`lower` must have the shape of `level`, () or (K,), followed by that of `y`, () and (4, 5), got",
        ),
        (
            lambda: uncertainty.interval_score(LOWER[0], UPPER[1, :2], Y, 0.5),
            ValueError,
            "`upper` must have the shape of `lower`, (4, 5), got (2, 5).",
        ),
        (lambda: uncertainty.interval_score(Y, Y, Y, 1.0), ValueError, "`level` must lie in (0, 1), got 1."),
        (lambda: uncertainty.interval_score(Y, Y, Y * np.nan, 0.5), ValueError, "`y` must not hold a NaN"),
        (lambda: uncertainty.interval_score("a", Y, Y, 0.5), TypeError, "`lower` must be a real number"),
        (
            lambda: uncertainty.weighted_interval_score(Y, Y, Y, Y, 0.5),
            ValueError,
            "`level` must have one axis, got shape ().",
        ),
        (
            lambda: uncertainty.weighted_interval_score(Y[0], LOWER, UPPER, Y, LEVELS),
            ValueError,
            "`median` must have the shape of `y`, (4, 5), got (5,).",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
