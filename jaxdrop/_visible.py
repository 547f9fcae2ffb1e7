"""A kind of key whose draws stay visible in a traced program.

The program of a function of such a key shows each draw as one call of a function of `jax.random`, such as
`_bernoulli`, with the key and the probability as its operands. All draws of the library are then made by
these functions. So an analysis can tell which law each draw has; see `jaxdrop.mc.moments`.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.extend.random import define_prng_impl

_BASE = "threefry2x32"


def _seed(seed: jax.Array) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed, impl=_BASE))


def _split(words: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.key_data(jax.random.split(_plain(words), shape))


def _fold_in(words: jax.Array, data: jax.Array | int) -> jax.Array:
    return jax.random.key_data(jax.random.fold_in(_plain(words), data))


def _bits(words: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.bits(_plain(words), shape, f"uint{width}")


def _plain(words: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(words, impl=_BASE)


# The kind, as `jax.random.key_impl` gives it. Its keys, and what is derived from them, are as those of
# Threefry.
IMPL = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_bits,
    fold_in=_fold_in,
    name="visible",
    tag="visible",
)


def key(words: jax.Array) -> jax.Array:
    """The key of this kind with the given words."""
    return jax.random.wrap_key_data(words, impl=IMPL)


def bernoulli(words: jax.Array, p: jax.Array | np.ndarray, shape: Sequence[int]) -> jax.Array:
    """A boolean mask that is true with probability `p`."""
    return jax.random.bernoulli(key(words), p, tuple(shape))


def uniform(words: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Float32 draws in (0, 1)."""
    return jax.random.uniform(key(words), tuple(shape), np.float32)


def normal(words: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Standard normal float32 draws."""
    return jax.random.normal(key(words), tuple(shape), np.float32)


def split(words: jax.Array, count: int) -> jax.Array:
    """The words of `count` keys, `[count, 2]`."""
    return jax.random.key_data(jax.random.split(key(words), count))
