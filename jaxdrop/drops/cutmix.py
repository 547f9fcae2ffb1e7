"""CutMix: pastes a box of one image into another and mixes the labels by area. Yun et al., 2019."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _draw
from jaxdrop._types import ArrayLike, Key, Numeric
from jaxdrop.drops import _mixing

__all__ = ["cutmix"]


def cutmix(
    key: Key,
    x: ArrayLike,
    y: ArrayLike,
    alpha: Numeric,
    *,
    per_example: bool = False,
    channel_axis: int = -1,
) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of a random partner into each example, and mixes the labels by the box's area.

    The box's share of the map is drawn from Beta(alpha, alpha); its sides have the proportions of the
    map and are rounded to whole pixels. Its center is uniform over the map, and the box is clipped at the
    border, as in the paper. The partner's weight in the label is the share of pixels that were pasted:
    exactly that of the clipped box. All channels share the box. The partners are a uniformly random
    permutation of the batch, in which one example on average is its own partner. The expected label of
    the batch is unchanged. Alpha 0 is the identity; small alphas above it mean no box or a large one.

    Partners on other devices need communication; inside `jax.shard_map`, with one key per device, each
    device mixes its own examples and needs none. At evaluation, do not mix.

    Args:
      key: A PRNG key, used once.
      x: Floating-point batch, `[B, ..., C]`, with at least one axis between.
      y: Floating-point soft labels of the examples, `[B, K]`, such as from `jax.nn.one_hot`. Labels
        that sum to 1 still do.
      alpha: Parameter of the Beta distribution, finite and at least 0: a scalar; may be traced; no
        gradient. The paper uses 1, where the share is uniform.
      per_example: Whether each example has a box drawn for it, not one for the batch.
      channel_axis: Axis of the channels; not 0.

    Returns:
      `x` with pasted boxes and mixed `y`, each in its shape, dtype and sharding; labels are computed in
      float32 or wider.

    Raises:
      TypeError: If `x` or `y` is not floating-point.
      ValueError: If `x` and `y` differ in the number of examples, `x` has no map, `y` is not `[B, K]`,
        or a concrete alpha is negative, not finite or not a scalar.

    References:
      Yun et al., "CutMix: regularization strategy to train strong classifiers with localizable
      features", 2019.

    Examples:
      >>> x = jnp.arange(2.0)[:, None, None, None] * jnp.ones((1, 4, 4, 1))
      >>> x, y = cutmix(jax.random.key(9), x, jnp.eye(2), 1.0)
      >>> x[0, :, :, 0]
      Array([[0., 0., 0., 0.],
             [1., 1., 1., 0.],
             [1., 1., 1., 0.],
             [1., 1., 1., 0.]], dtype=float32)
      >>> y[0]  # 9 of 16 pixels
      Array([0.4375, 0.5625], dtype=float32)
    """
    x = _checks.check_rank(_checks.check_floating(x), 3, "[B, ..., C] with an axis between")
    x, y = _mixing.check_batch(x, y)
    if y.ndim != 2:
        raise ValueError(f"`y` must be of shape [B, K], one label per example, got {y.shape}.")
    axes = _checks.feature_map_dims(x.shape, channel_axis)
    if any(x.shape[axis] == 0 for axis in axes):
        raise ValueError(f"`x` must have maps of at least one pixel, got shape {x.shape}.")
    alpha = _mixing.check_alpha(alpha)
    if _checks.is_scalar(alpha, 0):
        return x, y
    return _cutmix(_checks.check_key(key), x, y, alpha, axes=axes, per_example=per_example)


@partial(jax.jit, static_argnames=("axes", "per_example"))
def _cutmix(
    key: Key, x: jax.Array, y: jax.Array, alpha: ArrayLike, *, axes: tuple[int, ...], per_example: bool
) -> tuple[jax.Array, jax.Array]:
    pairs = _mixing.draw(key, alpha, size=x.shape[0], per_example=per_example, more=len(axes))
    part, (first, second) = pairs.part, pairs.words
    # The smaller part is the box or what surrounds it, by a bit that drew neither.
    is_box = (second[:, 0] & np.uint32(1) == 0) | (alpha == 0)
    scale = jnp.where(is_box, part, 1 - part) ** (1 / len(axes))
    inside, pixels = jnp.ones((), bool), jnp.ones((), jnp.float32)
    for i, axis in enumerate(axes, 1):
        size = x.shape[axis]
        side = jnp.round(scale * size).astype(jnp.int32)
        start = jnp.floor(_mixing.uniform(first[:, i]) * size).astype(jnp.int32) - side // 2
        start, end = jnp.maximum(start, 0), jnp.minimum(start + side, size)
        place = jax.lax.broadcasted_iota(jnp.int32, [size if j == axis else 1 for j in range(x.ndim)], axis)
        inside = inside & (place >= _mixing.per_example(start, x)) & (place < _mixing.per_example(end, x))
        pixels = pixels * (end - start).astype(jnp.float32)
    share = pixels / math.prod(x.shape[axis] for axis in axes)
    pasted = jnp.where(inside, _mixing.taken(x, pairs.rows), x)
    pasted = _draw.nan_where_rate_invalid(pasted, _mixing.per_example(part, x))
    return pasted, _mixing.mixed(y, pairs.rows, _draw.nan_where_rate_invalid(share, part))
