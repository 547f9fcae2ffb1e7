"""DropConnect: zeroes weights at random. Wan et al., 2013."""

from typing import Any

import jax

from jaxdrop import _bits, _checks, _selection
from jaxdrop._types import Bits, Key, Rate, Where
from jaxdrop.drops.dropout import dropout


def dropconnect(
    key: Key,
    params: Any,
    rate: Rate,
    *,
    where: Where = None,
    bits: Bits = None,
) -> Any:
    """Applies `dropout` to the weights of a tree of parameters, each leaf with a key of its own.

    One draw a call: all examples of the batch, and all steps of a sequence, share it. On the
    recurrent kernels of an LSTM it is the weight dropout of AWD-LSTM. Rate 0 is the identity.
    The backward pass draws the masks again; a dropped weight has no gradient.

    Args:
      key: A PRNG key, used once.
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      rate: The probability of dropping a weight, in [0, 1]: a scalar; may be traced. It has no
        gradient.
      where: Which leaves it concerns, by default the weights; see `penalties.weight_mask`.
      bits: Random bits a weight: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      A tree of the structure, shapes and dtypes of `params`; leaves not concerned are the same.

    Raises:
      TypeError: If a concerned leaf is not floating-point.
      ValueError: If a concrete rate is outside [0, 1] or not a scalar, or `where` is a tree of
        another structure or concerns no leaf.

    References:
      Wan et al., "Regularization of neural networks using DropConnect", 2013; Merity, Keskar and
      Socher, "Regularizing and optimizing LSTM language models", 2018.

    >>> import jax.numpy as jnp
    >>> dropconnect(jax.random.key(0), {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, 0.5)
    {'bias': Array([1., 1., 1.], dtype=float32), 'kernel': Array([[0., 2., 0.],
           [2., 2., 2.]], dtype=float32)}
    """
    rate = _checks.check_scalar(_checks.check_rate(rate), "rate")
    mask = _selection.selected(params, where)
    _checks.choose_width(bits, rate)
    if _checks.is_scalar(rate, 0):
        return params
    keys = iter(_bits.split(key, sum(jax.tree.leaves(mask))))
    return jax.tree.map(
        lambda leaf, use: dropout(next(keys), leaf, rate, bits=bits) if use else leaf, params, mask
    )
