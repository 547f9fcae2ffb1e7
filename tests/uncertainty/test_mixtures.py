"""Mixtures of normal distributions against closed forms, roots and integrals in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
MEANS = RNG.normal(size=(7, 5))
STDDEVS = RNG.uniform(0.2, 2, size=(7, 5))
Y = RNG.normal(size=5)


def mean_absolute(off: np.ndarray, stddev: np.ndarray) -> np.ndarray:
    z = off / stddev
    return off * (2 * stats.norm.cdf(z) - 1) + 2 * stddev * stats.norm.pdf(z)


def closed_crps(means: np.ndarray, stddevs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """As Grimit et al. write it, with all pairs."""
    pairs = mean_absolute(means[:, None] - means, np.hypot(stddevs[:, None], stddevs))
    return mean_absolute(y - means, stddevs).mean(0) - pairs.mean((0, 1)) / 2


def root(means: np.ndarray, stddevs: np.ndarray, level: float) -> float:
    """The quantile, of the smaller tail's logarithm."""
    sign, tail = (1, level) if level <= 0.5 else (-1, 1 - level)

    def off(q: float) -> float:
        logs = special.log_ndtr((q - sign * means) / stddevs)
        return special.logsumexp(logs) - np.log(len(means)) - np.log(tail)

    return sign * optimize.brentq(off, -200, 200, xtol=1e-14)


def test_crps_of_a_mixture_is_the_closed_form():
    call = jax.jit(uncertainty.crps_gaussian_mixture)
    for count in (7, 4):  # half-way around an even number each pair is met twice
        means, stddevs = MEANS[:count], STDDEVS[:count]
        np.testing.assert_allclose(call(means, stddevs, Y), closed_crps(means, stddevs, Y), rtol=1e-5)


def test_crps_of_a_mixture_is_the_integral():
    def square(x: float) -> float:
        return (stats.norm.cdf(x, MEANS[:, 0], STDDEVS[:, 0]).mean() - (x >= Y[0])) ** 2

    parts = [integrate.quad(square, *ends)[0] for ends in ((-20, Y[0]), (Y[0], 20))]
    found = uncertainty.crps_gaussian_mixture(MEANS[:, 0], STDDEVS[:, 0], Y[0])
    np.testing.assert_allclose(found, sum(parts), rtol=1e-5)


