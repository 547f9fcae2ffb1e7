"""Thresholds of scores: of all examples, of each group, or of weighted examples."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.uncertainty.conformal.quantiles import (
    GroupQuantile,
    WeightedQuantile,
    conformal_quantile,
    fit_group_quantile,
    fit_weighted_quantile,
)

Threshold = jax.Array | GroupQuantile | WeightedQuantile


def fit(
    scores: ArrayLike,
    level: Numeric,
    where: ArrayLike | None,
    groups: ArrayLike | None,
    num_groups: int | None,
    weights: ArrayLike | None,
) -> Threshold:
    """The conformal quantile of scores `[N, ...]`: one, one per group, or one per weight to come."""
    if (groups is None) != (num_groups is None):
        expected, found = ("None", num_groups) if groups is None else ("given", None)
        raise ValueError(f"`num_groups` must be {expected}, as `groups` is, got {found}.")
    if groups is not None and num_groups is not None:
        if weights is not None:
            raise ValueError("`weights` must be None with `groups`, got an array.")
        return fit_group_quantile(scores, groups, level=level, num_groups=num_groups, where=where)
    if weights is not None:
        return fit_weighted_quantile(scores, weights, level=level, where=where)
    return conformal_quantile(scores, level, where=where)


def at(
    threshold: Threshold,
    groups: ArrayLike | None,
    weights: ArrayLike | None,
    shape: Sequence[int],
    name: str = "threshold",
) -> jax.Array:
    """The threshold of each new prediction, in the rank of the predictions' shape."""
    check_given(groups, "groups", isinstance(threshold, GroupQuantile))
    check_given(weights, "weights", isinstance(threshold, WeightedQuantile))
    given, label = (groups, "groups") if weights is None else (weights, "weights")
    if given is None or not isinstance(threshold, GroupQuantile | WeightedQuantile):
        return _checks.check_broadcastable(threshold, shape, name)
    values = threshold(given)
    batch = tuple(shape[: len(shape) - (values.ndim - np.ndim(given))])
    if np.shape(given) != batch:
        raise ValueError(f"`{label}` must have one value per example, shape {batch}, got {np.shape(given)}.")
    return _checks.check_broadcastable(values, shape, name)


def check_given(value: ArrayLike | None, name: str, expected: bool, kind: str = "an array") -> None:
    """Raises unless an argument of a call is given where it was given to the fit."""
    if expected != (value is not None):
        raise not_as_fitted(name, value, kind)


def not_as_fitted(name: str, value: ArrayLike | None, kind: str = "an array") -> ValueError:
    """The error of an argument that was given to the fit and not to a call, or the other way round."""
    expected, found = ("given", "None") if value is None else ("None", kind)
    return ValueError(f"`{name}` must be {expected}, as it was for the fit, got {found}.")
