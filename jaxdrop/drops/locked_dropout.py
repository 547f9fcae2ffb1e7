"""Locked dropout: one mask for all time steps. Gal and Ghahramani, 2016; Merity et al., 2018."""

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout


def locked_dropout(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    time_axis: int = 1,
    bits: Bits = None,
) -> jax.Array:
    """Zeroes elements with probability `rate`, the same ones at every time step, and scales the rest.

    The mean and the variance of each element are those of `dropout`. This is the variational
    dropout of recurrent networks as it applies between layers; for the state inside a cell see
    the `RecurrentDropoutCell` of `jaxdrop.linen` and `jaxdrop.nnx`.

    Args:
      key: A PRNG key, used once.
      x: A floating-point batch of sequences, `[B, T, ...]`.
      rate: The probability of dropping, in [0, 1]; may be traced, or an array that broadcasts to
        the mask `[B, 1, ...]`. It has no gradient.
      time_axis: The axis of time.
      bits: Random bits a decision: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      An array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If `time_axis` is out of range, or for the reasons of `dropout`.

    References:
      Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural
      networks", 2016; Merity, Keskar and Socher, "Regularizing and optimizing LSTM language
      models", 2018.

    >>> locked_dropout(jax.random.key(0), jax.numpy.ones((1, 2, 6)), 0.5)
    Array([[[2., 2., 2., 0., 2., 2.],
            [2., 2., 2., 0., 2., 2.]]], dtype=float32)
    """
    x = _checks.check_floating(x)
    dims = _checks.check_axes((time_axis,), x.ndim, "time_axis")
    return dropout(key, x, rate, broadcast_dims=dims, bits=bits)
