"""Drop head: zeroes whole attention heads at random. Zhou et al., 2020."""

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout


def drop_head(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    head_axis: int = -2,
    bits: Bits = None,
) -> jax.Array:
    """Zeroes whole heads of each example with probability `rate` and scales the rest.

    The mean and the variance of each element are those of `dropout`; the elements of one head go
    together. The paper scales by the number of heads over those kept, which loses the mean where
    all are dropped; the scale here is that of `dropout`, and the mean is exact.

    Args:
      key: A PRNG key, used once.
      x: The floating-point outputs of the heads before they are mixed, `[B, T, H, D]` as in Flax.
      rate: The probability of dropping a head, in [0, 1]; may be traced, or an array that
        broadcasts to the mask `[B, 1, H, 1]`. It has no gradient.
      head_axis: The axis of the heads; not 0, which is the batch.
      bits: Random bits a head: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      An array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If `head_axis` is out of range or the batch axis, or for the reasons of `dropout`.

    References:
      Zhou et al., "Scheduled DropHead: a regularization method for transformer models", 2020.

    >>> drop_head(jax.random.key(4), jax.numpy.ones((1, 5, 4, 2)), 0.5)[0, 3]
    Array([[0., 0.],
           [2., 2.],
           [2., 2.],
           [0., 0.]], dtype=float32)
    """
    x = _checks.check_rank(_checks.check_floating(x), 2, "[B, ..., H, D]")
    (head,) = _checks.check_axes((head_axis,), x.ndim, "head_axis")
    if head == 0:
        raise ValueError(f"`head_axis` must not be the batch axis 0, got {head_axis}.")
    shared = tuple(axis for axis in range(1, x.ndim) if axis != head)
    return dropout(key, x, rate, broadcast_dims=shared, bits=bits)
