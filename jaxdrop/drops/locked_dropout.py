"""Locked dropout: the same mask at all time steps. Gal and Ghahramani, 2016; Merity et al., 2018."""

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout

__all__ = ["locked_dropout"]


def locked_dropout(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    time_axis: int = 1,
    bits: Bits = None,
) -> jax.Array:
    """Zeroes elements with probability `rate`, the same ones at every time step, and scales the rest.

    Each element has the mean and variance of `dropout`. This is the variational dropout of
    recurrent networks, between layers; for the state inside a cell use `RecurrentDropoutCell` of
    `jaxdrop.linen` or `jaxdrop.nnx`.

    Args:
      key: A PRNG key, used once.
      x: Floating-point batch of sequences, `[B, T, ...]`.
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask
        `[B, 1, ...]`; may be traced; no gradient.
      time_axis: Axis of time.
      bits: Random bits per decision: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If `time_axis` is out of range, a concrete rate is outside [0, 1], or `bits` is not
        valid or too few to tell a concrete rate from 0 and 1.

    References:
      Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural
      networks", 2016; Merity, Keskar and Socher, "Regularizing and optimizing LSTM language
      models", 2018.

    Examples:
      >>> locked_dropout(jax.random.key(0), jax.numpy.ones((1, 2, 6)), 0.5)
      Array([[[2., 2., 2., 0., 2., 2.],
              [2., 2., 2., 0., 2., 2.]]], dtype=float32)
    """
    x = _checks.check_floating(x)
    dims = _checks.check_axes((time_axis,), x.ndim, "time_axis")
    return dropout(key, x, rate, broadcast_dims=dims, bits=bits)