@pytest.mark.slow
def test_crps_of_one_component_and_without_a_spread():
    one = uncertainty.crps_gaussian_mixture(MEANS[:1], STDDEVS[:1], Y)
    np.testing.assert_allclose(one, uncertainty.crps_gaussian(MEANS[0], STDDEVS[0], Y), rtol=1e-5)
    call = jax.jit(jax.value_and_grad(lambda *a: uncertainty.crps_gaussian_mixture(*a).sum(), (0, 1, 2)))
    value, grads = call(MEANS, np.zeros((7, 1)), Y)
    np.testing.assert_allclose(value, uncertainty.crps(MEANS, Y).sum(), rtol=1e-5)
    expected = jax.grad(lambda y: uncertainty.crps(MEANS, y).sum())(jnp.asarray(Y))
    np.testing.assert_allclose(grads[2], expected, rtol=1e-4, atol=1e-6)
    assert all(np.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_squares_neither_overflow_nor_underflow(size: float):
    found = uncertainty.crps_gaussian_mixture(size * MEANS, size * STDDEVS, size * Y)
    np.testing.assert_allclose(found, size * closed_crps(MEANS, STDDEVS, Y), rtol=1e-5)


def test_large_offsets_are_subtracted_first_and_a_mask_leaves_targets_out():
    where = np.array([True, False, True, True, True])
    means, y = np.where(where, MEANS + 1e8, np.nan), np.where(where, Y + 1e8, np.inf)
    stddevs = np.where(where, STDDEVS, -1)
    found = uncertainty.crps_gaussian_mixture(means, stddevs, y, where=where)
    np.testing.assert_allclose(found[where], closed_crps(MEANS, STDDEVS, Y)[where], rtol=1e-5)
    share = uncertainty.pit_gaussian_mixture(means, stddevs, y, where=where)
    np.testing.assert_allclose(share[where], stats.norm.cdf(Y, MEANS, STDDEVS).mean(0)[where], rtol=1e-5)
    quantile = uncertainty.gaussian_mixture_quantile(means - 1e8, stddevs, 0.3, where=where)
    expected = [root(*each, 0.3) for each in zip(MEANS.T, STDDEVS.T, strict=True)]
    np.testing.assert_allclose(quantile[where], np.array(expected)[where], rtol=1e-5)
    assert all(np.isnan(array[1]) for array in (found, share, quantile))


def test_quantiles_are_roots_to_rounding_in_both_tails():
    levels = np.array([1e-300, 1e-30, 1e-5, 0.01, 0.3, 0.5, 0.7, 0.99, 1 - 1e-9])
    columns = list(zip(MEANS.T, STDDEVS.T, strict=True))
    expected = np.array([[root(*each, level) for each in columns] for level in levels])
    found = uncertainty.gaussian_mixture_quantile(MEANS, STDDEVS, levels)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    with jax.enable_x64(True):
        found = np.asarray(uncertainty.gaussian_mixture_quantile(MEANS, STDDEVS, levels))
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


def test_quantiles_of_components_that_are_far_apart():
    """Where the bracket is wide, and where another component's mass begins 1e10 further on."""
    means, stddevs = np.array([0.0, 1e10, 1e30]), np.array([1.0, 1e-3, 1e3])
    found = uncertainty.gaussian_mixture_quantile(means, stddevs, np.array([1e-3, 0.25, 0.5]))
    expected = [stats.norm.ppf(3e-3), stats.norm.ppf(0.75), 1e10]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_gradients_of_a_quantile_are_those_of_the_implicit_function():
    args = (MEANS[:, 0], STDDEVS[:, 0], 0.9)
    call = jax.jit(jax.value_and_grad(uncertainty.gaussian_mixture_quantile, (0, 1, 2)))
    q, grads = call(*args)
    z = (q - args[0]) / args[1]
    density = stats.norm.pdf(z) / args[1]
    expected = density / density.sum(), density * z / density.sum(), 1 / density.mean()
    for grad, exact in zip(grads, expected, strict=True):
        np.testing.assert_allclose(grad, exact, rtol=1e-4, atol=1e-6)
    assert np.isnan(call(args[0], 0 * args[1], 0.9)[0])


def test_pit_of_a_mixture_is_uniform():
    """A chi-square test of its values in ten bins, at the level of five standard errors."""
    component = RNG.integers(0, 7, 2000)
    y = MEANS[component, 0] + STDDEVS[component, 0] * RNG.normal(size=2000)
    means, stddevs = (np.broadcast_to(array[:, :1], (7, 2000)) for array in (MEANS, STDDEVS))
    counts = np.histogram(uncertainty.pit_gaussian_mixture(means, stddevs, y), np.linspace(0, 1, 11))[0]
    assert ((counts - 200) ** 2 / 200).sum() < stats.chi2(9).isf(2 * stats.norm.sf(5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.crps_gaussian_mixture(MEANS, STDDEVS, Y[:2]),
            ValueError,
            "`y` must have the shape of `means` without its first axis, (5,), got (2,).",
        ),
        (
            lambda: uncertainty.crps_gaussian_mixture(MEANS, -STDDEVS, Y),
            ValueError,
            "`stddevs` must be finite and at least 0, got -",
        ),
        (
            lambda: uncertainty.crps_gaussian_mixture(MEANS, np.inf, Y),
            ValueError,
            "`stddevs` must be finite, got inf.",
        ),
        (
            lambda: uncertainty.pit_gaussian_mixture(MEANS, STDDEVS[:3], Y),
            ValueError,
            "`stddevs` must broadcast to shape (7, 5), got (3, 5).",
        ),
        (
            lambda: uncertainty.crps_gaussian_mixture(MEANS * np.inf, 1.0, Y),
            ValueError,
            "`means - y` must be finite, got",
        ),
        (
            lambda: uncertainty.gaussian_mixture_quantile(MEANS, 0.0, 0.5),
            ValueError,
            "`stddevs` must be above 0, got 0.",
        ),
        (
            lambda: uncertainty.gaussian_mixture_quantile(MEANS, 1.0, [0.5, 1.0]),
            ValueError,
            "`level` must lie in (0, 1), got 1.",
        ),
        (
            lambda: uncertainty.gaussian_mixture_quantile(MEANS, 1.0, np.full((1, 1), 0.5)),
            ValueError,
            "`level` must be a scalar or have one axis, got shape (1, 1).",
        ),
        (lambda: uncertainty.gaussian_mixture_quantile("a", 1.0, 0.5), TypeError, "`means` must be a real"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_a_quantile_of_deviations_below_its_rounding():
    """The density at the nearest floats is 0 in float32."""
    quantile = uncertainty.gaussian_mixture_quantile
    found = quantile(jnp.array([1000.0, 3000.0]), jnp.array(1e-6), jnp.array([0.1, 0.45, 0.9]))
    np.testing.assert_allclose(found, [1000, 1000, 3000], rtol=2e-7)
    grad = jax.grad(quantile)(jnp.array([1000.0, 3000.0]), jnp.array(1e-6), 0.45)
    assert np.isfinite(grad).all()
