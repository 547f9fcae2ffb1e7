"""Scores against scipy, scikit-learn, uncertainty-toolbox, and double sums in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import uncertainty_toolbox
from scipy import special, stats
from sklearn.metrics import mean_pinball_loss

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
MEAN, Y = RNG.normal(size=(2, 40)).astype(np.float32)
STDDEV = RNG.uniform(0.2, 2, size=40).astype(np.float32)


def brute_crps(samples: np.ndarray, y: np.ndarray, fair: bool = False) -> np.ndarray:
    samples, y = np.asarray(samples, np.float64), np.asarray(y, np.float64)
    pairs = np.abs(samples[:, None] - samples).sum((0, 1)) / (len(samples) * (len(samples) - fair))
    return np.abs(samples - y).mean(0) - pairs / 2


def test_gaussian_nll():
    result = uncertainty.gaussian_nll(MEAN, STDDEV**2, Y)
    np.testing.assert_allclose(result, -stats.norm.logpdf(Y, MEAN, STDDEV), rtol=1e-4, atol=1e-5)
    expected = uncertainty_toolbox.nll_gaussian(MEAN, STDDEV, Y)
    np.testing.assert_allclose(
        jax.jit(uncertainty.gaussian_nll)(MEAN, STDDEV**2, Y).mean(), expected, rtol=1e-5
    )
    assert np.isnan(
        jax.jit(uncertainty.gaussian_nll)(jnp.zeros(3), jnp.array([0.0, 0.0, -1.0]), jnp.arange(3.0))
    ).all()


def test_crps_is_the_double_sum():
    samples = RNG.normal(size=(25, 8, 5))
    y = Y.reshape(8, 5)
    np.testing.assert_allclose(uncertainty.crps(samples, y), brute_crps(samples, y), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        jax.jit(uncertainty.crps)(samples, y), brute_crps(samples, y), rtol=1e-5, atol=1e-6
    )


def test_fair_crps_leaves_out_pairs_of_a_sample_with_itself():
    """Its mean over samples is the score of their distribution, also for few of them."""
    samples = RNG.normal(size=(3, 8, 5))
    y = Y.reshape(8, 5)
    found = uncertainty.crps(samples, y, fair=True)
    np.testing.assert_allclose(found, brute_crps(samples, y, fair=True), rtol=1e-5, atol=1e-6)
    scores = uncertainty.crps(RNG.normal(size=(3, 10_000)), np.full(10_000, 0.5), fair=True)
    expected = uncertainty.crps_gaussian(0.0, 1.0, 0.5)
    assert abs(scores.mean() - expected) < 5 * scores.std() / 100
    # The limit of a sample that goes to infinity, with a weight of 0.
    np.testing.assert_allclose(uncertainty.crps([0.0, 1.0, np.inf], 0.0, fair=True), 1 / 3, rtol=1e-6)


def test_large_offsets_are_subtracted_before_a_cast():
    """Float32 would leave none of the digits."""
    mean, y, samples = 1e8 + np.float64(MEAN), 1e8 + np.float64(Y), RNG.normal(size=(25, 40))
    np.testing.assert_allclose(uncertainty.crps(1e8 + samples, y), brute_crps(samples, Y), rtol=1e-4)
    found = uncertainty.crps_gaussian(mean, STDDEV, y)
    np.testing.assert_allclose(found, uncertainty.crps_gaussian(MEAN, STDDEV, Y), rtol=1e-4, atol=1e-6)
    found = uncertainty.gaussian_nll(mean, STDDEV**2, y)
    np.testing.assert_allclose(found, uncertainty.gaussian_nll(MEAN, STDDEV**2, Y), rtol=1e-4, atol=1e-5)
    found = uncertainty.pinball(mean, y, 0.7)
    np.testing.assert_allclose(found, uncertainty.pinball(MEAN, Y, 0.7), rtol=1e-4, atol=1e-6)
    found = uncertainty.coverage(mean - 0.5, mean + 0.5, y)
    np.testing.assert_allclose(found, uncertainty.coverage(MEAN - 0.5, MEAN + 0.5, Y), rtol=1e-6)


def test_crps_is_half_the_squared_energy_distance():
    samples = RNG.normal(size=30).round(1)
    expected = stats.energy_distance(samples, [0.3]) ** 2 / 2
    np.testing.assert_allclose(uncertainty.crps(samples, 0.3), expected, rtol=1e-5)


def test_crps_with_ties_and_of_one_sample():
    samples = np.array([1.0, 1.0, 2.0, 2.0, 2.0])[:, None]
    for y in (0.0, 1.0, 1.5, 2.0, 3.0):
        expected = brute_crps(samples, np.array([y]))
        np.testing.assert_allclose(uncertainty.crps(samples, [y]), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(uncertainty.crps(Y[None], MEAN), np.abs(Y - MEAN), rtol=1e-6)
    assert (uncertainty.crps(jnp.stack([Y, Y]), Y) == 0).all()


def test_crps_far_from_zero_keeps_its_digits():
    """The difference of two means of a million's samples would leave none."""
    samples = (1e4 + RNG.normal(size=(500, 4))).astype(np.float32)
    y = np.full(4, 1e4, np.float32)
    np.testing.assert_allclose(uncertainty.crps(samples, y), brute_crps(samples, y), rtol=1e-4)


