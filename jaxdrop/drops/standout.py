"""Standout: dropout with keep probabilities computed by the network. Ba and Frey, 2013."""

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Bits, Key, Numeric
from jaxdrop.drops import _remat

__all__ = ["standout", "standout_mean"]


def standout(
    key: Key,
    x: ArrayLike,
    logits: ArrayLike,
    *,
    alpha: Numeric = 1.0,
    beta: Numeric = 0.0,
    bits: Bits = None,
) -> jax.Array:
    """Keeps each element with probability `sigmoid(alpha * logits + beta)`, and else zeroes it.

    In the paper the logits are the layer's own pre-activations, because its belief network shares
    the layer's weights. Nothing is scaled: the mean is `standout_mean(x, logits, ...)`; use it at
    evaluation. The mask has no gradient; the backward pass redraws it from the key. NaN logits give
    NaN.

    Args:
      key: A PRNG key, used once.
      x: Floating-point activations, of any shape.
      logits: Floating-point logits of keeping; broadcast to `x`.
      alpha: Scale of the logits: a scalar, or an array that broadcasts to `x`; may be traced.
      beta: Offset of the logits: a scalar, or an array that broadcasts to `x`; may be traced. With
        `alpha` 0 and `beta` 0 it is dropout of rate 0.5 without the scale.
      bits: Random bits per element: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16.

    Returns:
      Array of the shape and dtype of `x`.

    Raises:
      TypeError: If `x` or `logits` is not floating-point.
      ValueError: If the shapes do not fit, or `bits` is not one of the above.

    References:
      Ba and Frey, "Adaptive dropout for training deep neural networks", 2013.

    Examples:
      >>> standout(jax.random.key(0), jnp.ones(4), jnp.array([-50.0, -1.0, 1.0, 50.0]))
      Array([0., 0., 1., 1.], dtype=float32)
    """
    x = _checks.check_floating(x)
    keep = _keep_probability(x, logits, alpha, beta)
    width = _checks.choose_width(bits, None)
    return _standout(key, x, jax.lax.stop_gradient(keep), width=width)


def standout_mean(x: ArrayLike, logits: ArrayLike, *, alpha: Numeric = 1.0, beta: Numeric = 0.0) -> jax.Array:
    """The mean of `standout` over keys: `x * sigmoid(alpha * logits + beta)`, for evaluation.

    Args:
      x: Floating-point activations, of any shape.
      logits: Floating-point logits of keeping; broadcast to `x`.
      alpha: Scale of the logits: a scalar, or an array that broadcasts to `x`; may be traced.
      beta: Offset of the logits: a scalar, or an array that broadcasts to `x`; may be traced.

    Returns:
      Array of the shape and dtype of `x`.

    Raises:
      TypeError: If `x` or `logits` is not floating-point.
      ValueError: If the shapes do not fit.

    Examples:
      >>> standout_mean(jnp.ones(2), jnp.array([0.0, 50.0]))
      Array([0.5, 1. ], dtype=float32)
    """
    x = _checks.check_floating(x)
    keep = _keep_probability(x, logits, alpha, beta)
    return (x.astype(keep.dtype) * keep).astype(x.dtype)


def _keep_probability(x: jax.Array, logits: ArrayLike, alpha: Numeric, beta: Numeric) -> jax.Array:
    logits = _checks.check_broadcastable(_checks.check_floating(logits, "logits"), x.shape, "logits")
    wide = _checks.widened(logits.dtype)
    alpha = _checks.check_broadcastable(jnp.asarray(alpha, wide), x.shape, "alpha")
    beta = _checks.check_broadcastable(jnp.asarray(beta, wide), x.shape, "beta")
    return jax.nn.sigmoid(alpha * logits.astype(wide) + beta)


@_remat.redraw_in_backward("width")
def _standout(seed: _bits.Seed, x: jax.Array, keep: jax.Array, *, width: int) -> jax.Array:
    draw = _checks.draw_of(jnp.broadcast_to(_checks.realized_keep_prob(1 - keep, width), x.shape), width)
    mask = _draw.draw_mask(seed, draw, x.shape)
    return _draw.nan_where_rate_invalid(jnp.where(mask, x, 0), draw.keep_prob)
