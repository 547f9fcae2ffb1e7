"""The check of a PRNG key."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_key(key: jax.Array) -> jax.Array:
    """One PRNG key, typed or the words of an untyped one."""
    is_array = isinstance(key, jax.Array | np.ndarray)
    typed = is_array and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed and not (is_array and key.dtype == np.uint32):
        came = f"an array of {key.dtype}" if is_array else type(key).__name__
        raise TypeError(f"`key` must be a PRNG key, such as `jax.random.key(0)`, got {came}.")
    if key.ndim != (0 if typed else 1):
        raise ValueError(f"`key` must be one PRNG key (`jax.vmap` takes a batch), got shape {key.shape}.")
    config: Any = jax.config  # its flags are attributes that no stub declares
    if not typed and key.shape != (words := _words_of(config.jax_default_prng_impl)):
        raise ValueError(
            f"`key` must be a typed key (`jax.random.key`) or have {words[0]} words, as those of the default "
            f"implementation, got {key.shape[0]}."
        )
    return key


@cache
def _words_of(impl: str) -> tuple[int, ...]:
    """The shape of the words of a key of an implementation."""
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=impl))).shape
