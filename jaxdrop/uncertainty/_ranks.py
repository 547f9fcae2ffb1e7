"""Scores in ascending order, and counts of those below others."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _meshes, _predictions
from jaxdrop._types import ArrayLike


class Ranked(NamedTuple):
    """Scores in ascending order.

    Attributes:
      order: The index of each before, `[B]`.
      scores: The scores, those that are masked last.
      used: Whether each counts.
      count: The number of those that count.
      valid: Whether there are any, and none of them is NaN.
    """

    order: jax.Array
    scores: jax.Array
    used: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  # hides `tuple.count`
    valid: jax.Array


def ascending(scores: jax.Array, where: ArrayLike | None) -> Ranked:
    """Scores in ascending order. NumPy sorts those of the host, ten times as fast as XLA."""
    used = np.ones(scores.shape, bool) if where is None else where
    if _predictions.is_on_host(scores) and _predictions.is_on_host(used):
        selected = np.flatnonzero(used)
        first = selected[np.argsort(np.asarray(scores)[selected])]
        order = jnp.asarray(np.concatenate([first, np.flatnonzero(~np.asarray(used))]).astype(np.int32))
    else:
        # By the mask first, as a score may be infinite.
        order = jnp.argsort(scores) if where is None else jnp.lexsort((scores, ~jnp.asarray(used)))
    return _ranked(order, scores[order], jnp.asarray(used)[order])


@jax.jit
def _ranked(order: jax.Array, scores: jax.Array, used: jax.Array) -> Ranked:
    count = jnp.sum(used, dtype=jnp.int32)
    whole = jnp.issubdtype(scores.dtype, jnp.integer)
    nan = jnp.zeros_like(used) if whole else jnp.isnan(scores)
    # Those that are masked are last, and must not break the order.
    last = scores[jnp.maximum(count - 1, 0)]
    return Ranked(order, jnp.where(used, scores, last), used, count, (count > 0) & ~(nan & used).any())


def both(
    scores_in: ArrayLike, scores_out: ArrayLike, where_in: ArrayLike | None, where_out: ArrayLike | None
) -> tuple[Ranked, Ranked]:
    """Checked scores of two sets, in one dtype: equal numbers must stay equal."""
    where_in = _predictions.check_mask(where_in, np.shape(scores_in), "where_in")
    where_out = _predictions.check_mask(where_out, np.shape(scores_out), "where_out")
    inside = _predictions.check_vector(scores_in, "scores_in", where_in)
    outside = _predictions.check_vector(scores_out, "scores_out", where_out)
    inside, outside = _predictions.ranked(inside, outside)
    ranks = functools.partial(_meshes.on_automatic_axes, ascending)
    return ranks(inside, where_in), ranks(outside, where_out)


def below(scores: jax.Array, of: Ranked) -> jax.Array:
    """The number of `of` that are below each score."""
    return jnp.minimum(jnp.searchsorted(of.scores, scores, side="left"), of.count).astype(jnp.int32)


def not_above(scores: jax.Array, of: Ranked) -> jax.Array:
    """The number of `of` that are not above each score."""
    return jnp.minimum(jnp.searchsorted(of.scores, scores, side="right"), of.count).astype(jnp.int32)


def ties(ranked: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first index of each group of equal scores, and the index after its last, `[B]`."""
    index = jnp.arange(len(ranked), dtype=jnp.int32)
    rises = ranked[1:] != ranked[:-1]
    first = jnp.where(jnp.append(True, rises), index, 0)
    stop = jnp.where(jnp.append(rises, True), index + 1, len(ranked))
    return jax.lax.cummax(first), jax.lax.cummin(stop, reverse=True)
