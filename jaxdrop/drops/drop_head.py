"""DropHead: zeroes whole attention heads at random. Zhou et al., 2020."""

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout

__all__ = ["drop_head"]


def drop_head(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    head_axis: int = -2,
    bits: Bits = None,
) -> jax.Array:
    """Zeroes whole heads of each example with probability `rate` and scales the rest.

    Each element has the mean and variance of `dropout`; the elements of one head share a decision.
    The paper scales by the number of heads divided by the number kept, which changes the mean
    because all may be dropped. The scale here is that of `dropout`, and the mean is exact.

    Args:
      key: A PRNG key, used once.
      x: Floating-point outputs of the heads before the output projection, `[B, T, H, D]` as in Flax.
      rate: Probability of dropping a head, in [0, 1]: a scalar, or an array that broadcasts to the
        mask `[B, 1, H, 1]`; may be traced; no gradient.
      head_axis: Axis of the heads; not 0, which is the batch.
      bits: Random bits per head: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If `head_axis` is out of range or the batch axis, a concrete rate is outside
        [0, 1], or `bits` is not valid or too few to tell a concrete rate from 0 and 1.

    References:
      Zhou et al., "Scheduled DropHead: a regularization method for transformer models", 2020.

    Examples:
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
