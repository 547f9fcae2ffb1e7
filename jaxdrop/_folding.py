"""A kind of Threefry key whose `fold_in` compiles fast on a CPU.

There `jax.random.fold_in` is a rolled loop, which takes about as long to compile as a draw of dropout. Keys
of this kind give the same words by an unrolled hash in a separate computation. On other backends they fold
as JAX does.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.random import define_prng_impl

from jaxdrop import _bits
from jaxdrop._types import Key

_BASE = "threefry2x32"


def can_convert(key: Key) -> bool:
    """Whether this is a Threefry key, typed or the words of an untyped one."""
    return jax.random.key_impl(key) == _BASE


def converted(key: Key) -> jax.Array:
    """A Threefry key as one of this kind."""
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_IMPL)


def restored(key: Key, like: Key) -> Key:
    """What was derived from a key of this kind, as if derived from `like`; other keys as they are."""
    if jax.random.key_impl(key) != _IMPL:
        return key
    words = jax.random.key_data(key)
    return _plain(words) if jnp.issubdtype(like.dtype, jax.dtypes.prng_key) else words


def _plain(words: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(words, impl=_BASE)


@jax.jit
def _hash(words: jax.Array, data: jax.Array) -> jax.Array:
    return jnp.stack(_bits.threefry((words[0], words[1]), (jnp.zeros((), np.uint32), data)))


def _fold_apart(words: jax.Array, data: jax.Array) -> jax.Array:
    """The fold as a separate computation.

    The barrier hides from XLA that the data is a constant. Otherwise a program whose folds share one key
    takes as long to compile as with loops.
    """
    data = lax.optimization_barrier(data)
    with set_xla_metadata(inlineable="false"):
        return _hash(words, data)


@jax.jit
def _fold_in(words: jax.Array, data: jax.Array) -> jax.Array:
    def by_jax(words: jax.Array, data: jax.Array) -> jax.Array:
        return jax.random.key_data(jax.random.fold_in(_plain(words), data))

    return lax.platform_dependent(words, data, cpu=_fold_apart, default=by_jax)


_IMPL = define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jax.random.key_data(jax.random.key(seed, impl=_BASE)),
    split=lambda words, shape: jax.random.key_data(jax.random.split(_plain(words), shape)),
    random_bits=lambda words, width, shape: jax.random.bits(_plain(words), shape, f"uint{width}"),
    fold_in=_fold_in,
    name="folding",
    tag="folding",
)
