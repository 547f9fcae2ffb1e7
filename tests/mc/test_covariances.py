"""Means and covariances as arguments."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop.mc import _covariances

MEAN, EYE = np.zeros((2, 3), np.float32), np.tile(np.eye(3, dtype=np.float32), (2, 1, 1))


def test_roots_descend_and_only_rounding_may_be_negative():
    covariance = jnp.stack([jnp.diag(jnp.array([1.0, 4.0, -1e-6])), jnp.diag(jnp.array([1.0, 4.0, -1.0]))])
    roots, vectors = _covariances.eigen(covariance, _covariances.largest(covariance), 1e-3)
    np.testing.assert_allclose(roots[0], [2, 1, 0])
    assert np.isnan(roots[1, 2])
    np.testing.assert_allclose(np.abs(vectors[0]), [[0, 1, 0], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        (MEAN[0], EYE, r"`mean` must have shape \[B, K\], not empty, got \(3,\)\."),
        (MEAN, MEAN + 1, "got variances alone: without the correlations of the logits, probabilities are"),
        (MEAN, EYE[:1], r"`covariance` must have shape \[B, K, K\], \(2, 3, 3\), got \(1, 3, 3\)\."),
        (MEAN + np.nan, EYE, "`mean` must be finite, got nan"),
        (MEAN, EYE + np.inf, "`covariance` must be finite, got"),
        (
            MEAN,
            EYE + np.triu(np.ones((3, 3)), 1),
            "`covariance` must be symmetric, got entries that differ by 1",
        ),
    ],
)
def test_bad_moments(mean: np.ndarray, covariance: np.ndarray, message: str):
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
        _covariances.as_moments(mean, covariance)


def test_one_dtype_and_the_tolerance_of_the_given_one():
    half = jnp.asarray(EYE, jnp.bfloat16)
    mean, covariance = _covariances.as_moments(MEAN, half)
    assert mean.dtype == covariance.dtype == jnp.float32
    assert _covariances.tolerance_of(half) > _covariances.tolerance_of(EYE)
    with pytest.raises(TypeError, match="`covariance` must be a floating-point array, got int32"):
        _covariances.as_moments(MEAN, EYE.astype(np.int32))
    with pytest.raises(
        ValueError, match="`covariance` must be positive semidefinite, got an eigenvalue of -1"
    ):
        _covariances.check_semidefinite(jnp.asarray(-EYE), 1e-3)
