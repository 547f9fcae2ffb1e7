"""The samples of a predictor, chunk by chunk, within a trace."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import ArrayLike, Key, PyTree
from jaxdrop.mc import _devices, _prefix, _program
from jaxdrop.mc._devices import BATCH, SAMPLES
from jaxdrop.mc._program import Arrays, Execution, Static


class Sampler(NamedTuple):
    """A sampler within a trace.

    Attributes:
      draw: From the number of a chunk, a number of Python or traced, to its samples `[C, B, ...]`.
      outputs: The types of one sample.
    """

    draw: Callable[[int | jax.Array], PyTree]
    outputs: PyTree


def make_sampler(static: Static, arrays: Arrays, key: Key, x: PyTree, execution: Execution) -> Sampler:
    """The sampler of a predictor; key-free parts are evaluated here."""
    x = _devices.shard(x, execution.layout, BATCH)
    of_source = _program.function(static, arrays, key, x, execution.shared)
    parts = _prefix.KeyFreeSplit(of_source, static.like_source(arrays, key))
    predict = parts.hoisted()
    _, rows = static.bind(arrays)

    def draw(chunk: int | jax.Array) -> PyTree:
        index = jnp.asarray(chunk * execution.chunk + np.arange(execution.chunk, dtype=np.int32))
        index = _devices.shard(index, execution.layout, SAMPLES)
        given = index, _devices.shard(_rows_of(rows, chunk, index), execution.layout, SAMPLES)
        # `vmap` moves the axes of keys, which `jax.debug_key_reuse` counts as a use of them.
        over = jax.lax.map if jax.config.jax_debug_key_reuse else _vmap
        samples = over(lambda of: predict(static.source(key, *of)), given)
        return _devices.shard(samples, execution.layout, SAMPLES, BATCH)

    return Sampler(draw, parts.outputs)


def _rows_of(rows: PyTree, chunk: int | jax.Array, index: jax.Array) -> PyTree:
    """The rows of some samples: their own arrays without a copy, if these samples are all."""

    def of_samples(leaf: ArrayLike) -> jax.Array:
        leaf = jnp.asarray(leaf)
        is_all = isinstance(chunk, int) and len(index) == len(leaf)
        return leaf if is_all else jnp.take(leaf, index % len(leaf), 0, mode="clip")

    return jax.tree.map(of_samples, rows)


def _vmap(fun: Callable[[PyTree], PyTree], given: PyTree) -> PyTree:
    return jax.vmap(fun)(given)
