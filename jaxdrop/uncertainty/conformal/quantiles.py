"""Conformal quantiles of scores: of all examples, of each group, and of weighted examples."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.uncertainty import _examples

__all__ = [
    "GroupQuantile",
    "WeightedQuantile",
    "conformal_quantile",
    "fit_group_quantile",
    "fit_weighted_quantile",
]

# The rounding error of a product in float32, which must not increase a rank by one.
_ROUNDING = 2e-7


def conformal_quantile(scores: ArrayLike, level: Numeric, *, where: ArrayLike | None = None) -> jax.Array:
    """Conformal quantile: a bound that a new score does not exceed with a probability of `level`.

    It is the `ceil((N + 1) * level)`-th smallest of the N scores; infinity if N < level / (1 - level).

    Args:
      scores: Scores of exchangeable examples, `[N, ...]`; may be infinite.
      level: Scalar in (0, 1); may be traced.
      where: Boolean mask of the examples that count, which broadcasts to `scores`. Others may hold
        anything. None: all.

    Returns:
      Array of shape `[...]`, in float32 at least; a cast rounds it up. NaN if a traced score is NaN.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If `scores` are empty, or concrete values are NaN or a level outside (0, 1).

    References:
      Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005.

    Examples:
      >>> conformal_quantile(jnp.arange(1.0, 20.0), 0.9), conformal_quantile(jnp.arange(1.0, 20.0), 0.96)
      (Array(18., dtype=float32), Array(inf, dtype=float32))
    """
    scores, level, where = _check(scores, level, where)
    scores = _predictions.filled(scores, where, jnp.inf)
    count = jnp.asarray(len(scores) if where is None else jnp.sum(jnp.asarray(where), 0, dtype=jnp.int32))
    return _meshes.on_automatic_axes(_quantile, scores, count, level)


class GroupQuantile(NamedTuple):
    """Conformal quantiles of groups; a call on the groups of new examples returns the quantile of each.

    Attributes:
      quantiles: The quantile of each group, `[G, ...]`; infinite for a group of too few examples or
        none, NaN if a traced group or score was invalid.
    """

    quantiles: jax.Array

    def __call__(self, groups: ArrayLike) -> jax.Array:
        """The quantiles of groups `[B]`, of shape `[B, ...]`; groups may have any shape.

        A traced group that is out of range gives NaN.
        """
        groups = _examples.check_groups(groups, len(self.quantiles))
        out = _batched(groups, self.quantiles)
        return _meshes.on_automatic_axes(_of_groups, self.quantiles, groups, out=out)


def fit_group_quantile(
    scores: ArrayLike,
    groups: ArrayLike,
    *,
    level: Numeric,
    num_groups: int,
    where: ArrayLike | None = None,
) -> GroupQuantile:
    """Mondrian conformal quantile: the conformal quantile of each group by itself.

    Guarantee: among new examples of any one group, a score exceeds the quantile with a probability of
    1 - `level` at most. A group of fewer than `level / (1 - level)` examples has an infinite quantile.

    Args:
      scores: Scores, `[N, ...]`, exchangeable within each group; may be infinite.
      groups: The group of each example, `[N]`: integers in [0, G). It must not depend on the label,
        unless the label is the group.
      level: Scalar in (0, 1); may be traced.
      num_groups: The number of groups G, at least 1; groups without an example count too.
      where: Boolean mask of the examples that count, which broadcasts to `scores`. Others may hold any
        score and group. None: all.

    Returns:
      A `GroupQuantile` of shape `[G, ...]`, in float32 at least; a cast rounds it up.

    Raises:
      TypeError: If `scores` or `level` are not real, `groups` or `num_groups` not integers, or `where` is
        not boolean.
      ValueError: If `scores` are empty, the shapes do not match, `num_groups` is below 1, or concrete
        values are NaN, groups out of range, or a level outside (0, 1).

    References:
      Vovk, "Conditional validity of inductive conformal predictors", 2012.

    Examples:
      >>> scores, groups = jnp.arange(20.0), jnp.arange(20) % 2
      >>> fit_group_quantile(scores, groups, level=0.9, num_groups=3)(jnp.array([1, 2]))
      Array([19., inf], dtype=float32)
    """
    num_groups = _checks.check_count(num_groups, "num_groups")
    scores, level, where = _check(scores, level, where)
    if np.shape(groups) != scores.shape[:1]:
        raise ValueError(
            f"`groups` must have one value per example, shape {scores.shape[:1]}, got {np.shape(groups)}."
        )
    examples = None if where is None else jnp.asarray(where).reshape(len(scores), -1).any(-1)
    groups = _examples.check_groups(groups, num_groups, examples)
    kept = jnp.ones(scores.shape, bool) if where is None else jnp.asarray(where)
    quantiles = functools.partial(_group_quantiles, num_groups=num_groups)
    return GroupQuantile(_meshes.on_automatic_axes(quantiles, scores, kept, groups, level))


class WeightedQuantile(NamedTuple):
    """Weighted conformal quantile; a call on the weights of new examples returns the quantile of each.

    Attributes:
      scores: The scores in ascending order, `[N, ...]`.
      cumulative: The total weight of each score and all before it, `[N, ...]`; NaN if a traced score or
        weight was invalid.
      level: The level, a scalar.
    """

    scores: jax.Array
    cumulative: jax.Array
    level: jax.Array

    def __call__(self, weights: ArrayLike) -> jax.Array:
        """The quantiles for examples of weights `[B]`, of shape `[B, ...]`; weights may have any shape."""
        weights = _check_weights(weights).astype(self.cumulative.dtype)
        return _meshes.on_automatic_axes(_of_weights, self, weights, out=_batched(weights, self.scores))


def fit_weighted_quantile(
    scores: ArrayLike, weights: ArrayLike, *, level: Numeric, where: ArrayLike | None = None
) -> WeightedQuantile:
    """Weighted conformal quantile, for new examples from another distribution than those of the fit.

    Guarantee: under covariate shift, with weights proportional to the density ratio of new to old
    inputs, a new score exceeds its quantile with a probability of 1 - `level` at most. It is the
    `level`-quantile of the weighted scores and of infinity with the weight of the new example, which so
    enters its own quantile: a weight large beside the total gives infinity.

    Args:
      scores: Scores, `[N, ...]`; may be infinite.
      weights: Weights of the examples, `[N]`: finite and at least 0, known up to a common factor.
        Estimated weights have the guarantee only as far as they are right.
      level: Scalar in (0, 1); may be traced.
      where: Boolean mask of the examples that count, which broadcasts to `scores`. Others may hold any
        score and weight. None: all.

    Returns:
      A `WeightedQuantile`. With equal weights it gives `conformal_quantile`. Sums of weights are rounded as
      float32 rounds them; one beyond its range gives infinity.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If `scores` are empty, the shapes do not match, or concrete values are NaN, weights
        negative or non-finite, or a level outside (0, 1).

    References:
      Tibshirani et al., "Conformal prediction under covariate shift", 2019.

    Examples:
      >>> quantile = fit_weighted_quantile(jnp.arange(1.0, 20.0), jnp.ones(19), level=0.9)
      >>> quantile(jnp.array([1.0, 0.0, 10.0]))
      Array([18., 18., inf], dtype=float32)
    """
    scores, level, where = _check(scores, level, where)
    examples = None if where is None else jnp.asarray(where).reshape(len(scores), -1).any(-1)
    weights = _check_weights(weights, examples)
    if weights.shape != scores.shape[:1]:
        raise ValueError(
            f"`weights` must have one value per example, shape {scores.shape[:1]}, got {weights.shape}."
        )
    kept = jnp.ones(scores.shape, bool) if where is None else jnp.asarray(where)
    ranked, cumulative = _meshes.on_automatic_axes(_sorted, scores, weights, kept)
    return WeightedQuantile(ranked, cumulative, level)


def _check(
    scores: ArrayLike, level: Numeric, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, ArrayLike | None]:
    """Scores, rounded up, the level and the mask."""
    where = _predictions.check_mask(where, np.shape(scores))
    scores = _predictions.rounded_up(_predictions.check_exact(scores, "scores", where))
    scores = _checks.check_rank(scores, 1, "[N, ...]", "scores")
    level = jnp.asarray(_predictions.check_level(_checks.check_scalar(level, "level")))
    return scores, _predictions.as_wide(level, "level"), where


def _check_weights(weights: ArrayLike, where: ArrayLike | None = None) -> jax.Array:
    """Weights, finite and at least 0 where a mask of their shape selects; others are 0."""
    mask = where if where is not None and np.shape(weights) == where.shape else None
    array = _predictions.filled(_predictions.check_values(weights, "weights", mask), mask, 0)
    return jnp.asarray(_checks.check_nonnegative(array, "weights"))


def _batched(batch: jax.Array, stored: jax.Array) -> jax.sharding.PartitionSpec:
    return jax.sharding.PartitionSpec(*_meshes.partition(batch), *[None] * (stored.ndim - 1))


def _rank(count: jax.Array, level: jax.Array) -> jax.Array:
    rank = (count + 1).astype(level.dtype) * level
    whole = jnp.abs(rank - jnp.round(rank)) <= _ROUNDING * rank  # as in 0.55 * 100
    return jnp.where(whole, jnp.round(rank), jnp.ceil(rank)).astype(jnp.int32)


def _quantile(scores: jax.Array, count: jax.Array, level: jax.Array) -> jax.Array:
    ranked = _predictions.ascending(jnp.append(scores, jnp.full_like(scores[:1], jnp.inf), axis=0))
    index = jnp.clip(_rank(count, level) - 1, 0, len(scores))
    found = jnp.take_along_axis(ranked, jnp.broadcast_to(index, (1, *scores.shape[1:])), axis=0)[0]
    return jnp.where(jnp.isnan(scores).any(0), jnp.nan, found)


def _group_quantiles(
    scores: jax.Array, kept: jax.Array, groups: jax.Array, level: jax.Array, num_groups: int
) -> jax.Array:
    """Scores sorted by group, then by size: the quantile of a group is some places after its first."""
    rest, flat, kept = scores.shape[1:], scores.reshape(len(scores), -1), kept.reshape(len(scores), -1)
    known = ((groups >= 0) & (groups < num_groups))[:, None]
    # Those left out come last, as a group that is not asked for.
    index = jnp.where(kept & known, groups[:, None], num_groups)
    columns = jnp.arange(flat.shape[1], dtype=jnp.int32)[None]
    counts = jnp.zeros((num_groups + 1, flat.shape[1]), jnp.int32).at[index, columns].add(1)[:-1]
    _, ranked = jax.lax.sort((index, flat), dimension=0, num_keys=2)
    first, rank = jnp.cumsum(counts, 0, dtype=jnp.int32) - counts, jnp.clip(_rank(counts, level), 1)
    found = jnp.take_along_axis(ranked, jnp.clip(first + rank - 1, 0, len(scores) - 1), axis=0)
    # A NaN is sorted last in its group.
    last = jnp.take_along_axis(ranked, jnp.clip(first + counts - 1, 0, len(scores) - 1), axis=0)
    invalid = (kept & ~known).any(0, keepdims=True) | ((counts > 0) & jnp.isnan(last))
    found = jnp.where(invalid, jnp.nan, jnp.where(rank <= counts, found, jnp.inf))
    return found.reshape(num_groups, *rest)


def _of_groups(quantiles: jax.Array, groups: jax.Array) -> jax.Array:
    known = (groups >= 0) & (groups < len(quantiles))
    found = quantiles[jnp.where(known, groups, 0)]
    return jnp.where(known.reshape(*groups.shape, *[1] * (quantiles.ndim - 1)), found, jnp.nan)


def _sorted(scores: jax.Array, weights: jax.Array, kept: jax.Array) -> tuple[jax.Array, jax.Array]:
    each = weights.reshape(-1, *[1] * (scores.ndim - 1))
    each = jnp.where(kept, jnp.where((each >= 0) & jnp.isfinite(each), each, jnp.nan), 0)
    scores = jnp.where(kept, scores, jnp.inf)
    invalid = (jnp.isnan(each) | jnp.isnan(scores)).any(0)
    scores, each = jax.lax.sort((scores, each), dimension=0, num_keys=1)
    return scores, jnp.where(invalid, jnp.nan, jnp.cumsum(each, axis=0))


def _of_weights(fitted: WeightedQuantile, weights: jax.Array) -> jax.Array:
    scores, cumulative = (x.reshape(len(x), -1) for x in fitted[:2])
    total = cumulative[-1:] + jnp.where(weights >= 0, weights, jnp.nan).reshape(-1, 1)
    target = fitted.level.astype(total.dtype) * total * (1 - _ROUNDING)

    def look_up(scores: jax.Array, cumulative: jax.Array, target: jax.Array) -> jax.Array:
        index = jnp.searchsorted(cumulative, target)
        found = scores[jnp.clip(index, 0, len(scores) - 1)]
        return jnp.where(index < len(scores), found, jnp.inf)

    found = jax.vmap(look_up, in_axes=1, out_axes=1)(scores, cumulative, target)
    known = (total > 0) & (total < jnp.inf)
    found = jnp.where(known, found, jnp.where(total >= 0, jnp.inf, jnp.nan))
    return found.reshape(*weights.shape, *fitted.scores.shape[1:])
