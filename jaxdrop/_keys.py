"""The check of a PRNG key."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_key(key: jax.Array) -> jax.Array:
    """One PRNG key, typed or the words of an untyped one."""
    typed = _is_typed(key, "`key` must be a PRNG key, such as `jax.random.key(0)`")
    if key.ndim != (0 if typed else 1):
        raise ValueError(f"`key` must be one PRNG key (`jax.vmap` takes a batch), got shape {key.shape}.")
    config: Any = jax.config  # its flags are attributes that no stub declares
    if not typed and key.shape != (words := _words_of(config.jax_default_prng_impl)):
        raise ValueError(
            f"`key` must be a typed key (`jax.random.key`) or have {words[0]} words, as those of the default "
            f"implementation, got {key.shape[0]}."
        )
    return key


def check_keys(keys: jax.Array) -> jax.Array:
    """PRNG keys with one leading axis, typed or the words of untyped ones."""
    expected = "`keys` must be PRNG keys with one leading axis, such as `jax.random.split(key, 4)`"
    axes = 1 if _is_typed(keys, expected) else 2
    if keys.ndim != axes:
        raise ValueError(f"{expected}, got shape {keys.shape}.")
    return keys


def _is_typed(key: jax.Array, expected: str) -> bool:
    """Whether keys are typed; raises if they are neither that nor the words of untyped ones."""
    is_array = isinstance(key, jax.Array | np.ndarray)
    typed = is_array and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed and not (is_array and key.dtype == np.uint32):
        raise TypeError(f"{expected}, got {f'an array of {key.dtype}' if is_array else type(key).__name__}.")
    return typed


@cache
def _words_of(impl: str) -> tuple[int, ...]:
    """The shape of the words of a key of an implementation."""
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=impl))).shape
