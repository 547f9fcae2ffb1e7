"""Attention over a ring of devices: each holds a part of the queries and of the keys. Liu et al., 2023.

Keys and values travel from device to device, once around. Each device adds up, for its own queries,
what the keys of one device at a time contribute, relative to the largest score so far. The backward
pass sends them around again, with their gradients, and computes scores and draws masks again. So a
device stores its own part, and that of one other.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdrop import _carries, _checks, _meshes
from jaxdrop._types import Numeric, PyTree
from jaxdrop.drops import _attention
from jaxdrop.drops._drop_key import lowest_with_weight


class _Ring(NamedTuple):
    """The devices, and the number of blocks of a device's queries."""

    axis_name: str
    blocks: int


class _Parcel(NamedTuple):
    """What travels: the keys of a device, `[..., K, S, D]`, their values and their segments."""

    keys: jax.Array
    values: jax.Array
    segments: jax.Array | None


class _Sums(NamedTuple):
    """What the keys so far contribute to each query.

    Attributes:
      total: The sum of exponents times values, with dropout, `[..., K, R, T, E]`.
      norm: The sum of exponents, `[..., H, T, 1]`.
      largest: The largest score, `[..., H, T, 1]`, of which both are relative; -inf without keys.
    """

    total: jax.Array
    norm: jax.Array
    largest: jax.Array


