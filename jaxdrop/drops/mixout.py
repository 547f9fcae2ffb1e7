"""Mixout: mixes weights with those of a starting point. Lee et al., 2020."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks, _draw, _selection
from jaxdrop._types import Bits, Key, Rate, Where
from jaxdrop.drops import _remat


def mixout(
    key: Key,
    params: Any,
    target: Any,
    rate: Rate,
    *,
    where: Where = None,
    bits: Bits = None,
) -> Any:
    """Puts weights of `target` in the place of random weights, and keeps the mean.

    With t the target and p = `rate`, a weight w becomes t with probability p, and else
    `(w - p * t) / (1 - p)`: the mean is w. For fine-tuning: t is the pretrained model, and zero
    gives DropConnect. The gradient along w is `1 / (1 - p)` where w is kept, and else 0. Rate 0
    gives `params`, rate 1 the target.

    Args:
      key: A PRNG key, used once.
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      target: A tree of the same structure and shapes.
      rate: The probability of replacing a weight, in [0, 1]: a scalar; may be traced. It has no
        gradient.
      where: Which leaves it concerns; as for `dropconnect`.
      bits: Random bits a weight: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      A tree of the structure, shapes and dtypes of `params`; leaves not concerned are the same.

    Raises:
      TypeError: If a concerned leaf is not floating-point.
      ValueError: If the trees differ in structure or shape, a concrete rate is outside [0, 1] or
        not a scalar, or `where` is a tree of another structure or concerns no leaf.

    References:
      Lee, Cho and Kang, "Mixout: effective regularization to finetune large-scale pretrained
      language models", 2020. Their code leaves 1 / (1 - p) out of the gradient.

    >>> mixout(jax.random.key(0), jnp.full((2, 3), 3.0), jnp.ones((2, 3)), 0.5)
    Array([[1., 5., 1.],
           [5., 5., 5.]], dtype=float32)
    """
    rate = _checks.check_scalar(_checks.check_rate(rate), "rate")
    mask = _selection.selected(params, where)
    if jax.tree.structure(target) != jax.tree.structure(params):
        raise ValueError(
            f"`target` must have the structure of the parameters, {jax.tree.structure(params)}, "
            f"got {jax.tree.structure(target)}."
        )
    draw = _draw.prepare(rate, (), bits)
    if _checks.is_scalar(rate, 0):
        return params
    keys = iter(_bits.split(key, sum(jax.tree.leaves(mask))))

    def mix(leaf: Any, start: Any, use: bool) -> Any:
        if not use:
            return leaf
        leaf = _checks.check_floating(leaf, "params")
        start = _checks.check_same_shape(jnp.asarray(start), leaf, "target", "params").astype(leaf.dtype)
        return _mixout(next(keys), (leaf, start), (draw, _draw.scale_of(draw, leaf.dtype)))

    return jax.tree.map(mix, params, target, mask)


@_remat.redraw_in_backward()
def _mixout(seed: _bits.Seed, weights: tuple, scaled: tuple) -> jax.Array:
    (w, t), (draw, scale) = weights, scaled
    wide, dtype = _draw.widened(w.dtype), w.dtype
    # (w - p t) / (1 - p), exactly w where p is 0.
    beyond = (1 / scale if draw.width == 32 else scale) - 1
    w, t = w.astype(wide), t.astype(wide)
    mask = _draw.draw_mask(seed, draw, w.shape)
    return _draw.where_like(mask, jnp.where(beyond == 0, w, w + (w - t) * beyond), t).astype(dtype)
