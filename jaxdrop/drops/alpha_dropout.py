"""Alpha dropout: keeps the mean and variance that SELU networks rest on. Klambauer et al., 2017."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops import _remat

# SELU's limit for large negative inputs: minus its scale times its alpha.
SATURATION = -1.7580993408473766


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
    left, gives zeros. The backward pass draws the mask again from the key; nothing is stored.

    Args:
      key: A PRNG key, used once.
      x: A floating-point array of any shape, standardised as SELU's activations are.
      rate: The probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the
        mask. May be traced. It has no gradient.
      broadcast_dims: Axes along which one decision is shared.
      bits: Random bits an element: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      An array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If a concrete rate is outside [0, 1], an axis is out of range, or for `bits` the
        reasons of `keep_mask`.

    References:
      Klambauer et al., "Self-normalizing neural networks", 2017.

    >>> x = jax.random.normal(jax.random.key(0), (100_000,))
    >>> y = alpha_dropout(jax.random.key(1), x, 0.1)
    >>> print(f"{y.var():.1f}")
    1.0
    """
    x = _checks.check_floating(x)
    shared = _checks.check_axes(broadcast_dims, x.ndim, "broadcast_dims")
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))
    rate = _checks.check_rate(rate)
    draw = _draw.prepare(rate, shape, bits)
    if _checks.is_trivial_rate(rate):
        return _remat.all_or_nothing(x, rate)
    level = draw, *_affine(draw.keep_prob, _draw.widened(x.dtype))
    return _alpha_dropout(key, x, level, shape=shape)


def _affine(keep_prob: ArrayLike, dtype: np.dtype) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The factor and the offset of what is kept, and what is put in the place of the rest."""
    q = jnp.asarray(keep_prob, dtype)
    p, some = 1 - q, q != 0
    a = jnp.where(some, jax.lax.rsqrt(jnp.where(some, q, 1) * (1 + p * SATURATION**2)), 0)
    b = -a * p * SATURATION
    return a, b, a * SATURATION + b


@_remat.redraw_in_backward("shape")
def _alpha_dropout(seed: _bits.Seed, x: jax.Array, level: tuple, *, shape: tuple) -> jax.Array:
    draw, a, b, dropped = level
    mask = _draw.draw_mask(seed, draw, shape)
    return jnp.where(mask, a * x.astype(a.dtype) + b, dropped).astype(x.dtype)
