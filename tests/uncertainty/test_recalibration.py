"""Recalibration against closed forms, and on distributions that are wrong in a known way."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
COUNT = 2000
MEAN = RNG.normal(size=COUNT)
STDDEV = RNG.uniform(0.2, 2, size=COUNT)
GRID = np.linspace(0, 1, 21)
# Errors with a heavier tail, and a deviation of twice the predicted one.
Y = MEAN + 2 * STDDEV * RNG.standard_t(5, size=COUNT) * np.sqrt(3 / 5)


def test_the_scale_minimizes_the_nll():
    fitted = uncertainty.fit_stddev_scale(MEAN, STDDEV, Y)
    best = optimize.minimize_scalar(
        lambda scale: -stats.norm.logpdf(Y, MEAN, scale * STDDEV).mean(), (0.5, 4), tol=1e-10
    )
    np.testing.assert_allclose(fitted.scale, best.x, rtol=1e-4)
    np.testing.assert_allclose(fitted(STDDEV), best.x * STDDEV, rtol=1e-4)
    z = (Y - MEAN) / fitted(STDDEV)
    np.testing.assert_allclose(np.mean(z**2), 1, rtol=1e-5)


def test_a_scale_per_output_and_a_mask():
    mean, stddev, y = (array.reshape(-1, 2) for array in (MEAN, STDDEV, Y))
    where = RNG.uniform(size=(len(y), 1)) < 0.7
    where[0] = False
    bad = np.broadcast_to(~where, y.shape) & (np.arange(2) == 1)
    found = uncertainty.fit_stddev_scale(
        mean, np.where(bad, -1.0, stddev), np.where(bad, np.nan, y), where=where
    )
    kept = where[:, 0]
    expected = np.sqrt((((y - mean) / stddev)[kept] ** 2).mean(0))
    np.testing.assert_allclose(found.scale, expected, rtol=1e-5)
    assert found(stddev[:3]).shape == (3, 2)
    assert np.isnan(uncertainty.fit_stddev_scale(mean, stddev, y, where=np.zeros((1, 1), bool)).scale).all()


def test_scales_without_an_error_and_of_large_errors():
    assert uncertainty.fit_stddev_scale(MEAN, STDDEV, MEAN).scale == 0
    large = uncertainty.fit_stddev_scale(1e15 * MEAN, 1e-10 * STDDEV, 1e15 * Y).scale
    expected = np.sqrt(np.mean(((Y - MEAN) / STDDEV) ** 2))
    np.testing.assert_allclose(large, 1e25 * expected, rtol=1e-5)
    found = uncertainty.fit_stddev_scale(MEAN + 1e8, STDDEV, Y + 1e8).scale
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.isnan(jax.jit(uncertainty.fit_stddev_scale)(MEAN, 0 * STDDEV, Y).scale)


def test_recalibration_is_the_cdf_of_the_pit():
    pit = RNG.uniform(size=60)
    fitted = uncertainty.fit_recalibration(pit)
    expected = np.interp(GRID, np.r_[0, np.sort(pit), 1], np.arange(62) / 61)
    np.testing.assert_allclose(fitted(GRID), expected, atol=1e-6)
    np.testing.assert_allclose(fitted.inverse(fitted(GRID)), GRID, atol=1e-5)
    ties = uncertainty.fit_recalibration(np.r_[np.full(59, 0.5), 0.75].reshape(2, 30))
    expected = np.interp(GRID, [0, 0.5, 0.75, 1], [0, 30 / 61, 60 / 61, 1])
    np.testing.assert_allclose(ties(GRID), expected, atol=1e-6)


def test_recalibrated_quantiles_cover_new_targets():
    held, new = slice(0, COUNT // 2), slice(COUNT // 2, COUNT)
    fitted = uncertainty.fit_recalibration(uncertainty.pit_gaussian(MEAN[held], STDDEV[held], Y[held]))
    levels = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    before = stats.norm.ppf(levels)[:, None] * STDDEV[new] + MEAN[new]
    after = stats.norm.ppf(np.asarray(fitted.inverse(levels)))[:, None] * STDDEV[new] + MEAN[new]
    wrong, right = (uncertainty.quantile_reliability(q, Y[new], levels) for q in (before, after))
    # The variances of the fit and of the new share add.
    error = np.sqrt(levels * (1 - levels) * 2 / (COUNT // 2))
    assert (np.abs(right.share - levels) < 5 * error).all()
    assert wrong.error > 4 * right.error
    uniform = fitted(uncertainty.pit_gaussian(MEAN[new], STDDEV[new], Y[new]))
    np.testing.assert_array_less(np.abs(np.mean(uniform) - 0.5), 5 * np.sqrt(2 / 12 / (COUNT // 2)))


def test_a_mask_leaves_values_out():
    pit = RNG.uniform(size=60)
    where = RNG.uniform(size=60) < 0.6
    ends = np.r_[0, np.sort(pit[where]), 1], np.arange(where.sum() + 2) / (where.sum() + 1)
    found = jax.jit(uncertainty.fit_recalibration)(np.where(where, pit, np.nan), where=where)
    np.testing.assert_allclose(found(GRID), np.interp(GRID, *ends), atol=1e-6)
    np.testing.assert_allclose(found.inverse(GRID), np.interp(GRID, *ends[::-1]), atol=1e-6)
    assert np.isnan(uncertainty.fit_recalibration(pit, where=np.zeros(60, bool))(GRID)[1:-1]).all()
    assert np.isnan(jax.jit(uncertainty.fit_recalibration)(pit + 0.5).values).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.fit_recalibration([0.5, 1.5]),
            ValueError,
            "`pit` must lie in [0, 1], got 1.5.",
        ),
        (
            lambda: uncertainty.fit_recalibration([0.5]).inverse(-0.5),
            ValueError,
            "`level` must lie in [0, 1], got -0.5.",
        ),
        (lambda: uncertainty.fit_stddev_scale(MEAN, 0.0, Y), ValueError, "`stddev` must be above 0, got 0."),
        (
            lambda: uncertainty.fit_stddev_scale(0.0, 1.0, 1.0),
            ValueError,
            "`y` must be of shape [N, ...], got ().",
        ),
        (
            lambda: uncertainty.StddevScale(jnp.ones(2))(np.ones(3)),
            ValueError,
            "`scale` must broadcast to shape (3,), got (2,).",
        ),
        (
            lambda: uncertainty.StddevScale(jnp.ones(()))(-1.0),
            ValueError,
            "`stddev` must be finite and at least 0, got -1.",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
