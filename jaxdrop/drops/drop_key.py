"""DropKey: drops attention keys before the softmax. Li et al., 2023."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from jaxdrop import _bits, _checks, _draw, _visible
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops import _drop_key, _remat

__all__ = ["drop_key", "drop_key_mask"]

# The draw, and the keys that may be attended to.
_Level = tuple[_checks.Draw, ArrayLike | np.bool_]


def drop_key(
    key: Key,
    logits: ArrayLike,
    rate: Rate,
    *,
    mask: ArrayLike | None = None,
    broadcast_dims: Sequence[int] = (),
    bits: Bits = None,
) -> jax.Array:
    """Hides keys from queries with probability `rate`, before the softmax.

    The following softmax spreads the weight over the remaining keys, so nothing is scaled. A row
    that would lose all its allowed keys keeps them all, so no softmax is empty. A hidden logit
    becomes the smallest finite number of the dtype, which is safe in half precision. Rate 0 hides
    only what `mask` hides.

    Pass the attention mask as `mask` (True means a query may attend), so that a forbidden key does
    not count as a remaining one. Nor does a key whose weight is zero in the dtype anyway, below 1e-38
    of the row's largest (6e-8 in float16), as after a bias of -1e9. Logits of -inf stay -inf.

    Args:
      key: A PRNG key, used once.
      logits: Floating-point attention logits, `[..., Q, K]`; the softmax is over the last axis.
      rate: Probability of hiding a key, in [0, 1): a scalar, or an array that broadcasts to
        `logits`; may be traced; no gradient.
      mask: Attention mask: boolean, True where a query may attend to a key; broadcasts to `logits`.
      broadcast_dims: Axes along which one decision is shared; not the last.
      bits: Random bits per decision: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `logits`.

    Raises:
      TypeError: If `logits` is not floating-point or `mask` not boolean.
      ValueError: If a concrete rate is outside [0, 1), or shapes or axes do not fit.

    References:
      Li et al., "DropKey for vision transformer", 2023.

    Examples:
      >>> jax.nn.softmax(drop_key(jax.random.key(0), jnp.zeros((2, 4)), 0.5))
      Array([[0.33333334, 0.33333334, 0.33333334, 0.        ],
             [0.        , 0.5       , 0.5       , 0.        ]], dtype=float32)
    """
    logits, rate = _checks.check_floating(logits, "logits"), _checks.check_rate(rate)
    draw, allowed, shape = _drop_key.prepare_keys(logits.shape, rate, mask, broadcast_dims, bits)
    if _checks.is_scalar(rate, 0):
        return logits if mask is None else jnp.where(allowed, logits, jnp.finfo(logits.dtype).min)
    return _hide_keys(key, logits, (draw, allowed), shape=shape)


def drop_key_mask(
    key: Key,
    shape: Sequence[int],
    rate: Rate,
    *,
    mask: ArrayLike | None = None,
    broadcast_dims: Sequence[int] = (),
    bits: Bits = None,
) -> jax.Array:
    """Draws the mask of `drop_key`: True where a query still attends to a key.

    Args:
      key: A PRNG key, used once.
      shape: Shape of the logits, `[..., Q, K]`.
      rate: Probability of hiding a key, in [0, 1): a scalar, or an array that broadcasts to
        `shape`; may be traced.
      mask: Attention mask: boolean, True where a query may attend to a key; broadcasts to `shape`.
      broadcast_dims: Axes along which one decision is shared; not the last.
      bits: Random bits per decision: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Boolean array of shape `shape`: a subset of `mask`, with at least one key in each row that had
      one. It knows no logits, so it counts keys that have no weight.

    Raises:
      TypeError: If `mask` is not boolean.
      ValueError: If a concrete rate is outside [0, 1), or shapes or axes do not fit.

    Examples:
      >>> drop_key_mask(jax.random.key(0), (2, 4), 0.5)
      Array([[ True,  True,  True, False],
             [False,  True,  True, False]], dtype=bool)
    """
    sizes, rate = _checks.check_shape(shape), _checks.check_rate(rate)
    draw, allowed, drawn = _drop_key.prepare_keys(sizes, rate, mask, broadcast_dims, bits)
    if _checks.is_scalar(rate, 0):
        return jnp.broadcast_to(allowed, sizes)
    return jnp.broadcast_to(_drop_key_mask(_checks.check_key(key), (draw, allowed), shape=drawn), sizes)


def _kept(seed: _bits.Seed, level: _Level, shape: tuple[int, ...]) -> jax.Array:
    draw, allowed = level
    kept = _draw.draw_mask(seed, draw, shape) & allowed
    return jnp.where(kept.any(-1, keepdims=True), kept, allowed)


@_remat.redraw_in_backward("shape", keeps="lost")
def _hide_keys(seed: _bits.Seed, logits: jax.Array, level: _Level, *, shape: tuple[int, ...]) -> jax.Array:
    draw, allowed = level
    # A logit of -inf stays -inf: a finite one would let its row attend to it.
    hidden = jnp.asarray(jnp.finfo(logits.dtype).min, logits.dtype)
    if seed.impl == _visible.IMPL:
        kept = _kept(seed, level, shape)  # one that depends on random logits has no known law
    else:
        hidden = jnp.where(logits == -jnp.inf, -jnp.inf, hidden).astype(logits.dtype)
        # Some dtypes of 8 bits have no infinity.
        wide = logits.astype(np.float32) if logits.dtype.itemsize < 2 else logits
        drawn = _draw.draw_mask(seed, draw, shape)
        left = drawn & _drop_key.have_weight(jnp.where(allowed, wide, -jnp.inf))
        # Stored, a boolean a row, so that the logits are not.
        lost = checkpoint_name(~left.any(-1, keepdims=True), "lost")
        kept = (drawn | lost) & allowed
    y = _draw.where_like(kept, logits, hidden)
    return _draw.nan_where_rate_invalid(y, level[0].keep_prob)


@partial(jax.jit, static_argnames="shape")
def _drop_key_mask(key: Key, level: _Level, *, shape: tuple[int, ...]) -> jax.Array:
    return _kept(_bits.consume(key), level, shape)
