"""Gaussian dropout: multiplies by Gaussian noise of mean one. Srivastava et al., 2014."""

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks
from jaxdrop._types import ArrayLike, Key, Rate
from jaxdrop.drops import _remat

__all__ = ["gaussian_dropout"]


def gaussian_dropout(key: Key, x: ArrayLike, rate: Rate) -> jax.Array:
    """Multiplies each element by its own draw from N(1, p / (1 - p)), where p = `rate`.

    Mean x and variance x**2 * p / (1 - p) are those of `dropout`, but no element is exactly zero.
    Rate 0 is the identity; rate 1, where the variance is infinite, gives zeros. The backward pass
    redraws the noise from the key; no noise is stored. A draw is a float32 normal quantile of 24
    random bits, within 5.41 standard deviations.

    Args:
      key: A PRNG key, used once.
      x: Floating-point array of any shape.
      rate: Probability of dropping of the `dropout` with this variance, in [0, 1]: a scalar, or an
        array that broadcasts to `x`; may be traced; no gradient.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If a concrete rate is outside [0, 1] or does not broadcast to `x`.

    References:
      Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
      2014, section 10.

    Examples:
      >>> y = gaussian_dropout(jax.random.key(0), jax.numpy.ones(100_000), 0.2)
      >>> print(f"{y.mean():.1f} {y.var():.2f}")
      1.0 0.25
    """
    x = _checks.check_floating(x)
    rate = _checks.check_broadcastable(_checks.check_rate(rate), x.shape, "rate")
    if _checks.is_trivial_rate(rate):
        return _remat.all_or_nothing(x, rate)
    return _gaussian_dropout(key, x, jnp.asarray(rate, jnp.float32))


@_remat.redraw_in_backward()
def _gaussian_dropout(seed: _bits.Seed, x: jax.Array, rate: jax.Array) -> jax.Array:
    rate = jnp.asarray(_checks.without_gradient(rate))
    some = rate != 1
    deviation = jnp.sqrt(rate / jnp.where(some, 1 - rate, 1))
    noise = 1 + deviation * _bits.normal(seed, x.shape)
    return jnp.where(some, x.astype(_checks.widened(x.dtype)) * noise, 0).astype(x.dtype)
