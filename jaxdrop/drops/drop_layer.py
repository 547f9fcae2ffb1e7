"""Drop layer: skips a whole layer for the whole batch. Fan et al., 2019."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrop import _checks, _draw, masks
from jaxdrop._types import ArrayLike, Bits, Key, Rate


def drop_layer(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    layer: Callable[[jax.Array], jax.Array],
    bits: Bits = None,
) -> jax.Array:
    """Returns `x` with probability `rate`, else `layer(x)`: LayerDrop.

    One decision for the whole batch, so that what is skipped is not computed (but under `vmap`
    over keys, where both sides are). Nothing is scaled: a residual layer is used at evaluation as
    it is. Rate 0 is `layer(x)`; rate 1 is `x`.

    Args:
      key: A PRNG key, used once.
      x: A floating-point array.
      rate: The probability of skipping, in [0, 1]: a scalar; may be traced. It has no gradient.
      layer: A function that keeps shape and dtype. It may close over parameters.
      bits: Random bits: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      An array of the shape and dtype of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If a concrete rate is outside [0, 1] or not a scalar, or `layer` changes the
        shape or dtype.

    References:
      Fan, Grave and Joulin, "Reducing transformer depth on demand with structured dropout", 2019.

    >>> [float(drop_layer(jax.random.key(i), jnp.float32(1), 0.5, layer=lambda x: 10 * x)) for i in range(5)]
    [10.0, 10.0, 1.0, 10.0, 1.0]
    """
    x = _checks.check_floating(x)
    rate = _checks.check_scalar(_checks.check_rate(rate), "rate")

    def checked(x: jax.Array) -> jax.Array:
        y: Any = jnp.asarray(layer(x))
        return _checks.check_same_array(y, x, "layer(x)", "x")

    if _checks.is_trivial_rate(rate):
        return checked(x) if _checks.is_scalar(rate, 0) else x
    keep = masks.keep_mask(key, (), rate, bits=bits)
    y = jax.lax.cond(keep, checked, lambda x: x, x)
    return _draw.nan_where_rate_invalid(y, _draw.prepare(rate, (), bits).keep_prob)
