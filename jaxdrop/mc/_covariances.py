"""Means and covariances as arguments: their checks, and eigendecompositions of singular ones."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike


def as_moments(mean: ArrayLike, covariance: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Means `[B, K]` and covariances `[B, K, K]`, in one dtype, float32 or wider."""
    tolerance = tolerance_of(covariance)
    mean = _predictions.check_finite(_predictions.as_wide(mean, "mean"), "mean")
    covariance = _predictions.check_finite(_predictions.as_wide(covariance, "covariance"), "covariance")
    if mean.ndim != 2 or 0 in mean.shape:
        raise ValueError(f"`mean` must have shape [B, K], not empty, got {mean.shape}.")
    if covariance.shape == mean.shape:
        raise ValueError(
            "`covariance` must have shape [B, K, K], got variances alone: without the correlations of the "
            "logits, probabilities are up to ten times as far off."
        )
    expected = (*mean.shape, mean.shape[-1])
    if covariance.shape != expected:
        raise ValueError(f"`covariance` must have shape [B, K, K], {expected}, got {covariance.shape}.")
    if _predictions.is_visible(covariance):
        array = np.asarray(covariance)
        gaps = np.abs(array - array.swapaxes(1, 2)).max((1, 2))
        if (gaps > tolerance * np.abs(array).max((1, 2))).any():
            raise ValueError(f"`covariance` must be symmetric, got entries that differ by {gaps.max():g}.")
    dtype = _checks.widest(mean, covariance)
    return mean.astype(dtype), covariance.astype(dtype)


def tolerance_of(covariance: ArrayLike) -> float:
    """The relative rounding of a covariance, by the dtype in which it was given."""
    return _predictions.sum_tolerance(_checks.check_floating(covariance, "covariance"))


def eigen(covariance: jax.Array, scale: jax.Array, tolerance: float) -> tuple[jax.Array, jax.Array]:
    """Square roots of eigenvalues `[B, K]`, in descending order, and eigenvectors `[B, K, K]`.

    Negative eigenvalues become 0; NaN for those below rounding, `tolerance` times the scale `[B]`.
    """
    values, vectors = jnp.linalg.eigh(covariance)
    valid = values >= -tolerance * scale[:, None]
    roots = jnp.where(valid, jnp.sqrt(jnp.maximum(values, 0)), jnp.nan)
    return roots[:, ::-1], vectors[:, :, ::-1]


def largest(covariance: jax.Array) -> jax.Array:
    """The largest entry of each covariance in absolute value, `[B]`."""
    return jnp.abs(covariance).max((1, 2))


def check_semidefinite(covariance: jax.Array, tolerance: float) -> None:
    """Raises if a concrete covariance has an eigenvalue below rounding."""
    if _predictions.is_visible(covariance):
        array = np.asarray(covariance, np.float64)
        lowest = np.linalg.eigvalsh(array)[:, 0]
        if (lowest < -tolerance * np.abs(array).max((1, 2))).any():
            raise ValueError(
                f"`covariance` must be positive semidefinite, got an eigenvalue of {lowest.min():g}."
            )
