"""DropMessage: zeroes elements of the messages of a graph at random. Fang et al., 2023."""

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout

__all__ = ["drop_message"]


def drop_message(key: Key, messages: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """Zeroes elements of the messages with probability `rate` and scales the rest.

    This is `dropout` of the message matrix: what each edge carries from its sender, before the
    receivers aggregate it. So each neighbor of a node sees another mask of the node's features, while
    dropout of the features shows the same mask to all. The mean is kept, also of sums and means of
    messages, so evaluation needs no scale. Where one decision per edge is wanted, use `drop_edge`.

    Args:
      key: A PRNG key, used once.
      messages: Floating-point messages, `[E, F]`, or `[E, H, F]` of several attention heads.
      rate: Probability of dropping an element, in [0, 1]: a scalar, or an array that broadcasts to
        `messages`, such as `[E, 1]` of one rate per edge; may be traced; no gradient.
      bits: Random bits per element: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `messages`.

    Raises:
      TypeError: If `messages` is not floating-point.
      ValueError: If `messages` has fewer than two axes, a concrete rate is outside [0, 1], or `bits`
        is not valid or too few to tell a concrete rate from 0 and 1.

    References:
      Fang et al., "DropMessage: unifying random dropping for graph neural networks", 2023.

    Examples:
      >>> import jax.numpy as jnp
      >>> x, senders, receivers = jnp.ones((3, 2)), jnp.array([0, 1, 1]), jnp.array([2, 2, 0])
      >>> messages = drop_message(jax.random.key(0), x[senders], 0.5)
      >>> jax.ops.segment_sum(messages, receivers, 3).shape
      (3, 2)
    """
    messages = _checks.check_rank(_checks.check_floating(messages, "messages"), 2, "[E, F]", "messages")
    return dropout(key, messages, rate, bits=bits)
