"""DropConnect: zeroes weights at random. Wan et al., 2013."""

import jax

from jaxdrop import _bits, _checks, _selection
from jaxdrop._types import ArrayLike, Bits, Key, PyTree, Rate, Where
from jaxdrop.drops.dropout import dropout

__all__ = ["dropconnect"]


def dropconnect(
    key: Key,
    params: PyTree,
    rate: Rate,
    *,
    where: Where = None,
    bits: Bits = None,
) -> PyTree:
    """Zeroes weights of a tree of parameters with probability `rate` and scales the rest.

    Each selected leaf gets `dropout` with its own key; an NNX variable at several paths is one leaf.
    One draw per call: all examples of a batch and all steps of a sequence share it. On the recurrent
    kernels of an LSTM it is the weight dropout of AWD-LSTM. Rate 0 is the identity. The backward pass
    redraws the masks; a dropped weight has no gradient.

    Args:
      key: A PRNG key, used once.
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      rate: Probability of dropping a weight, in [0, 1]: a scalar; may be traced; no gradient.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).
      bits: Random bits per weight: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Tree of the structure, shapes and dtypes of `params`; other leaves are returned unchanged.

    Raises:
      TypeError: If a selected leaf is not floating-point.
      ValueError: If a concrete rate is outside [0, 1] or not a scalar, or `where` is a tree of
        another structure or selects no leaf.

    References:
      Wan et al., "Regularization of neural networks using DropConnect", 2013; Merity, Keskar and
      Socher, "Regularizing and optimizing LSTM language models", 2018.

    Examples:
      >>> import jax.numpy as jnp
      >>> dropconnect(jax.random.key(0), {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, 0.5)
      {'bias': Array([1., 1., 1.], dtype=float32), 'kernel': Array([[0., 2., 0.],
             [2., 2., 2.]], dtype=float32)}
    """
    rate = _checks.check_scalar(_checks.check_rate(rate), "rate")
    mask = _selection.selected_floating(params, where)
    _checks.choose_width(bits, rate)
    if _checks.is_scalar(rate, 0):
        return params
    places = _selection.places(params, mask)
    keys = _bits.split(_checks.check_key(key), len({*places} - {None}))

    def drop(leaf: ArrayLike, place: int | None) -> ArrayLike:
        if place is None:
            return leaf
        return dropout(keys[place], leaf, rate, bits=bits)

    leaves, structure = jax.tree.flatten(params)
    return structure.unflatten(map(drop, leaves, places))
