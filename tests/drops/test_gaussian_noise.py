"""Gaussian noise: normal, of any deviation, which has a gradient."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxdrop

KEY = jax.random.key(2)


@pytest.mark.parametrize("stddev", [0.1, 3.0])
def test_the_difference_is_normal(stddev):
    x = jnp.full((100_000,), 0.5)
    noise = np.asarray(jaxdrop.gaussian_noise(KEY, x, stddev) - x)
    assert stats.kstest(noise / stddev, "norm").pvalue > 1e-3


def test_the_gradient_of_the_deviation_is_the_noise():
    x = jnp.zeros(8)
    noise = jaxdrop.gaussian_noise(KEY, x, 1.0)
    slope = jax.jacfwd(lambda stddev: jaxdrop.gaussian_noise(KEY, x, stddev))(2.0)
    np.testing.assert_allclose(slope, noise, rtol=1e-6)
    grad = jax.grad(lambda stddev: jaxdrop.gaussian_noise(KEY, x, stddev).sum())(2.0)
    np.testing.assert_allclose(grad, noise.sum(), rtol=1e-5)


def test_a_deviation_for_each_feature():
    y = jaxdrop.gaussian_noise(KEY, jnp.zeros((50_000, 3)), jnp.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(y.std(0), [0, 1, 2], atol=5 * 2 / np.sqrt(2 * 50_000))


@pytest.mark.parametrize("stddev", [-1.0, float("inf"), float("nan")])
def test_a_bad_deviation(stddev):
    with pytest.raises(
        ValueError, match=re.escape(f"`stddev` must be finite and at least 0, got {stddev:g}.")
    ):
        jaxdrop.gaussian_noise(KEY, jnp.zeros(3), stddev)