# Of each query, for `drop_key`: the lowest score with a weight, and whether a drawn key has one.
_Rows = tuple[jax.Array, jax.Array] | None


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    how: _attention.Attention,
    *,
    block_size: int,
    axis_name: str,
) -> jax.Array:
    """Attention in `shard_map`, for the queries of this device.

    Args:
      queries: Those of this device, `[..., T / n, H, D]`.
      keys: Those of this device, `[..., S / n, K, D]`.
      values: Those of this device, `[..., S / n, K, E]`.
      how: What happens between the products. Its shape is that of all scores; mask and bias are of
        this device's queries and all keys; the key segments are of this device.
      block_size: The number of queries at a time, at most.
      axis_name: The mesh axis.

    Returns:
      Array `[..., T / n, H, E]` of the dtype of the queries.
    """
    length, size = max(queries.shape[-3], 1), max(block_size, 1)
    # Blocks of equal sizes: their masks and results need no padding.
    blocks = next(count for count in range(-(-length // size), length + 1) if length % count == 0)
    run = partial(_attend, ring=_Ring(axis_name, blocks))
    out = jax.sharding.PartitionSpec(*_meshes.partition(queries)[:-1])
    return _meshes.on_automatic_axes(run, queries, keys, values, how, out=out)


@partial(jax.jit, static_argnames="ring")
def _attend(
    queries: jax.Array, keys: jax.Array, values: jax.Array, how: _attention.Attention, *, ring: _Ring
) -> jax.Array:
    dtype = queries.dtype
    data = (*_attention.grouped(queries, keys, values), how.bias)
    # The gradients of all of them vary over the mesh axes that any varies over.
    axes = frozenset().union(*map(_carries.axes_of, jax.tree.leaves((data, how))))
    data = jax.tree.map(lambda x: _carries.cast(x, axes - _carries.axes_of(x)), data)
    total, norm = _sums(ring, *data, dataclasses.replace(how, bias=None))
    return _attention.ungrouped(_attention.divided(total, norm), dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sums(ring: _Ring, *data: PyTree) -> tuple[jax.Array, jax.Array]:
    return _forward(ring, *data)[0]


def _forward(
    ring: _Ring,
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    bias: jax.Array | None,
    how: _attention.Attention,
) -> tuple[tuple[jax.Array, jax.Array], PyTree]:
    parcel = _Parcel(keys, values, how.key_segments)
    own = dataclasses.replace(how, bias=bias)
    blocks = _Blocks(ring, queries, own)
    shape = (*queries.shape[:-4], queries.shape[-4] * queries.shape[-3], queries.shape[-2], 1)
    none = jnp.full(shape, -jnp.inf, _checks.widened(queries.dtype))
    rows = None
    if how.dropping is not None and how.dropping.of_keys:
        # Whether a row has lost all its keys shows only when all have passed.
        without_values = parcel._replace(values=values[..., :0])
        largest, drawn = _around(ring, partial(blocks.each, _maxima), without_values, (none, none))
        lowest = lowest_with_weight(largest)
        rows = lowest, (drawn >= lowest) & (drawn != -jnp.inf)
    total = jnp.zeros((*queries.shape[:-1], values.shape[-1]), none.dtype)
    sums = _Sums(total, jnp.zeros_like(none), none)
    sums, _ = _around(ring, partial(blocks.each, _add), parcel, (sums, rows))
    residuals = queries, keys, values, bias, how, _finite(sums.largest), rows
    return (sums.total, sums.norm), residuals


def _backward(ring: _Ring, residuals: PyTree, cotangents: tuple[jax.Array, jax.Array]) -> PyTree:
    queries, keys, values, bias, how, largest, rows = residuals

    def step(parcel: PyTree, first: Numeric, found: PyTree) -> tuple[PyTree, PyTree]:
        own, (keys_grad, values_grad) = parcel

        def sums(queries: jax.Array, keys: jax.Array, values: jax.Array, bias: jax.Array | None) -> PyTree:
            blocks = _Blocks(ring, queries, dataclasses.replace(how, bias=bias))
            here = _Parcel(keys, values, own.segments)
            return blocks.each(jax.checkpoint(_sums_of_block), here, first, (largest, rows))

        _, vjp = jax.vjp(sums, queries, own.keys, own.values, bias)
        queries_part, keys_part, values_part, bias_part = vjp(cotangents)
        found = jax.tree.map(jnp.add, found, (queries_part, bias_part))
        return (own, (keys_grad + keys_part, values_grad + values_part)), found

    def zeros(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: jnp.zeros_like(x, _checks.widened(x.dtype)), tree)

    parcel = _Parcel(keys, values, how.key_segments), zeros((keys, values))
    (_, around), own = _travel(ring, step, parcel, zeros((queries, bias)), keys.shape[-2])
    grads = own[0], *around, own[1]
    grads = jax.tree.map(lambda grad, x: grad.astype(x.dtype), grads, (queries, keys, values, bias))
    return *grads, None


_sums.defvjp(_forward, _backward)


class _Blocks:
    """The queries of a device, in blocks."""

    def __init__(self, ring: _Ring, queries: jax.Array, how: _attention.Attention) -> None:
        self._count, self._length = ring.blocks, queries.shape[-2]
        self._size = self._length // ring.blocks
        self._queries = self._split(queries)
        self._rows, self._of_block = _attention.cut_rows(how, self._length, self._split)
        self._first = lax.axis_index(ring.axis_name) * self._length

    def each(self, fun: Callable[..., PyTree], parcel: _Parcel, first: Numeric, own: PyTree) -> PyTree:
        """`fun(queries, parcel, how, start, first, own)` of each block; `own` and results have rows."""

        def block(part: PyTree) -> PyTree:
            start, queries, rows, own = part
            how = _columns(self._of_block(rows), parcel, first)
            return fun(queries, parcel, how, start, first, own)

        starts = self._first + jnp.arange(self._count, dtype=np.int32) * self._size
        parts = starts, self._queries, self._rows, jax.tree.map(self._split, own)
        return jax.tree.map(self._joined, lax.map(block, parts))

    def _split(self, x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(*x.shape[:-2], self._count, self._size, x.shape[-1]), -3, 0)

    def _joined(self, x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, 0, -3)
        return x.reshape(*x.shape[:-3], self._length, x.shape[-1])


def _columns(how: _attention.Attention, parcel: _Parcel, first: Numeric) -> _attention.Attention:
    """The options for the keys of a parcel."""
    places = parcel.keys.shape[-2]

    def columns(x: jax.Array | None) -> jax.Array | None:
        if x is None or x.shape[-1] == 1:
            return x
        return lax.dynamic_slice_in_dim(x, first, places, -1)

    bias, mask = columns(how.bias), columns(how.mask)
    return dataclasses.replace(how, bias=bias, mask=mask, key_segments=parcel.segments)


def _maxima(
    queries: jax.Array,
    parcel: _Parcel,
    how: _attention.Attention,
    start: Numeric,
    first: Numeric,
    own: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """The largest score of each query, and of the keys that are drawn."""
    scores = _attention.scores_of(queries, parcel.keys, how, start, first)
    drawn = jnp.where(_drawn(how, scores, start, first), scores, -jnp.inf)
    return jnp.maximum(own[0], _largest(scores)), jnp.maximum(own[1], _largest(drawn))


def _add(
    queries: jax.Array,
    parcel: _Parcel,
    how: _attention.Attention,
    start: Numeric,
    first: Numeric,
    own: tuple[_Sums, _Rows],
) -> tuple[_Sums, _Rows]:
    """The sums with those of a parcel."""
    (total, norm, before), rows = own
    scores = _scores_left(queries, parcel, how, start, first, rows)
    largest = jnp.maximum(before, _largest(scores))
    scale = jnp.exp(before - _finite(largest))
    more, more_norm = _attention.sums_of(scores, _finite(largest), parcel.values, how, start, first)
    total = total * scale.reshape(*total.shape[:-1], 1) + more
    return _Sums(total, norm * scale + more_norm, largest), rows


def _sums_of_block(
    queries: jax.Array,
    parcel: _Parcel,
    how: _attention.Attention,
    start: Numeric,
    first: Numeric,
    own: tuple[jax.Array, _Rows],
) -> tuple[jax.Array, jax.Array]:
    largest, rows = own
    scores = _scores_left(queries, parcel, how, start, first, rows)
    return _attention.sums_of(scores, largest, parcel.values, how, start, first)


def _scores_left(
    queries: jax.Array,
    parcel: _Parcel,
    how: _attention.Attention,
    start: Numeric,
    first: Numeric,
    rows: _Rows,
) -> jax.Array:
    """Scores, -inf where a key is hidden or dropped."""
    scores = _attention.scores_of(queries, parcel.keys, how, start, first)
    if rows is None:
        return scores
    lowest, some = rows
    kept = (_drawn(how, scores, start, first) | ~some) & ~(scores < lowest)
    return jnp.where(kept, scores, -jnp.inf)


def _drawn(how: _attention.Attention, scores: jax.Array, start: Numeric, first: Numeric) -> jax.Array:
    assert how.dropping is not None
    return how.dropping.kept(start, scores.shape[-2], first, scores.shape[-1])


def _largest(scores: jax.Array) -> jax.Array:
    return lax.stop_gradient(scores.max(-1, keepdims=True, initial=-jnp.inf))


def _finite(largest: jax.Array) -> jax.Array:
    return jnp.where(largest == -jnp.inf, 0, largest)


def _around(ring: _Ring, each: Callable[..., PyTree], parcel: _Parcel, found: PyTree) -> PyTree:
    """`found`, updated with the parcels of all devices, by `each(parcel, first, found)`."""

    def step(parcel: _Parcel, first: Numeric, found: PyTree) -> tuple[_Parcel, PyTree]:
        return parcel, each(parcel, first, found)

    return _travel(ring, step, parcel, found, parcel.keys.shape[-2])[1]


def _travel(
    ring: _Ring, step: Callable[..., PyTree], parcel: PyTree, found: PyTree, places: int
) -> tuple[PyTree, PyTree]:
    """Sends parcels once around; `step(parcel, first, found)` updates a parcel and what is found here."""
    size, here = lax.axis_size(ring.axis_name), lax.axis_index(ring.axis_name)
    following = [(i, (i + 1) % size) for i in range(size)]

    def body(carry: PyTree) -> PyTree:
        passed, parcel, found = carry
        parcel, found = step(parcel, (here - passed) % size * places, found)
        parcel = jax.tree.map(lambda x: lax.ppermute(x, ring.axis_name, following), parcel)
        return passed + 1, parcel, found

    carry = _carries.varying(body, (jnp.int32(0), parcel, found))
    return lax.scan(lambda carry, _: (body(carry), None), carry, length=size)[0][1:]
