"""Embedding dropout: zeroes whole words of an embedding table. Gal and Ghahramani, 2016."""

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout


def embedding_dropout(key: Key, table: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """Zeroes whole rows of an embedding table with probability `rate` and scales the rest.

    A word is dropped wherever it occurs in the batch. The mean of each element is kept.

    Args:
      key: A PRNG key, used once.
      table: A floating-point table, `[V, ...]`: a row for each word.
      rate: The probability of dropping a word, in [0, 1]; may be traced, or an array that
        broadcasts to the mask `[V, 1]`. It has no gradient.
      bits: Random bits a word: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      A table of the shape, dtype and sharding of `table`.

    Raises:
      TypeError: If `table` is not floating-point.
      ValueError: If `table` has no axis, or for the reasons of `dropout`.

    References:
      Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural
      networks", 2016.

    >>> embedding_dropout(jax.random.key(0), jax.numpy.ones((4, 2)), 0.5)[:, 0]
    Array([2., 2., 2., 0.], dtype=float32)
    """
    table = _checks.check_rank(_checks.check_floating(table, "table"), 1, "[V, ...]", "table")
    return dropout(key, table, rate, broadcast_dims=range(1, table.ndim), bits=bits)
