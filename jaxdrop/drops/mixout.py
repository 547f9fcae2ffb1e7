"""Mixout: replaces random weights by those of a starting point. Lee et al., 2020."""

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks, _draw, _selection
from jaxdrop._types import ArrayLike, Bits, Key, PyTree, Rate, Where
from jaxdrop.drops import _remat

__all__ = ["mixout"]


def mixout(
    key: Key,
    params: PyTree,
    target: PyTree,
    rate: Rate,
    *,
    where: Where = None,
    bits: Bits = None,
) -> PyTree:
    """Replaces weights by those of `target` with probability `rate`, and keeps the mean.

    With t the target and p = `rate`, a weight w becomes t with probability p, and else
    `(w - p * t) / (1 - p)`: the mean is w. In fine-tuning, t is the pretrained model; t = 0 is
    DropConnect. The gradient with respect to w is `1 / (1 - p)` where w is kept, and else 0. Rate 0
    gives `params`, rate 1 the target. An NNX variable at several paths has one mask.

    Args:
      key: A PRNG key, used once.
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      target: Tree of the same paths and shapes, such as a checkpoint's dict.
      rate: Probability of replacing a weight, in [0, 1]: a scalar; may be traced; no gradient.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).
      bits: Random bits per weight: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Tree of the structure, shapes and dtypes of `params`; other leaves are returned unchanged.

    Raises:
      TypeError: If a selected leaf, or its target, is not floating-point.
      ValueError: If the trees differ in paths or shapes, a concrete rate is outside [0, 1] or
        not a scalar, or `where` is a tree of another structure or selects no leaf.

    References:
      Lee, Cho and Kang, "Mixout: effective regularization to finetune large-scale pretrained
      language models", 2020. Their code leaves 1 / (1 - p) out of the gradient.

    Examples:
      >>> mixout(jax.random.key(0), jnp.full((2, 3), 3.0), jnp.ones((2, 3)), 0.5)
      Array([[1., 5., 1.],
             [5., 5., 5.]], dtype=float32)
    """
    rate = _checks.check_scalar(_checks.check_rate(rate), "rate")
    mask = _selection.selected_floating(params, where)
    starts = _selection.leaves_like(target, params, "target")
    draw = _checks.prepare(rate, (), bits)
    places = _selection.places(params, mask)
    leaves, structure = jax.tree.flatten(params)

    def check(leaf: ArrayLike, path: str, start: ArrayLike, place: int | None) -> ArrayLike:
        if place is None:
            return start
        start = _selection.check_floating(start, path, "target")
        return _checks.check_same_shape(start, jnp.asarray(leaf), "target", "params")

    starts = [*map(check, leaves, _selection.paths(params), starts, places)]
    if _checks.is_scalar(rate, 0):
        return params
    keys = _bits.split(_checks.check_key(key), len({*places} - {None}))

    def mix(leaf: ArrayLike, start: ArrayLike, place: int | None) -> ArrayLike:
        if place is None:
            return leaf
        weights = (jnp.asarray(leaf), jnp.asarray(start, leaf.dtype))
        return _mixout(keys[place], weights, (draw, _checks.scale_of(draw, leaf.dtype)))

    return structure.unflatten(map(mix, leaves, starts, places))


@_remat.redraw_in_backward()
def _mixout(
    seed: _bits.Seed, weights: tuple[jax.Array, jax.Array], scaled: tuple[_checks.Draw, ArrayLike]
) -> jax.Array:
    (w, t), (draw, scale) = weights, scaled
    wide, dtype = _checks.widened(w.dtype), w.dtype
    # (w - p t) / (1 - p), written so that it is exactly w for p = 0.
    beyond = (1 / scale if draw.width == 32 else scale) - 1
    w, t = w.astype(wide), t.astype(wide)
    mask = _draw.draw_mask(seed, draw, w.shape)
    return _draw.where_like(mask, jnp.where(beyond == 0, w, w + (w - t) * beyond), t).astype(dtype)
