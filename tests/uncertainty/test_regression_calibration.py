"""PIT, reliability of quantiles, and ENCE against SciPy, uncertainty-toolbox, and loops in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import uncertainty_toolbox
from scipy import stats

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
COUNT = 400
MEAN, Y = RNG.normal(size=(2, COUNT))
STDDEV = RNG.uniform(0.2, 2, size=COUNT)
# At most how far a chi-square statistic of nine degrees of freedom is off in five standard errors.
FAR = stats.chi2(9).isf(2 * stats.norm.sf(5))


def loop_ence(mean: np.ndarray, stddev: np.ndarray, y: np.ndarray, bins: int) -> float:
    order = np.argsort(stddev)
    parts = np.array_split(order, bins)
    variance = [np.mean(stddev[part] ** 2) for part in parts]
    square = [np.mean((y - mean)[part] ** 2) for part in parts]
    return np.mean(np.abs(np.sqrt(variance) - np.sqrt(square)) / np.sqrt(variance))


def test_pit_of_samples_is_the_rank():
    samples = RNG.normal(size=(9, COUNT))
    found = jax.jit(lambda *args: uncertainty.pit(*args, key=KEY))(samples, Y)
    assert (np.floor(10 * found) == (samples < Y).sum(0)).all()
    ties = uncertainty.pit(np.tile(np.array([1, 2, 2])[:, None], COUNT), np.full(COUNT, 2))
    np.testing.assert_allclose(ties, (1 + 3 / 2) / 4, rtol=1e-6)


def test_pit_with_a_key_is_uniform_for_counts():
    """With most targets equal to a sample; a PIT of the shares up to the target would have steps."""
    draws = RNG.poisson(2.0, size=(5, 5000))
    found = uncertainty.pit(draws[:4], draws[4], key=KEY)
    counts = np.histogram(found, np.linspace(0, 1, 11))[0]
    assert ((counts - 500) ** 2 / 500).sum() < FAR


def test_pit_compares_float64_before_a_cast():
    samples, y = 1e8 + np.sort(RNG.normal(size=(3, COUNT)), axis=0), 1e8 + Y
    expected = ((samples < y).sum(0) + 0.5) / 4
    np.testing.assert_allclose(uncertainty.pit(samples, y), expected, rtol=1e-6)
    share = uncertainty.quantile_reliability(samples, y, np.array([0.1, 0.5, 0.9])).share
    np.testing.assert_allclose(share, (y <= samples).mean(-1), rtol=1e-6)


def test_pit_gaussian():
    expected = stats.norm.cdf(Y, MEAN, STDDEV)
    np.testing.assert_allclose(uncertainty.pit_gaussian(MEAN, STDDEV, Y), expected, rtol=1e-4)
    np.testing.assert_allclose(uncertainty.pit_gaussian(1e8 + MEAN, STDDEV, 1e8 + Y), expected, rtol=1e-4)


def test_quantile_reliability_is_that_of_uncertainty_toolbox():
    levels = np.linspace(0, 1, 100)[1:-1]
    quantiles = stats.norm.ppf(levels[:, None], MEAN, STDDEV)
    found = jax.jit(uncertainty.quantile_reliability)(quantiles, Y, levels)
    _, expected = uncertainty_toolbox.get_proportion_lists_vectorized(
        MEAN, STDDEV, Y, num_bins=100, prop_type="quantile"
    )
    # Its errors have the other sign.
    np.testing.assert_allclose(found.share, 1 - expected[-2:0:-1], rtol=1e-5)
    np.testing.assert_allclose(found.error, np.abs(found.share - levels).mean(), rtol=1e-5)
    assert found.total == COUNT


def test_ence_is_the_loop():
    for size in (1, 1e-25, 1e25):
        found = uncertainty.ence(size * MEAN, size * STDDEV, size * Y, bins=8)
        np.testing.assert_allclose(found, loop_ence(MEAN, STDDEV, Y, 8), rtol=1e-5)
    # Equal deviations share a bin.
    expected = abs(1 - np.sqrt(np.mean((Y - MEAN) ** 2)) / 2)
    np.testing.assert_allclose(uncertainty.ence(MEAN, 2.0, Y, bins=8), expected, rtol=1e-5)


def test_ence_of_right_deviations_is_its_noise():
    """As the docstring says; its standard error over the bins is 0.43 * sqrt(bins / N) / sqrt(bins)."""
    y = MEAN + STDDEV * RNG.normal(size=COUNT)
    noise = np.sqrt(8 / COUNT)
    found = uncertainty.ence(MEAN, STDDEV, y, bins=8)
    assert abs(found - 0.56 * noise) < 5 * 0.43 * noise / np.sqrt(8)


def test_gradients():
    grads = jax.grad(lambda *args: uncertainty.ence(*args, bins=8), (0, 1))(MEAN, STDDEV, Y)
    tangent = RNG.normal(size=COUNT) * 1e-6
    ends = (loop_ence(MEAN + sign * tangent, STDDEV, Y, 8) for sign in (1, -1))
    np.testing.assert_allclose((grads[0] * tangent).sum(), np.subtract(*ends) / 2, rtol=1e-3)
    assert all(np.isfinite(grad).all() for grad in grads)


@pytest.mark.slow
def test_a_mask_leaves_targets_out():
    where = RNG.permutation(COUNT) < 280
    mean, stddev, y = (np.where(where, array, np.nan) for array in (MEAN, STDDEV, Y))
    samples, levels = np.stack([mean - stddev, mean, mean + stddev]), np.array([0.2, 0.5, 0.8])
    expected = np.where(where, stats.norm.cdf(Y, MEAN, STDDEV), np.nan)
    np.testing.assert_allclose(uncertainty.pit_gaussian(mean, stddev, y, where=where), expected, rtol=1e-4)
    expected = np.where(where, ((samples < y).sum(0) + 0.5) / 4, np.nan)
    np.testing.assert_allclose(uncertainty.pit(samples, y, where=where), expected, rtol=1e-6)
    found = uncertainty.quantile_reliability(samples, y, levels, where=where)
    np.testing.assert_allclose(found.share, (y <= samples)[:, where].mean(-1), rtol=1e-6)
    assert found.total == where.sum()
    found = uncertainty.ence(mean, stddev, y, where=where, bins=8)
    np.testing.assert_allclose(found, loop_ence(MEAN[where], STDDEV[where], Y[where], 8), rtol=1e-5)


def test_traced_nans_and_no_target_give_nan():
    nothing = np.zeros(COUNT, bool)
    assert np.isnan(jax.jit(uncertainty.ence, static_argnames="bins")(MEAN, -STDDEV, Y, bins=8))
    assert np.isnan(uncertainty.ence(MEAN, STDDEV, Y, where=nothing, bins=8))
    assert np.isnan(uncertainty.quantile_reliability(Y[None], Y, [0.5], where=nothing).share).all()
    bad = jnp.array([0.0, jnp.nan])
    found = jax.jit(uncertainty.quantile_reliability)(bad[None], jnp.zeros(2), jnp.array([0.5]))
    assert np.isnan(found.share).all()
    np.testing.assert_array_equal(jax.jit(uncertainty.pit)(jnp.ones((3, 2)), bad), [0.125, np.nan])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.pit(np.ones((3, 2)), np.ones(3)),
            ValueError,
            "`y` must have the shape of `samples` without its first axis, (2,), got (3,).",
        ),
        (lambda: uncertainty.pit(np.ones((3, 2)), np.ones(2), key=1), TypeError, "key"),
        (lambda: uncertainty.pit_gaussian(MEAN, -1.0, Y), ValueError, "`stddev` must be finite and at least"),
        (
            lambda: uncertainty.quantile_reliability(Y[None], Y, 0.5),
            ValueError,
            "`level` must have one axis, of the length of `quantiles`, (1,), got ().",
        ),
        (lambda: uncertainty.ence(MEAN, 0.0, Y), ValueError, "`stddev` must be above 0, got 0."),
        (lambda: uncertainty.ence(MEAN, 1.0, Y, bins=0), ValueError, "`bins` must be at least 1, got 0."),
        (lambda: uncertainty.ence(MEAN, 1.0, Y * np.inf), ValueError, "`y - mean` must be finite, got"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