def test_crps_of_many_samples_tends_to_that_of_the_gaussian():
    """The bias is the mean distance of two samples over 2 T, sigma / sqrt(pi) / T; the standard
    error that of the mean of |x - y| - E|x - x'|, below sigma / sqrt(T).
    """
    count = 20_000
    samples = MEAN + STDDEV * RNG.normal(size=(count, 40)).astype(np.float32)
    closed = uncertainty.crps_gaussian(MEAN, STDDEV, Y)
    np.testing.assert_array_less(np.abs(uncertainty.crps(samples, Y) - closed), 5 * STDDEV / np.sqrt(count))


def test_gradient_of_crps():
    samples, y = jnp.array([0.0, 1.0, 3.0]), jnp.array(0.5)
    grad = jax.grad(uncertainty.crps)(samples, y)
    np.testing.assert_allclose(grad, [-1 / 9, 3 / 9, 1 / 9], rtol=1e-5)
    assert np.isfinite(jax.grad(uncertainty.crps)(jnp.ones(3), jnp.array(1.0))).all()


def test_crps_gaussian():
    result = uncertainty.crps_gaussian(MEAN, STDDEV, Y)
    expected = uncertainty_toolbox.crps_gaussian(MEAN, STDDEV, Y)
    np.testing.assert_allclose(result.mean(), expected, rtol=1e-5)
    alone = [uncertainty_toolbox.crps_gaussian(*(a[i : i + 1] for a in (MEAN, STDDEV, Y))) for i in range(3)]
    np.testing.assert_allclose(result[:3], alone, rtol=1e-4)


