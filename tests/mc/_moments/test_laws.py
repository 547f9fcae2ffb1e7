"""Moments of functions of one number, in closed form and by sums."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxdrop.mc._moments import laws
from jaxdrop.mc._moments.forms import Affine, Constant, Curve, Ramp

MEAN, VARIANCE = np.array([-1.0, 0.3, 2.0], np.float32), np.array([0.5, 2.0, 0.1], np.float32)
MEANS = np.linspace(-4, 4, 33, dtype=np.float32)
POINTS = np.linspace(-9, 9, 20_001)
WEIGHTS = np.exp(-(POINTS**2) / 2) / np.exp(-(POINTS**2) / 2).sum()


def expected(fun, mean: float, deviation: float) -> tuple[float, float, float]:
    def of(weigh):
        def integrand(z):
            return weigh(z) * stats.norm.pdf(z)

        return integrate.quad(integrand, -9, 9, limit=200)[0]

    def at(z):
        return fun(mean + deviation * z)

    return of(at), of(lambda z: at(z) ** 2), of(lambda z: z * at(z)) / deviation


@pytest.mark.parametrize(
    ("form", "fun", "tolerance"),
    [
        (Affine(2.0, -1.0), lambda u: 2 * u - 1, 1e-5),
        (Ramp(2.0, 0.25, 1.0), lambda u: 2 * max(u, 0.25) + 1, 1e-5),
        (
            Curve(jax.nn.gelu, False),
            lambda u: float(0.5 * u * (1 + np.tanh(0.7978846 * (u + 0.044715 * u**3)))),
            1e-3,
        ),
        (Curve(lambda u: jnp.clip(u, -0.5, 0.5), True), lambda u: float(np.clip(u, -0.5, 0.5)), 2e-3),
    ],
)
def test_moments_of_normal_numbers(form, fun, tolerance: float):
    found = laws.moments(form, jnp.asarray(MEAN), jnp.asarray(VARIANCE), "other")
    for place in range(3):
        exact = expected(fun, MEAN[place], VARIANCE[place] ** 0.5)
        np.testing.assert_allclose([one[place] for one in found], exact, rtol=tolerance, atol=tolerance)


def test_known_numbers_and_points_outside_of_the_domain():
    found = laws.moments(Curve(jnp.sqrt, False), jnp.array([4.0, 0.1]), jnp.array([0.0, 9.0]), "other")
    np.testing.assert_allclose(found.mean, [2, 0.1**0.5], rtol=1e-6)
    np.testing.assert_allclose(found.slope, [0.25, 0.5 / 0.1**0.5], rtol=1e-5)
    constant = laws.moments(Constant(np.float32(3)), jnp.zeros(2), jnp.ones(2), "other")
    assert (float(constant.mean), float(constant.square), float(constant.slope)) == (3, 9, 0)


def test_uniform_numbers():
    found = laws.moments(Curve(lambda u: u**2, False), jnp.array([0.5]), jnp.array([1 / 12]), "uniform")
    np.testing.assert_allclose(found.mean, 1 / 3, rtol=1e-3)
    np.testing.assert_allclose(found.square, 1 / 5, rtol=1e-3)
    np.testing.assert_allclose(found.slope, 1, rtol=1e-3)


def integrals(fun: Callable, deviation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean, the deviation and the slope."""
    values = fun(MEANS[:, None].astype(np.float64) + deviation * POINTS)
    mean = values @ WEIGHTS
    return mean, np.sqrt((values - mean[:, None]) ** 2 @ WEIGHTS), values @ (WEIGHTS * POINTS) / deviation


@pytest.mark.parametrize(
    ("form", "fun", "tolerance"),
    [
        (Curve(jnp.tanh, False), np.tanh, 2e-4),
        (Curve(jax.nn.elu, True), lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), 2e-4),
    ],
    ids=["tanh", "elu"],
)
@pytest.mark.parametrize("deviation", [0.1, 1.0])
def test_sums_are_integrals(form, fun: Callable, tolerance: float, deviation: float):
    found = laws.moments(form, MEANS, np.full_like(MEANS, deviation**2), "normal")
    mean, spread, slope = integrals(fun, deviation)
    np.testing.assert_allclose(found.mean, mean, atol=tolerance * spread.max())
    # A variance is a difference: its digits end at those of the squared mean.
    variance, rounding = found.square - found.mean**2, 1e-6 * (mean**2).max()
    np.testing.assert_allclose(variance, spread**2, atol=2 * tolerance * spread.max() ** 2 + rounding)
    np.testing.assert_allclose(found.slope, slope, atol=tolerance * np.abs(slope).max() + 1e-5)


def test_normal_functions():
    x = np.linspace(-7, 7, 1001, dtype=np.float32)
    np.testing.assert_allclose(laws.normal_cdf(x), stats.norm.cdf(x), atol=2e-7)
    np.testing.assert_allclose(laws.normal_density(x), stats.norm.pdf(x), atol=1e-7)
