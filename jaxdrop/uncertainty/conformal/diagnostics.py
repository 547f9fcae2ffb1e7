"""Coverage and size of prediction sets."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.uncertainty import _bins
from jaxdrop.uncertainty._examples import check_groups
from jaxdrop.uncertainty._unchecked import at_labels

__all__ = ["SetCoverage", "set_coverage"]


class SetCoverage(NamedTuple):
    """Coverage and mean size of sets with their standard errors; scalars, or `[G]` of groups.

    Attributes:
      coverage: The share of examples whose set contains the label, in [0, 1]. NaN without an example, or if
        a traced label was out of range.
      coverage_error: Its binomial standard error; 0 where all or none are covered.
      size: The mean number of classes in a set.
      size_error: Its standard error; NaN of one example.
      num_examples: The number of examples.
    """

    coverage: jax.Array
    coverage_error: jax.Array
    size: jax.Array
    size_error: jax.Array
    num_examples: jax.Array


def set_coverage(
    sets: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
    where: ArrayLike | None = None,
) -> SetCoverage:
    """Coverage and mean size of sets of classes, each with its standard error: of all or by group.

    By class: `groups=labels, num_groups=K`. By size: `groups=sets.sum(-1), num_groups=K + 1`; the smallest
    coverage is then the size-stratified coverage, `jnp.nanmin(found.coverage)`. Standard errors are
    those of new examples for one fit. Between fits to N examples coverage varies too, by about
    `sqrt(level * (1 - level) / N)`.

    Args:
      sets: Whether each class is in the set, `[..., K]`, boolean, as a `LAC` returns it.
      labels: Integers in [0, K), `[...]`.
      groups: Groups of the examples, of the shape of `labels`, integers in [0, `num_groups`). None: one
        group, and scalars.
      num_groups: The number of groups, given with `groups`.
      where: Boolean mask of the examples that count, which broadcasts to `labels`. Others may hold
        anything. None: all.

    Returns:
      A `SetCoverage`, in float32.

    Raises:
      TypeError: If `sets` or `where` are not boolean, or `labels` or `groups` are not integers.
      ValueError: If the shapes do not match, `sets` are empty, one of `groups` and `num_groups` is given
        alone, or concrete labels or groups are out of range.

    References:
      Angelopoulos et al., "Uncertainty sets for image classifiers using conformal prediction", 2021.

    Examples:
      >>> sets = jnp.array([[True, False], [True, True], [True, False], [False, True]])
      >>> found = set_coverage(sets, jnp.array([0, 0, 1, 1]))
      >>> found.coverage, found.size
      (Array(0.75, dtype=float32), Array(1.25, dtype=float32))
    """
    sets = _predictions.exact(sets)
    if getattr(sets, "dtype", None) != np.bool_:
        raise TypeError(f"`sets` must be a boolean array, got {getattr(sets, 'dtype', type(sets).__name__)}.")
    sets = jnp.asarray(sets)
    _predictions.check_not_empty(_checks.check_rank(sets, 1, "[..., K]", "sets").shape, "sets")
    where = _predictions.check_mask(where, sets.shape[:-1])
    labels = _predictions.check_labels(labels, sets, "labels", "sets", where=where)
    labels = _predictions.filled(labels, where, 0)
    if (groups is None) != (num_groups is None):
        expected, found = ("None", num_groups) if groups is None else ("given", None)
        raise ValueError(f"`num_groups` must be {expected}, as `groups` is, got {found}.")
    kept = jnp.ones(labels.shape, bool) if where is None else jnp.asarray(where)
    if groups is None or num_groups is None:
        index, count = jnp.zeros(labels.shape, jnp.int32), 1
    else:
        count = _checks.check_count(num_groups, "num_groups")
        if np.shape(groups) != labels.shape:
            raise ValueError(
                f"`groups` must have the shape of `labels`, {labels.shape}, got {np.shape(groups)}."
            )
        index = check_groups(groups, count, where)
    coverage = functools.partial(_coverage, num_groups=count)
    found = _meshes.on_automatic_axes(coverage, sets, labels, kept, index)
    return jax.tree.map(lambda value: value[0], found) if groups is None else found


def _coverage(
    sets: jax.Array, labels: jax.Array, kept: jax.Array, groups: jax.Array, num_groups: int
) -> SetCoverage:
    covered = at_labels(sets.astype(jnp.float32), labels).reshape(-1)
    sizes = jnp.sum(sets, axis=-1, dtype=jnp.float32).reshape(-1)
    kept, groups = kept.reshape(-1), groups.reshape(-1)
    invalid = (kept & ((groups < 0) | (groups >= num_groups))).any()

    # Numbers of examples are sums of integers: one of ones in float32 ends at 2**24.
    def number(selected: jax.Array) -> jax.Array:
        return jax.ops.segment_sum((selected & kept).astype(jnp.int32), groups, num_groups)

    def total(values: jax.Array) -> jax.Array:
        return _bins.sums_of(jnp.where(kept, values, 0), groups, num_groups)

    def distances(center: jax.Array) -> jax.Array:
        return sizes - jnp.where(count > 0, center, 0)[jnp.clip(groups, 0, num_groups - 1)]

    count, unknown = number(jnp.ones_like(kept)), number(jnp.isnan(covered)) > 0
    n = jnp.where((count > 0) & ~invalid, count.astype(jnp.float32), jnp.nan)
    coverage = jnp.where(unknown, jnp.nan, number(covered > 0).astype(jnp.float32) / n)
    size = total(sizes) / n
    # A sum of many loses digits; the sum of the residuals does not.
    size = size + total(distances(size)) / n
    squares = total(distances(size) ** 2)
    several = jnp.where(count > 1, n, jnp.nan)
    return SetCoverage(
        coverage,
        jnp.sqrt(coverage * (1 - coverage) / n),
        size,
        jnp.sqrt(squares / (several - 1) / several),
        count,
    )