def test_crps_gaussian_without_a_spread_is_the_absolute_error():
    result = uncertainty.crps_gaussian(MEAN, jnp.array(0.0), Y)
    np.testing.assert_allclose(result, np.abs(MEAN - Y), rtol=1e-6)
    near = uncertainty.crps_gaussian(MEAN, jnp.array(1e-6), Y)
    np.testing.assert_allclose(near, np.abs(MEAN - Y), atol=1e-6)
    grads = jax.grad(lambda *a: uncertainty.crps_gaussian(*a).sum(), (0, 1, 2))(MEAN, jnp.zeros(40), Y)
    assert all(np.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("stddev", [0.0, 1e-19, 1e-8, 1e-4, 0.3, 2.0])
def test_gradient_of_crps_gaussian(stddev: float):
    """The closed form, down to deviations of which nothing is left but the sign of the error."""
    found = jax.grad(uncertainty.crps_gaussian, argnums=(0, 1, 2))(0.0, stddev, 1.0)
    z = 1 / stddev if stddev else np.inf
    side = special.erf(z / 2**0.5)
    in_stddev = 2 * stats.norm.pdf(z) - np.pi**-0.5
    np.testing.assert_allclose(found, [-side, in_stddev, side], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
def test_pinball(level):
    expected = mean_pinball_loss(Y, MEAN, alpha=level)
    np.testing.assert_allclose(uncertainty.pinball(MEAN, Y, level).mean(), expected, rtol=1e-5)


def test_pinball_of_several_levels():
    levels, quantiles = jnp.array([0.1, 0.5, 0.9]), RNG.normal(size=(3, 8, 5))
    y = Y.reshape(8, 5)
    result = jax.jit(uncertainty.pinball)(quantiles, y, levels)
    expected = [uncertainty.pinball(q, y, level) for q, level in zip(quantiles, levels, strict=True)]
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)


def test_the_mean_pinball_over_many_levels_is_half_the_crps():
    samples = np.sort(RNG.normal(size=50))
    levels = (np.arange(50) + 0.5) / 50
    losses = uncertainty.pinball(samples, 0.3, levels)
    np.testing.assert_allclose(2 * losses.mean(), uncertainty.crps(samples, 0.3), rtol=1e-5)


def test_coverage_and_sharpness():
    expected = uncertainty_toolbox.get_proportion_in_interval(MEAN, STDDEV, Y, 0.8)
    half = stats.norm.ppf(0.9) * STDDEV
    np.testing.assert_allclose(uncertainty.coverage(MEAN - half, MEAN + half, Y), expected, rtol=1e-6)
    assert uncertainty.coverage(jnp.full(2, -jnp.inf), jnp.full(2, jnp.inf), jnp.zeros(2)) == 1
    assert uncertainty.coverage(jnp.ones(2), jnp.zeros(2), jnp.full(2, 0.5)) == 0
    np.testing.assert_allclose(
        uncertainty.sharpness(STDDEV), uncertainty_toolbox.sharpness(STDDEV), rtol=1e-6
    )
    np.testing.assert_allclose(
        jax.jit(uncertainty.sharpness)(STDDEV), uncertainty.sharpness(STDDEV), rtol=1e-6
    )
    assert uncertainty.sharpness(jnp.zeros(3)) == 0
    far = np.float32([1e-25, 1e25])
    np.testing.assert_allclose(
        [uncertainty.sharpness(far[:1]), uncertainty.sharpness(far[1:])], far, rtol=1e-6
    )
    np.testing.assert_array_equal(jax.grad(uncertainty.sharpness)(jnp.zeros(3)), np.zeros(3))


@pytest.mark.slow
def test_half_precision_and_integers_are_widened():
    half = jnp.ones((3, 2), jnp.bfloat16)
    results = [
        uncertainty.crps(half, jnp.array([1, 2])),
        uncertainty.gaussian_nll(half, half, half),
        uncertainty.crps_gaussian(half, half, half),
        uncertainty.pinball(half, half, 0.5),
        uncertainty.coverage(half, half, half),
        uncertainty.sharpness(half),
    ]
    assert all(result.dtype == jnp.float32 for result in results)


@pytest.mark.slow
def test_a_mask_leaves_targets_out():
    where = RNG.uniform(size=40) < 0.6
    y, samples = np.where(where, Y, np.nan), MEAN + RNG.normal(size=(6, 40))
    calls = {
        "nll": lambda y, **options: uncertainty.gaussian_nll(MEAN, STDDEV**2, y, **options),
        "crps": lambda y, **options: uncertainty.crps(samples, y, **options),
        "crps_gaussian": lambda y, **options: uncertainty.crps_gaussian(MEAN, STDDEV, y, **options),
        "pinball": lambda y, **options: uncertainty.pinball(samples[:2], y, np.array([0.2, 0.7]), **options),
    }
    for call in calls.values():
        found, expected = call(y, where=where), call(Y)
        np.testing.assert_allclose(found[..., where], expected[..., where], rtol=1e-6)
        assert np.isnan(found[..., ~where]).all()
    inside = uncertainty.coverage(MEAN[where] - 1, MEAN[where] + 1, Y[where])
    np.testing.assert_allclose(uncertainty.coverage(MEAN - 1, MEAN + 1, y, where=where), inside, rtol=1e-6)
    spread = np.where(where, STDDEV, np.nan)
    np.testing.assert_allclose(
        uncertainty.sharpness(spread, where=where), uncertainty.sharpness(STDDEV[where]), rtol=1e-6
    )
    assert np.isnan(jax.jit(uncertainty.coverage)(MEAN - 1, MEAN + 1, y))


def test_gaussian_nll_of_large_and_small_variances():
    variance, off = np.array([1e38, 2e-38, 1e38]), np.array([1e19, 1e-19, 3e19])
    expected = -stats.norm.logpdf(off, scale=np.sqrt(variance))
    np.testing.assert_allclose(uncertainty.gaussian_nll(np.zeros(3), variance, off), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"`variance` must be at least 1\.17549e-38, the smallest normal"):
        uncertainty.gaussian_nll(np.zeros(1), np.array([1e-39]), np.zeros(1))
    assert np.isnan(jax.jit(uncertainty.gaussian_nll)(0.0, 1e-39, 0.0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: uncertainty.gaussian_nll(MEAN, 0.0, Y), ValueError, "`variance` must be above 0, got 0."),
        (
            lambda: uncertainty.gaussian_nll(MEAN, 1.0, Y[:3]),
            ValueError,
            "`mean` must have the shape of `y`, (3,), got (40,).",
        ),
        (
            lambda: uncertainty.gaussian_nll(MEAN, STDDEV[:3], Y),
            ValueError,
            "`variance` must broadcast to shape (40,), got (3,).",
        ),
        (
            lambda: uncertainty.gaussian_nll([np.nan], 1.0, [0.0]),
            ValueError,
            "`mean` must not hold a NaN, got one.",
        ),
        (
            lambda: uncertainty.crps(jnp.ones((3, 2)), jnp.ones(3)),
            ValueError,
            "`y` must have the shape of `samples` without its first axis, (2,), got (3,).",
        ),
        (lambda: uncertainty.crps(jnp.ones((0, 2)), jnp.ones(2)), ValueError, "`samples` must not be empty"),
        (lambda: uncertainty.crps(1.0, 1.0), ValueError, "`samples` must be of shape [T, ...], got ()."),
        (
            lambda: uncertainty.crps([1.0], 1.0, fair=True),
            ValueError,
            "`samples` must hold at least 2 samples for `fair=True`, got 1.",
        ),
        (lambda: uncertainty.crps([1.0], 1.0, fair=1), TypeError, "`fair` must be a bool, got 1."),
        (lambda: uncertainty.crps("a", 1.0), TypeError, "`samples` must be a real number"),
        (
            lambda: uncertainty.crps_gaussian(MEAN, -1.0, Y),
            ValueError,
            "`stddev` must be finite and at least 0, got -1.",
        ),
        (lambda: uncertainty.pinball(MEAN, Y, 1.0), ValueError, "`level` must lie in (0, 1), got 1."),
        (
            lambda: uncertainty.pinball(MEAN, Y, jnp.array([0.1])),
            ValueError,
            "`quantiles` must have the shape of",
        ),
        (lambda: uncertainty.coverage(MEAN, MEAN[:2], Y), ValueError, "`upper` must have the shape of `y`"),
        (lambda: uncertainty.sharpness(jnp.zeros(0)), ValueError, "`stddev` must not be empty"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
