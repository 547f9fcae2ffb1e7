"""Streams of keys that begin anew from one key."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdrop._types import Key


def restart(streams: Sequence[nnx.RngStream], key: Key, others: int = 0) -> list[Key]:
    """Begins streams anew.

    A single one takes the key itself; n take `jax.random.split(key, n)`, in their order. Others that
    need a key of their own count as further ones.

    Args:
      streams: The streams, which change.
      key: A PRNG key, used once.
      others: The number of further keys.

    Returns:
      The further keys.
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    total = len(streams) + others
    keys = [key] if total == 1 else list(jax.random.split(key, max(total, 1)))
    for stream, own in zip(streams, keys, strict=False):
        # Replaced, not overwritten: it may be a key of another implementation.
        # Stacked layers have one each.
        stacked = stream.key[...].shape
        stream.key.set_value(jax.random.split(own, stacked) if stacked else own)
        stream.count.set_value(jnp.zeros_like(stream.count[...]))
    return keys[len(streams) : total]
