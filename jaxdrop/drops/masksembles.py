"""Masksembles: an ensemble of a few fixed masks. Durasov et al., 2021."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxdrop import _bits, _checks
from jaxdrop._types import ArrayLike, Key

__all__ = ["masksembles", "masksembles_masks"]


def masksembles_masks(key: Key, features: int, num_masks: int, scale: float) -> jax.Array:
    """Draws the masks of a Masksembles layer, once, to be stored with the model.

    Each mask keeps the same number m of features, and each feature is in at least one mask. With
    n = `num_masks` and s = `scale`, m = ceil(features / (s * (1 - (1 - 1 / s)**n))): the expected
    union of n random masks of m out of s * m features is `features`. Scale 1 keeps all; a large
    scale gives masks with the least overlap.

    The paper's code draws masks until they cover all features. Here the features are dealt to the
    masks at random, and each mask is filled up at random. This always ends, and masks overlap
    slightly less: two of 4 masks of 64 features at scale 2 share 0.34 of their union instead of
    0.35.

    Args:
      key: A PRNG key, used once. May be mapped over, for the masks of several layers.
      features: Number of features, at least 1.
      num_masks: Number of masks, at least 1.
      scale: How much the masks differ, finite and at least 1; a number, not traced.

    Returns:
      Boolean array `[num_masks, features]`; True is kept.

    Raises:
      TypeError: If `features` or `num_masks` is not an integer, or `scale` traced or an array.
      ValueError: If `features`, `num_masks` or `scale` is below 1, or `scale` not finite.

    References:
      Durasov et al., "Masksembles for uncertainty estimation", 2021.

    Examples:
      >>> masksembles_masks(jax.random.key(0), 6, 3, 2.0).astype(int)
      Array([[1, 0, 1, 1, 1, 0],
             [1, 1, 1, 1, 0, 0],
             [0, 1, 0, 1, 1, 1]], dtype=int32)
    """
    features = _checks.check_count(features, "features")
    num_masks = _checks.check_count(num_masks, "num_masks")
    kept = _kept(features, num_masks, scale)
    return _masks(_checks.check_key(key), features=features, num_masks=num_masks, kept=kept)


def masksembles(x: ArrayLike, masks: ArrayLike, *, channel_axis: int = -1) -> jax.Array:
    """Applies one of n fixed masks to each part of the batch, in training and at evaluation.

    Example i of a batch of B gets mask `i // (B // n)`. Nothing is scaled. To evaluate, repeat the
    batch once per mask, `jnp.tile(x, (n, 1, ...))`: the n predictions of an example form an
    ensemble.

    Args:
      x: Floating-point batch, `[B, ..., C]`, where B is a multiple of n.
      masks: Boolean masks `[n, C]` from `masksembles_masks`; True is kept.
      channel_axis: Axis of the features; not 0.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point or `masks` not boolean.
      ValueError: If the numbers of features differ, B is not a multiple of n, or `channel_axis` is
        out of range or the batch axis.

    References:
      Durasov et al., "Masksembles for uncertainty estimation", 2021.

    Examples:
      >>> masksembles(jnp.ones((4, 2)), jnp.array([[True, False], [False, True]]))
      Array([[1., 0.],
             [1., 0.],
             [0., 1.],
             [0., 1.]], dtype=float32)
    """
    x, masks = _checks.check_floating(x), _checks.check_array(masks, "masks", "a boolean array")
    if masks.dtype != bool:
        raise TypeError(f"`masks` must be a boolean array, got {masks.dtype}.")
    axis = _checks.check_channel_axis(channel_axis, x.shape)
    size, features = x.shape[0], x.shape[axis]
    if masks.ndim != 2 or masks.shape[1] != features or masks.shape[0] < 1:
        raise ValueError(f"`masks` must be of shape [n, {features}], got {masks.shape}.")
    if size % masks.shape[0] != 0:
        raise ValueError(
            f"`x` must hold a multiple of {masks.shape[0]} examples, one part per mask, got {size}."
        )
    parts = (masks.shape[0], size // masks.shape[0], features)
    rows = jnp.broadcast_to(masks[:, None], parts).reshape(size, features)
    kept = lax.expand_dims(rows, [a for a in range(1, x.ndim) if a != axis])
    return jnp.where(kept, x, 0)


def _kept(features: int, num_masks: int, scale: float) -> int:
    """The number of features that a mask keeps; the slack of 1e-6 covers inexact quotients."""
    scale = _checks.check_number(scale, "scale")
    if not 1 <= scale < math.inf:
        raise ValueError(f"`scale` must be finite and at least 1, got {scale:g}.")
    # s * (1 - (1 - 1 / s)**n) as a geometric sum, which lies in [1, n] and stays exact for large s.
    ratio = 1 - 1 / scale
    return math.ceil(features / sum(ratio**power for power in range(num_masks)) - 1e-6)


@partial(jax.jit, static_argnames=("features", "num_masks", "kept"))
def _masks(key: Key, *, features: int, num_masks: int, kept: int) -> jax.Array:
    first, second = _bits.words(_bits.consume(key), (num_masks + 1, features))
    places = jnp.arange(features, dtype=jnp.int32)
    dealt = lax.sort((first[0], second[0], places), num_keys=2)[2] % num_masks
    # Each mask sorts the features: its own come first, the others follow in random order.
    foreign = (dealt[None] != jnp.arange(num_masks, dtype=dealt.dtype)[:, None]).astype(jnp.int32)
    keys = (foreign, first[1:], second[1:], jnp.broadcast_to(places, foreign.shape))
    chosen = lax.sort(keys, num_keys=3)[3][:, :kept]
    return jnp.zeros(foreign.shape, bool).at[jnp.arange(num_masks)[:, None], chosen].set(True)
