"""Reliability diagrams: sums over bins of confidence."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike

Mode = Literal["equal_width", "equal_mass"]


class Reliability(NamedTuple):
    """A reliability diagram, with bins from the least to the most confident.

    Attributes:
      confidence: The mean confidence in each bin, `[bins]`; 0 for an empty bin.
      accuracy: The share of correct predictions in each bin, `[bins]`; 0 for an empty bin.
      count: The number of examples in each bin, `[bins]`.
    """

    confidence: jax.Array
    accuracy: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  # hides `tuple.count`


def check_bins(bins: int, mode: Mode) -> None:
    """Raises unless the number of bins and their mode are valid."""
    _checks.check_count(bins, "bins")
    _checks.check_choice(mode, ("equal_width", "equal_mass"), "mode")


def confidences(given: ArrayLike, probs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest of given probabilities, and numbers in their order before the cast."""
    confidence = jnp.max(probs, axis=-1)
    if not _predictions.is_wide(given):
        return confidence, confidence
    (order,) = _predictions.ranked(np.max(given, axis=-1))
    return confidence, order


def binned(
    confidence: jax.Array, order: jax.Array, hits: jax.Array, where: ArrayLike | None, bins: int, mode: Mode
) -> Reliability:
    """The diagram of confidences and hits of one shape; a hit may be NaN, for none that is known.

    `order` holds numbers in the order of the confidences, for bins of equal mass.
    """
    used = jnp.ones(confidence.size, bool) if where is None else jnp.asarray(where).reshape(-1)
    of_bins = functools.partial(_binned, bins=bins, mode=mode)
    flat = (values.reshape(-1) for values in (confidence, order, hits))
    return _meshes.on_automatic_axes(of_bins, *flat, used)


@functools.partial(jax.jit, static_argnames=("bins", "mode"))
def _binned(
    confidence: jax.Array, order: jax.Array, hits: jax.Array, used: jax.Array, bins: int, mode: Mode
) -> Reliability:
    index = _index(confidence, order, used, bins, mode)
    count = jnp.zeros(bins, jnp.int32).at[index].add(1, mode="drop")
    right = jnp.zeros(bins, jnp.int32).at[index].add((hits > 0).astype(jnp.int32), mode="drop")
    unknown = jnp.zeros(bins, bool).at[index].max(jnp.isnan(hits), mode="drop")
    share = 1 / jnp.maximum(count, 1).astype(confidence.dtype)
    accuracy = jnp.where(unknown, jnp.nan, right.astype(share.dtype) * share)
    return Reliability(sums_of(confidence, index, bins) * share, accuracy, count)


class Gaps(NamedTuple):
    """Sums over the examples of each bin, `[bins]`.

    Attributes:
      total: Of the gaps, which are the confidences minus the hits.
      squares: Of the squares of the gaps.
      count: The number of examples, a scalar.
    """

    total: jax.Array
    squares: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  # hides `tuple.count`


@functools.partial(jax.jit, static_argnames=("bins", "mode"))
def gaps(
    confidence: jax.Array, order: jax.Array, hits: jax.Array, used: jax.Array, bins: int, mode: Mode
) -> Gaps:
    """The gaps in the bins of `binned`, of arrays of one axis; NaN for a bin with an unknown hit."""
    index = _index(confidence, order, used, bins, mode)
    gap = confidence - hits
    return Gaps(sums_of(gap, index, bins), sums_of(gap**2, index, bins), jnp.sum(used, dtype=jnp.int32))


def _index(confidence: jax.Array, order: jax.Array, used: jax.Array, bins: int, mode: Mode) -> jax.Array:
    """The bin of each example; beyond the bins, where it is dropped, if it is masked."""
    index = _equal_width(confidence, bins) if mode == "equal_width" else equal_mass(order, used, bins)
    return jnp.where(used, index, bins)


def sums_of(values: jax.Array, index: jax.Array, bins: int) -> jax.Array:
    """The sum of the values in each bin; an index beyond the bins is dropped."""
    # A float32 sum of a million values is wrong in the third digit, so blocks of 256 are summed first.
    group = jnp.arange(len(index)) // 256
    sums = jnp.zeros((-(-len(index) // 256), bins), values.dtype)
    return sums.at[group, index].add(values, mode="drop").sum(0)


def _equal_width(confidence: jax.Array, bins: int) -> jax.Array:
    edges = (np.arange(1, bins) / bins).astype(confidence.dtype)
    return jnp.searchsorted(jnp.asarray(edges), confidence, side="left")


def equal_mass(order: jax.Array, used: jax.Array, bins: int) -> jax.Array:
    """Bins by rank among those used; equal confidences have the rank of the first of them."""
    # Confidences are at most 1, and ranks below the largest integer.
    last = jnp.inf if jnp.issubdtype(order.dtype, jnp.floating) else jnp.iinfo(order.dtype).max
    ascending = jnp.sort(jnp.where(used, order, jnp.asarray(last, order.dtype)))
    rank = jnp.searchsorted(ascending, order, side="left")
    # ceil(i * count / bins), without an overflow of i * count.
    whole, rest = jnp.divmod(jnp.sum(used, dtype=jnp.int32), bins)
    i = jnp.arange(1, bins, dtype=jnp.int32)
    return jnp.searchsorted((i * whole - -i * rest // bins).astype(rank.dtype), rank, side="right")


def gap_of(diagram: Reliability) -> jax.Array:
    """The mean gap between confidence and accuracy, over the examples; NaN if there are none."""
    count = diagram.count.astype(diagram.confidence.dtype)
    total = jnp.sum(diagram.count)
    gap = jnp.sum(jnp.abs(diagram.confidence - diagram.accuracy) * count)
    return jnp.where(total > 0, gap / jnp.maximum(total, 1).astype(count.dtype), jnp.nan)
