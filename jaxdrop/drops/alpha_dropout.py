"""Alpha dropout: dropout for SELU networks that keeps mean and variance. Klambauer et al., 2017."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops import _remat

__all__ = ["alpha_dropout"]

# SELU's limit for large negative inputs: minus its scale times its alpha.
_SATURATION = -1.7580993408473766


def alpha_dropout(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    broadcast_dims: Sequence[int] = (),
    bits: Bits = None,
) -> jax.Array:
    """Sets elements to SELU's negative saturation with probability `rate`, then restores moments.

    With s the saturation value and p = `rate`, the result is `a * (x or s) + b`, where
    a = ((1 - p) * (1 + p * s**2))**-0.5 and b = -a * p * s: an input of mean 0 and variance 1
    leaves with mean 0 and variance 1. Rate 0 is the identity; rate 1, where no information is
    left, gives zeros. The backward pass redraws the mask from the key; no mask is stored.

    Args:
      key: A PRNG key, used once.
      x: Floating-point array of any shape, standardized like SELU's activations.
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask;
        may be traced; no gradient.
      broadcast_dims: Axes along which one decision is shared.
      bits: Random bits per element: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If a concrete rate is outside [0, 1], an axis is out of range, or `bits` is not
        valid or too few to tell a concrete rate from 0 and 1.

    References:
      Klambauer et al., "Self-normalizing neural networks", 2017.

    Examples:
      >>> x = jax.random.normal(jax.random.key(0), (100_000,))
      >>> y = alpha_dropout(jax.random.key(1), x, 0.1)
      >>> print(f"{y.var():.1f}")
      1.0
    """
    x = _checks.check_floating(x)
    shape = _checks.check_shared(x.shape, broadcast_dims)
    rate = _checks.check_rate(rate)
    draw = _checks.prepare(rate, shape, bits)
    if _checks.is_trivial_rate(rate):
        return _remat.all_or_nothing(x, rate)
    level = draw, *_affine(draw.keep_prob, _checks.widened(x.dtype))
    return _alpha_dropout(key, x, level, shape=shape)


def _affine(keep_prob: ArrayLike, dtype: np.dtype) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The factor and offset for kept elements, and the value of dropped ones."""
    q = jnp.asarray(keep_prob, dtype)
    p, some = 1 - q, q != 0
    a = jnp.where(some, jax.lax.rsqrt(jnp.where(some, q, 1) * (1 + p * _SATURATION**2)), 0)
    b = -a * p * _SATURATION
    return a, b, a * _SATURATION + b


@_remat.redraw_in_backward("shape")
def _alpha_dropout(
    seed: _bits.Seed,
    x: jax.Array,
    level: tuple[_checks.Draw, jax.Array, jax.Array, jax.Array],
    *,
    shape: tuple[int, ...],
) -> jax.Array:
    draw, a, b, dropped = level
    mask = _draw.draw_mask(seed, draw, shape)
    return jnp.where(mask, a * x.astype(a.dtype) + b, dropped).astype(x.dtype)
