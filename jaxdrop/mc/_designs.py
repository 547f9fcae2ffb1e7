"""Designs of samples: counts of predictors that are told their numbers, and balanced sets."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _balanced, _bits, _checks
from jaxdrop._types import Key, PyTree


def count_rows(tree: PyTree, name: str) -> int:
    """The size of the leading axis that the arrays of a tree share."""
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        found = ", ".join(sorted(str(size[0]) if size else "none" for size in sizes)) or "no arrays"
        raise ValueError(f"`{name}` must hold arrays that share one non-empty leading axis, got {found}.")
    ((count,),) = sizes
    return count


def as_partial(function: Callable[..., PyTree], expected: str) -> jax.tree_util.Partial:
    """A function as a pytree, so that predictors made of it share programs."""
    if not callable(function):
        raise TypeError(f"`predict` must be {expected}, got {type(function).__name__}.")
    return function if isinstance(function, jax.tree_util.Partial) else jax.tree_util.Partial(function)


class Design(NamedTuple):
    """The counts of an `Indexed`, or the size of balanced sets of samples."""

    max_samples: int | None = None
    clusters: int | None = None
    balanced: int | None = None


def check_balanced(balanced: int | None, **counts: int) -> int | None:
    """The size of balanced sets, as an `int`; checks that samples begin and end with a set.

    A part of a set would be neither balanced nor independent of the rest of it.
    """
    if balanced is None:
        return None
    size = _checks.check_choice(_checks.check_integer(balanced, "balanced"), _balanced.SIZES, "balanced")
    for name, count in counts.items():
        if count % size:
            raise ValueError(
                f"`{name}` must be a multiple of `balanced`, {size}, so that all sets are whole, got {count}."
            )
    return size


def balanced_design(balanced: int, is_indexed: bool, key: Key) -> Design:
    """The design of balanced sets, of a predictor that has no other."""
    if is_indexed:
        raise ValueError(
            "`balanced` must be None for an `Indexed` predictor, such as an `ensemble`, which is told the "
            f"numbers of its samples and may have another design, got {balanced}."
        )
    typed = _typed(key)
    if jax.eval_shape(jax.random.key_data, typed).shape not in ((2,), (4,)):
        raise ValueError(
            "`key` must be a Threefry or `rbg` key for balanced sets, got one of the implementation "
            f"{jax.random.key_impl(typed)}."
        )
    return Design(balanced=balanced)


def fitted_chunk(chunk: int, size: int) -> int:
    """The largest chunk, up to one, of whole sets or of an equal part of a set."""
    return chunk - chunk % size if chunk >= size else 1 << (chunk.bit_length() - 1)


def key_in_set(key: Key, t: jax.Array, size: int) -> Key:
    """The key of sample t: place t % size in set t // size, which has the words of `fold_in(key, t // size)`.

    So the first sample of each set is an independent one. Keys of other implementations are hashed to
    Threefry's before.
    """
    key = _typed(key)
    words = jax.random.key_data(key)
    if words.shape != (2,):
        words = _bits.split_seed(_bits.Seed(words, jax.random.key_impl(key)), 1)[0].words
    own = jax.random.fold_in(jax.random.wrap_key_data(words, impl="threefry2x32"), t // size)
    return _balanced.balanced_key(jax.random.key_data(own), (t % size).astype(jnp.uint32), size)


def _typed(key: Key) -> Key:
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
