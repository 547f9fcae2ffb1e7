"""Whitening matrices; the scores are held by `test_densities`."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop.uncertainty import _gaussians


def test_the_second_pass_removes_the_rounding_of_the_first():
    """Condition 1e6: the whitened residuals have the identity as their covariance."""
    rng = np.random.default_rng(0)
    rest = np.float32(rng.normal(size=(500, 5)) * np.geomspace(1, 1e3, 5) @ rng.normal(size=(5, 5)))
    rest -= rest.mean(0)
    whitening = np.float64(jax.jit(_gaussians._whitening)(rest, jnp.int32(500), jnp.float32(0)))
    white = np.float64(rest) @ whitening
    np.testing.assert_allclose(white.T @ white / 500, np.eye(5), atol=2e-3)
    np.testing.assert_array_equal(whitening, np.triu(whitening))


def test_rows_of_classes():
    rows = _gaussians._grouped(np.array([2, 0, 3, 2, 0, 2]), 3)  # three is none of them
    np.testing.assert_array_equal(rows, [[1, 4, 6], [6, 6, 6], [0, 3, 5]])
