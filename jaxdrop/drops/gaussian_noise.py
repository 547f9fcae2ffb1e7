"""Gaussian noise: adds Gaussian noise of mean zero. Bishop, 1995."""

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks
from jaxdrop._types import ArrayLike, Key, Numeric
from jaxdrop.drops import _remat

__all__ = ["gaussian_noise"]


def gaussian_noise(key: Key, x: ArrayLike, stddev: Numeric) -> jax.Array:
    """Adds to each element its own draw from N(0, stddev**2); the mean is kept.

    On the inputs of a regression with squared error, it acts as Tikhonov regularization. A
    deviation of 0 is the identity. The backward pass redraws the noise from the key; no noise is
    stored. A draw is a float32 normal quantile of 24 random bits: it is within 5.41 * stddev, and its
    error is about the gap to the next quantile or less, 1.5e-7 * stddev near the mean.

    Args:
      key: A PRNG key, used once.
      x: Floating-point array of any shape.
      stddev: Standard deviation, finite and at least 0, in the units of `x`: a scalar, or an array
        that broadcasts to `x`; may be traced; has a gradient.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If a concrete `stddev` is negative or not finite, or does not broadcast to `x`.

    References:
      Bishop, "Training with noise is equivalent to Tikhonov regularization", 1995.

    Examples:
      >>> y = gaussian_noise(jax.random.key(0), jax.numpy.zeros(100_000), 3.0)
      >>> print(f"{y.std():.1f}")
      3.0
    """
    x = _checks.check_floating(x)
    stddev = _checks.check_nonnegative(stddev, "stddev")
    stddev = _checks.check_broadcastable(stddev, x.shape, "stddev")
    if _checks.is_scalar(stddev, 0):
        return x
    return _gaussian_noise(key, x, jnp.asarray(stddev, _checks.widened(x.dtype)))


@_remat.redraw_in_backward()
def _gaussian_noise(seed: _bits.Seed, x: jax.Array, stddev: jax.Array) -> jax.Array:
    deviation = jnp.where(stddev >= 0, stddev, jnp.nan)
    return (x.astype(_checks.widened(x.dtype)) + deviation * _bits.normal(seed, x.shape)).astype(x.dtype)
