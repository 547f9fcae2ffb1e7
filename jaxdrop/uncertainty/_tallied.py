"""The sums of tallies, and the scores that they give; for arguments that are checked."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _meshes, _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.uncertainty import _bins, _pairs
from jaxdrop.uncertainty.errors import Score

Sums = dict[str, jax.Array]


class BinnedScore(NamedTuple):
    """A score of binned numbers, its standard error, and a bound of what the bins change.

    Attributes:
      value: The score, where numbers in one bin count as equal.
      standard_error: The standard deviation of the score over test sets of the same size, estimated from one.
      bound: The largest possible difference from the score without bins.
    """

    value: jax.Array
    standard_error: jax.Array
    bound: jax.Array


def sums_of_mean(values: ArrayLike, where: ArrayLike | None, squared: bool) -> Sums:
    """The sums of values, or of their squares, and of the squares of these."""
    where = _predictions.check_mask(where, np.shape(values))
    values = _predictions.check_values(values, "values", where)
    used = np.ones(values.shape, bool) if where is None else where
    sums = functools.partial(_mean_sums, squared=squared)
    return _meshes.on_automatic_axes(sums, values.reshape(-1), jnp.reshape(used, -1))


@functools.partial(jax.jit, static_argnames=("squared",))
def _mean_sums(values: jax.Array, used: jax.Array, squared: bool) -> Sums:
    values = jnp.where(used, values, 0)
    if squared:
        largest = jnp.max(jnp.abs(values))
        values = jnp.where((largest > 0) & (largest**2 < _smallest(values.dtype)), jnp.nan, values**2)
    count = _pairs.of_count(jnp.sum(used, dtype=jnp.int32), values.dtype)
    return {"count": count, "total": _pairs.total(values), "squares": _pairs.of_squares(values)}


def _smallest(dtype: np.dtype) -> float:
    """The smallest number whose rounding error is still a number."""
    kind = jnp.finfo(dtype)
    return float(kind.tiny) * 2 ** (kind.nmant + 1)


def sums_of_gaps(confidence: jax.Array, hits: jax.Array, where: ArrayLike | None, bins: int) -> Sums:
    """The sums over bins of confidences minus hits, and of their squares."""
    used = np.ones(hits.shape, bool) if where is None else where
    sums = functools.partial(_gap_sums, bins=bins)
    return _meshes.on_automatic_axes(sums, *(jnp.reshape(x, -1) for x in (confidence, hits, used)))


@functools.partial(jax.jit, static_argnames=("bins",))
def _gap_sums(confidence: jax.Array, hits: jax.Array, used: jax.Array, bins: int) -> Sums:
    index = jnp.where(used, _bins.equal_width(confidence, bins), bins)
    gap = confidence - hits
    total, squares = (_pairs.total(_bins.sums_of_blocks(x, index, bins)) for x in (gap, gap**2))
    count = _pairs.of_count(jnp.sum(used, dtype=jnp.int32), gap.dtype)
    return {"count": count, "total": total, "squares": squares}


def counts_of(scores: jax.Array, outside: ArrayLike, where: ArrayLike | None, bits: int) -> Sums:
    """How many scores start with each combination of bits, inside and outside."""
    used = np.ones(scores.shape, bool) if where is None else where
    counts = functools.partial(_counts, bits=bits)
    return _meshes.on_automatic_axes(counts, *(jnp.reshape(x, -1) for x in (scores, outside, used)))


@functools.partial(jax.jit, static_argnames=("bits",))
def _counts(scores: jax.Array, outside: jax.Array, used: jax.Array, bits: int) -> Sums:
    dtype = scores.dtype
    scores = scores.astype(jnp.float32)
    words = jax.lax.bitcast_convert_type(jnp.where(scores == 0, 0, scores), jnp.uint32)
    negative = (words >> 31) == 1
    # Integers in the order of the numbers.
    words = jnp.where(negative, ~words, words | jnp.uint32(2**31))
    index = jnp.where(used, (words >> (32 - bits)).astype(jnp.int32), 2**bits)
    nan = jnp.where(jnp.any(jnp.isnan(scores) & used), jnp.nan, jnp.zeros((), dtype))

    def counted(chosen: jax.Array) -> jax.Array:
        found = jnp.zeros(2**bits, jnp.int32).at[index].add(chosen.astype(jnp.int32), mode="drop")
        return _pairs.of_count(found, dtype) + nan

    return {"inside": counted(~outside), "outside": counted(outside)}


@jax.jit
def _finished_mean(sums: Sums) -> Score:
    count, squares = sums["count"].sum(0), sums["squares"].sum(0)
    mean = jnp.where(count > 0, sums["total"].sum(0) / jnp.maximum(count, 1), jnp.nan)
    # The sum of squares about the mean: squares - mean * (2 * total - count * mean).
    rest = _pairs.add(2 * sums["total"], -_pairs.scaled(sums["count"], mean))
    scatter = _pairs.add(sums["squares"], -_pairs.scaled(rest, mean)).sum(0)
    error = jnp.sqrt(jnp.maximum(scatter, 0) / jnp.maximum(count - 1, 1) / jnp.maximum(count, 1))
    lost = (mean != 0) & (squares < _smallest(mean.dtype) * count)
    return Score(mean, jnp.where((count > 1) & ~lost, error, jnp.nan))


@jax.jit
def _finished_rms(sums: Sums) -> Score:
    value, error = _finished_mean(sums)
    root = jnp.sqrt(value)
    return Score(root, jnp.where(root == 0, error, error / jnp.where(root == 0, 1, 2 * root)))


@jax.jit
def _finished_ece(sums: Sums) -> Score:
    total, squares, count = (sums[name].sum(0) for name in ("total", "squares", "count"))
    value = jnp.sum(jnp.abs(total)) / jnp.maximum(count, 1)
    return Score(jnp.where(count > 0, value, jnp.nan), _bins.error_of(_bins.Gaps(total, squares, count)))


@jax.jit
def _finished_classwise_ece(sums: Sums) -> Score:
    return jax.tree.map(jnp.mean, jax.vmap(_finished_ece, in_axes=1)(sums))


@jax.jit
def _finished_auroc(sums: Sums) -> BinnedScore:
    inside, outside = sums["inside"].sum(0), sums["outside"].sum(0)
    numbers = [jnp.sum(counts) for counts in (inside, outside)]
    shares = [
        counts / jnp.maximum(number, 1) for counts, number in zip((inside, outside), numbers, strict=True)
    ]
    # Of each bin the share of the others that are below, or above, where those in the bin count half.
    below = jnp.cumsum(shares[0]) - shares[0] / 2
    above = 1 - (jnp.cumsum(shares[1]) - shares[1] / 2)
    value = jnp.sum(shares[1] * below)

    def variance(share: jax.Array, of_bin: jax.Array, number: jax.Array) -> jax.Array:
        found = jnp.sum(share * (of_bin - value) ** 2) / jnp.maximum(number - 1, 1)
        return jnp.where(number > 1, found, jnp.nan)

    error = jnp.sqrt(variance(shares[1], below, numbers[1]) + variance(shares[0], above, numbers[0]))
    both = (numbers[0] > 0) & (numbers[1] > 0)
    bound = jnp.sum(shares[0] * shares[1]) / 2
    return BinnedScore(jnp.where(both, value, jnp.nan), error, jnp.where(both, bound, jnp.nan))


FINISHED: dict[str, Callable[[Sums], Score | BinnedScore]] = {
    "mean": _finished_mean,
    "rms": _finished_rms,
    "ece": _finished_ece,
    "classwise_ece": _finished_classwise_ece,
    "auroc": _finished_auroc,
}
