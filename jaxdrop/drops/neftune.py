"""NEFTune: adds uniform noise to token embeddings, scaled by the length. Jain et al., 2023."""

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks
from jaxdrop._types import ArrayLike, Key, Numeric
from jaxdrop.drops import _remat

__all__ = ["neftune"]


def neftune(key: Key, x: ArrayLike, alpha: Numeric, *, mask: ArrayLike | None = None) -> jax.Array:
    """Adds noise, uniform in [-1, 1] times `alpha / sqrt(L * D)`, to each element of embeddings.

    L is the length of the sequence and D the number of features, so the noise of a whole sequence has
    a norm of about `alpha / sqrt(3)`, whatever its length. The mean is kept, so evaluation needs no
    noise. `alpha` 0 is the identity. The backward pass redraws the noise from the key.

    With `mask`, L counts the tokens of each sequence without padding, as in the paper and in its code,
    and padding gets no noise. Without it, L is the whole axis, as in the trainers of transformers and
    trl: in a padded batch, short sequences then get less noise.

    Args:
      key: A PRNG key, used once.
      x: Floating-point embeddings, `[..., L, D]`.
      alpha: Scale of the noise, finite and at least 0; the paper uses 5, 10 and 15. A scalar, or an
        array that broadcasts to `x`; may be traced; has a gradient.
      mask: Booleans that broadcast to `[..., L]`; True is a token, False is padding.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point, or `mask` not boolean.
      ValueError: If `x` has fewer than two axes, a concrete `alpha` is negative or not finite, or
        `alpha` or `mask` does not broadcast.

    References:
      Jain et al., "NEFTune: noisy embeddings improve instruction finetuning", 2023.

    Examples:
      >>> y = neftune(jax.random.key(0), jnp.zeros((2, 100, 64)), 5.0)
      >>> bool(abs(y).max() <= 5 / 80)
      True
      >>> tokens = jnp.array([[True, True, False]])
      >>> neftune(jax.random.key(0), jnp.zeros((1, 3, 1)), 5.0, mask=tokens)[0, 2]
      Array([0.], dtype=float32)
    """
    x = _checks.check_rank(_checks.check_floating(x), 2, "[..., L, D]")
    alpha = _checks.check_nonnegative(alpha, "alpha")
    alpha = _checks.check_broadcastable(alpha, x.shape, "alpha")
    if mask is not None:
        mask = _checks.check_array(mask, "mask", "a boolean array")
        if mask.dtype != bool:
            raise TypeError(f"`mask` must be a boolean array, got {mask.dtype}.")
        mask = jnp.broadcast_to(_checks.check_broadcastable(mask, x.shape[:-1], "mask"), x.shape[:-1])
    if _checks.is_scalar(alpha, 0):
        return x
    return _neftune(key, x, (jnp.asarray(alpha, _checks.widened(x.dtype)), mask))


@_remat.redraw_in_backward()
def _neftune(seed: _bits.Seed, x: jax.Array, level: tuple[jax.Array, jax.Array | None]) -> jax.Array:
    alpha, mask = level
    length, features = (jnp.asarray(size, alpha.dtype) for size in x.shape[-2:])
    if mask is not None:
        length = mask.sum(-1, keepdims=True, dtype=alpha.dtype)[..., None]
    # An empty sequence has no noise at all.
    scale = jnp.where(alpha >= 0, alpha, jnp.nan) / jnp.sqrt(jnp.maximum(length, 1) * features)
    if mask is not None:
        scale = jnp.where(mask[..., None], scale, 0)
    noise = 2 * _bits.uniform(seed, x.shape).astype(scale.dtype) - 1
    return (x.astype(scale.dtype) + scale * noise).astype(x.dtype)
