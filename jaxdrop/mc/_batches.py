"""Batches of a data set: of arrays or of an iterable, on the host, padded, read one ahead."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxdrop import _checks
from jaxdrop._types import PyTree

_T = TypeVar("_T")
_END = object()


class Examples(NamedTuple):
    """Inputs and targets, with a leading axis of examples."""

    x: PyTree
    targets: PyTree


class Batch(NamedTuple):
    """A batch that may be skipped.

    Attributes:
      rows: The number of examples.
      load: Reads them to NumPy arrays, without padding.
    """

    rows: int
    load: Callable[[], Examples]


class Source(NamedTuple):
    """The batches of a data set.

    Attributes:
      batches: The batches in order, the first included.
      first: The first batch.
      size: The number of examples that each batch is padded to.
      total: The number of examples in all; None if it is known at the end only.
    """

    batches: Iterator[Batch]
    first: Examples
    size: int
    total: int | None

    def rows_of(self, index: int, parts: int) -> int | None:
        """The number of examples in batches index, index + parts, ...; None if it is not known."""
        if self.total is None:
            return None
        starts = range(index * self.size, self.total, parts * self.size)
        return sum(min(self.size, self.total - start) for start in starts)


def source(data: PyTree, targets: PyTree, batch_size: int | None, *, exact: bool) -> Source:
    """Checks the data, and reads the first batch.

    Args:
      data: Arrays `[N, ...]`, or an iterable of batches.
      targets: Arrays `[N, ...]`, or None.
      batch_size: The number of examples per batch; None for an iterable.
      exact: If false, a batch that holds all the examples has their size.
    """
    if isinstance(data, list):
        raise TypeError(
            "`data` must be arrays with an axis of examples or an iterator of batches, got a list: pass "
            "`numpy.stack(rows)` for rows, `iter(batches)` for batches, a tuple for several arrays."
        )
    if not hasattr(data, "dtype") and hasattr(data, "__iter__") and jax.tree_util.all_leaves([data]):
        return _of_iterable(data, targets, batch_size)
    return _of_arrays(Examples(data, targets), batch_size, exact)


def padded(examples: Examples, size: int) -> Examples:
    """The examples, with copies of the last one up to the size."""

    def pad(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])

    return examples if count(examples) == size else jax.tree.map(pad, examples)


def ahead(items: Iterator[_T]) -> Generator[_T, None, None]:
    """The items; a thread makes the next one while the caller uses one."""
    # Both settings may be of the calling thread alone.
    x64, device = jax.config.jax_enable_x64, jax.config.jax_default_device

    def make() -> _T:
        with jax.enable_x64(x64), jax.default_device(device):
            return next(items, _END)  # pyright: ignore[reportReturnType]

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(make)
        while (item := future.result()) is not _END:
            future = pool.submit(make)
            yield item


def one_late(items: Iterator[_T]) -> Iterator[_T]:
    """The items, each after the next one was made; an error of the next comes after the item."""
    late: list[_T] = []
    try:
        for item in items:
            yield from late
            late = [item]
    except GeneratorExit:
        raise
    except BaseException:  # also an interrupt: what is done is kept
        yield from late
        raise
    yield from late


def whole(leaf: jax.Array) -> np.ndarray:
    """The whole array, gathered if other processes hold parts of it."""
    here = leaf.is_fully_addressable or leaf.is_fully_replicated
    return np.asarray(leaf if here else multihost_utils.process_allgather(leaf, tiled=True))


def _of_arrays(examples: Examples, batch_size: int | None, exact: bool) -> Source:
    total = _check(examples)
    size = _checks.check_count(batch_size, "batch_size")
    size = size if exact else min(size, total)

    def load(start: int) -> Examples:
        return _on_host(jax.tree.map(lambda leaf: leaf[start : start + size], examples), copy=False)

    batches = (Batch(min(size, total - start), partial(load, start)) for start in range(0, total, size))
    return Source(batches, load(0), size, total)


def _of_iterable(data: Iterable[PyTree], targets: PyTree, batch_size: int | None) -> Source:
    if targets is not None:
        raise ValueError("`targets` must be None if `data` is an iterable, which yields pairs (x, targets).")
    if batch_size is not None:
        raise ValueError(
            f"`batch_size` must be None if `data` is an iterable of batches, got {batch_size}: "
            "the first batch sets it."
        )
    batches = iter(data)
    start = next(batches, _END)
    if start is _END:
        raise ValueError("`data` must yield at least one batch, got none.")
    pair = _pair(start)
    size, first = _check(pair), _on_host(pair, copy=True)
    like = _kinds(first)

    def load(number: int, examples: Examples) -> Examples:
        # A copy, since the iterable may fill the same array again while this batch is computed.
        loaded = _on_host(examples, copy=True)
        if _kinds(loaded) != like:
            raise ValueError(
                "`data` must yield batches of one structure, shape and dtype, "
                f"got {_kinds(loaded)} in batch {number} after {like}."
            )
        return loaded

    def checked() -> Iterator[Batch]:
        for number, batch in enumerate(chain([start], batches)):
            examples = _pair(batch)
            rows = _check(examples)
            if rows > size:
                raise ValueError(
                    f"`data` must yield batches no larger than the first, of {size}, "
                    f"got {rows} in batch {number}."
                )
            yield Batch(rows, partial(load, number, examples))

    return Source(checked(), first, size, None)


def _pair(batch: PyTree) -> Examples:
    """The inputs and targets of a batch: a tuple or a list is a pair of them, all else inputs alone."""
    # The exact types, since a named tuple is a tree of inputs.
    is_sequence = type(batch) in (tuple, list)
    if is_sequence and len(batch) != 2:
        raise ValueError(
            "`data` must yield pairs (x, targets), or x alone as an array or a dictionary, "
            f"got a {type(batch).__name__} of {len(batch)}."
        )
    return Examples(*batch) if is_sequence else Examples(batch, None)


def _check(examples: Examples) -> int:
    """The number of examples, the same in all arrays."""
    for name, tree in (("data", examples.x), ("targets", examples.targets)):
        for path, leaf in jax.tree.leaves_with_path(tree):
            if not np.ndim(leaf):
                place = f" at {jax.tree_util.keystr(path)}" if path else ""
                raise TypeError(
                    f"`{name}` must hold arrays with an axis of examples, got {type(leaf).__name__}{place}: "
                    "convert lists of rows by `numpy.asarray`."
                )
    sizes = {np.shape(leaf)[0] for leaf in jax.tree.leaves(examples)}
    if len(sizes) != 1 or not min(sizes):
        found = ", ".join(map(str, sorted(sizes))) or "no arrays"
        raise ValueError(f"`data` and `targets` must share one number of examples, at least 1, got {found}.")
    return sizes.pop()


def count(examples: Examples) -> int:
    """The number of examples of a batch that was checked."""
    return np.shape(jax.tree.leaves(examples)[0])[0]


def _kinds(examples: Examples) -> str:
    """The dtype and the shape of one example, by path."""
    leaves = jax.tree.leaves_with_path(examples)
    return ", ".join(f"{leaf.dtype}{list(leaf.shape[1:])} at {jax.tree_util.keystr(p)}" for p, leaf in leaves)


def _on_host(examples: Examples, *, copy: bool) -> Examples:
    """The examples as NumPy arrays."""

    def convert(leaf: PyTree) -> np.ndarray:
        array = np.asarray(leaf)
        if array.dtype.kind in "OSUMm":
            raise TypeError(f"`data` and `targets` must hold numbers, got dtype {array.dtype}.")
        return array.copy() if copy else array

    return jax.tree.map(convert, examples)
