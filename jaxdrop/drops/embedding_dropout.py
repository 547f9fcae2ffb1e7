"""Embedding dropout: zeroes whole words of an embedding table. Gal and Ghahramani, 2016."""

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout

__all__ = ["embedding_dropout"]


def embedding_dropout(key: Key, table: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """Zeroes whole rows of an embedding table with probability `rate` and scales the rest.

    A word is dropped wherever it occurs in the batch. The mean of each element is kept.

    Args:
      key: A PRNG key, used once.
      table: Floating-point table, `[V, ...]`: one row per word.
      rate: Probability of dropping a word, in [0, 1]: a scalar, or an array that broadcasts to the
        mask `[V, 1]`; may be traced; no gradient.
      bits: Random bits per word: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `table`.

    Raises:
      TypeError: If `table` is not floating-point.
      ValueError: If `table` has no axis, a concrete rate is outside [0, 1], or `bits` is not valid
        or too few to tell a concrete rate from 0 and 1.

    References:
      Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural
      networks", 2016.

    Examples:
      >>> embedding_dropout(jax.random.key(0), jax.numpy.ones((4, 2)), 0.5)[:, 0]
      Array([2., 2., 2., 0.], dtype=float32)
    """
    table = _checks.check_rank(_checks.check_floating(table, "table"), 1, "[V, ...]", "table")
    return dropout(key, table, rate, broadcast_dims=range(1, table.ndim), bits=bits)
