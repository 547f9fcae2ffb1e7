"""Moments of functions of one number, against integrals in float64."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from jaxdrop.mc._moments import laws
from jaxdrop.mc._moments.forms import Curve, Ramp

MEANS = np.linspace(-4, 4, 33, dtype=np.float32)
POINTS = np.linspace(-9, 9, 20_001)
WEIGHTS = np.exp(-(POINTS**2) / 2) / np.exp(-(POINTS**2) / 2).sum()


def integrals(fun: Callable, deviation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean, the deviation and the slope."""
    values = fun(MEANS[:, None].astype(np.float64) + deviation * POINTS)
    mean = values @ WEIGHTS
    return mean, np.sqrt((values - mean[:, None]) ** 2 @ WEIGHTS), values @ (WEIGHTS * POINTS) / deviation


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    ("form", "fun", "tolerance"),
    [
        (Curve(jnp.tanh, False), np.tanh, 2e-4),
        (Curve(jax.nn.gelu, False), gelu, 2e-4),
        (Curve(jax.nn.elu, True), lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), 2e-4),
        (Ramp(np.float32(2), np.float32(0.5), np.float32(-1)), lambda x: 2 * np.maximum(x, 0.5) - 1, 2e-5),
    ],
    ids=["tanh", "gelu", "elu", "ramp"],
)
@pytest.mark.parametrize("deviation", [0.1, 1.0])
def test_moments_are_integrals(form, fun: Callable, tolerance: float, deviation: float):
    found = laws.moments(form, MEANS, np.full_like(MEANS, deviation**2), "normal")
    mean, spread, slope = integrals(fun, deviation)
    np.testing.assert_allclose(found.mean, mean, atol=tolerance * spread.max())
    # A variance is a difference: its digits end at those of the squared mean.
    variance, rounding = found.square - found.mean**2, 1e-6 * (mean**2).max()
    np.testing.assert_allclose(variance, spread**2, atol=2 * tolerance * spread.max() ** 2 + rounding)
    np.testing.assert_allclose(found.slope, slope, atol=tolerance * np.abs(slope).max() + 1e-5)


def test_uniform_numbers():
    found = laws.moments(Curve(jnp.square, False), jnp.full(3, 0.5), jnp.full(3, 1 / 12), "uniform")
    np.testing.assert_allclose(found.mean, 1 / 3, rtol=1e-3)
    np.testing.assert_allclose(found.square, 1 / 5, rtol=1e-3)
    np.testing.assert_allclose(found.slope, 1, rtol=1e-3)


def test_without_variance_and_outside_of_the_domain():
    found = laws.moments(Curve(jnp.log, False), jnp.array([2.0, 0.1]), jnp.array([0.0, 1.0]), "normal")
    np.testing.assert_allclose(found.mean, np.log([2, 0.1]), rtol=1e-6)
    np.testing.assert_allclose(found.slope, [0.5, 10], rtol=1e-6)


def test_normal_functions():
    x = np.linspace(-7, 7, 1001, dtype=np.float32)
    np.testing.assert_allclose(laws.normal_cdf(x), norm.cdf(x), atol=2e-7)
    np.testing.assert_allclose(laws.normal_density(x), norm.pdf(x), atol=1e-7)
