"""LayerDrop: skips a whole layer for the whole batch. Fan et al., 2019."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdrop import _checks, _draw, _meshes, masks
from jaxdrop._types import ArrayLike, Bits, Key, Rate

__all__ = ["drop_layer"]


def drop_layer(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    layer: Callable[[jax.Array], jax.Array],
    bits: Bits = None,
) -> jax.Array:
    """Returns `x` with probability `rate`, else `layer(x)`.

    One decision for the whole batch, so a skipped layer is not computed (under `vmap` over keys,
    both branches are). Nothing is scaled: at evaluation use the residual layer as it is. Rate 0 is
    `layer(x)`; rate 1 is `x`.

    Args:
      key: A PRNG key, used once.
      x: Floating-point array of any shape.
      rate: Probability of skipping, in [0, 1]: a scalar; may be traced; no gradient.
      layer: Function that keeps shape and dtype. It may close over parameters.
      bits: Random bits per decision: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape and dtype of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If a concrete rate is outside [0, 1] or not a scalar, or `layer` changes the
        shape or dtype.

    References:
      Fan, Grave and Joulin, "Reducing transformer depth on demand with structured dropout", 2019.

    Examples:
      >>> keys = map(jax.random.key, range(5))
      >>> [float(drop_layer(key, jnp.float32(1), 0.5, layer=lambda x: 10 * x)) for key in keys]
      [10.0, 10.0, 1.0, 10.0, 1.0]
    """
    x = _checks.check_floating(x)
    rate = _checks.check_scalar(_checks.check_rate(rate), "rate")

    def checked(x: jax.Array) -> jax.Array:
        return _meshes.like(_checks.check_same_array(jnp.asarray(layer(x)), x, "layer(x)", "x"), x)

    if _checks.is_trivial_rate(rate):
        return checked(x) if _checks.is_scalar(rate, 0) else x
    keep = masks.keep_mask(key, (), rate, bits=bits)
    y = jax.lax.cond(keep, checked, lambda x: x, x)
    return _draw.nan_where_rate_invalid(y, _checks.prepare(rate, (), bits).keep_prob)
