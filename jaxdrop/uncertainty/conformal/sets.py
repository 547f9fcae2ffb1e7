"""Conformal sets of classes."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Key, Numeric
from jaxdrop.uncertainty._unchecked import at_labels
from jaxdrop.uncertainty.conformal import _thresholds
from jaxdrop.uncertainty.conformal._thresholds import Threshold
from jaxdrop.uncertainty.conformal.quantiles import fit_group_quantile

__all__ = ["LAC", "AdaptiveSets", "fit_aps", "fit_lac", "fit_raps"]


class LAC(NamedTuple):
    """Least ambiguous sets: all classes above a probability; a call on `[..., K]` returns the sets.

    Attributes:
      threshold: The largest score in a set, minus the smallest probability of a class in it: a scalar, of
        classes `[K]`, a `GroupQuantile` or a `WeightedQuantile`. Infinite if there were too few examples,
        NaN if a traced label was out of range; then sets hold all classes.
    """

    threshold: Threshold

    def __call__(
        self, probs: ArrayLike, *, groups: ArrayLike | None = None, weights: ArrayLike | None = None
    ) -> jax.Array:
        """Whether each class is in the set, `[..., K]`, boolean; a set may be empty.

        If the fit had groups or weights, those of the new examples, `[...]`, must be given.
        """
        probs = _predictions.check_probabilities(probs, "[..., K]")
        # Not `<=`: a NaN, of a traced label out of range, must not give empty sets.
        return ~(-probs > _thresholds.at(self.threshold, groups, weights, probs.shape))


def fit_lac(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    level: Numeric,
    where: ArrayLike | None = None,
    by_class: bool = False,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
    weights: ArrayLike | None = None,
) -> LAC:
    """LAC, least ambiguous sets: the smallest sets on average at the given coverage, if `probs` are right.

    The score is minus the label's probability. (1 minus it is common, but rounds small probabilities.)

    Args:
      probs: Probabilities, `[N, K]`, of held-out examples.
      labels: Integers in [0, K), `[N]`.
      level: The probability that a set contains the label: a scalar in (0, 1); may be traced.
      where: Boolean mask of the examples to fit to, which broadcasts to `labels`. Others may hold
        anything. None: all.
      by_class: Whether each class has a threshold, from the examples of that label: `level` then holds
        for the examples of each class. A class of too few examples is in all sets.
      groups: Groups of the examples, `[N]`, integers in [0, `num_groups`): `level` then holds in each
        group, see `fit_group_quantile`. They must not depend on the label. None: no groups.
      num_groups: The number of groups, given with `groups`.
      weights: Weights of the examples, `[N]`, against covariate shift, see `fit_weighted_quantile`.
        Not with `by_class` or `groups`. None: equal weights.

    Returns:
      A `LAC`, to be called on new probabilities.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` or `groups` are not integers, `level` or
        `weights` are not real, or `where` is not boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision), labels or groups out of
        range, weights negative or non-finite, or a level outside (0, 1).

    References:
      Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded error
      levels", 2019.

    Examples:
      >>> probs = jnp.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
      >>> fit_lac(probs, jnp.array([0, 1, 1]), level=0.75)(jnp.array([[0.5, 0.5], [0.7, 0.3]]))
      Array([[ True,  True],
             [ True, False]], dtype=bool)
    """
    probs, labels, where = _predictions.check_examples(probs, labels, where, "[N, K]")
    return LAC(_fitted(-probs, labels, level, where, by_class, groups, num_groups, weights))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["threshold", "penalty", "free"],
    meta_fields=["randomized"],
)
@dataclasses.dataclass(frozen=True)
class AdaptiveSets:
    """Adaptive sets, which grow with the uncertainty; a call on `[..., K]` returns the sets.

    Attributes:
      threshold: The largest score in a set, see `fit_raps`: a scalar, of classes `[K]`, a `GroupQuantile`
        or a `WeightedQuantile`. Infinite if there were too few examples, NaN if a traced label was out of
        range; then sets hold all classes.
      penalty: The penalty on the score per class beyond the `free` likeliest; 0 for APS.
      free: The number of classes without a penalty.
      randomized: Whether the scores were randomized; then a call needs a key.
    """

    threshold: Threshold
    penalty: Numeric
    free: Numeric
    randomized: bool

    def __call__(
        self,
        probs: ArrayLike,
        *,
        key: Key | None = None,
        groups: ArrayLike | None = None,
        weights: ArrayLike | None = None,
    ) -> jax.Array:
        """Whether each class is in the set, `[..., K]`, boolean; a set may be empty.

        If the fit had groups or weights, those of the new examples, `[...]`, must be given.
        """
        probs = _predictions.check_probabilities(probs, "[..., K]")
        _thresholds.check_given(key, "key", self.randomized, "a key")
        threshold = _thresholds.at(self.threshold, groups, weights, probs.shape)
        # Not `<=`: a NaN, of a traced label out of range, must not give empty sets.
        return ~(_adaptive_scores(probs, self.penalty, self.free, key) > threshold)


def fit_aps(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    level: Numeric,
    key: Key | None = None,
    where: ArrayLike | None = None,
    by_class: bool = False,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
    weights: ArrayLike | None = None,
) -> AdaptiveSets:
    """APS, adaptive prediction sets: the likeliest classes up to a cumulative probability.

    The score of a class is the total probability of it and of all likelier classes, minus 1: it is
    computed as minus the total of all less likely ones, which does not round near 1. With a key, a
    random share of the class's probability is subtracted, the same share for all classes of an
    example. That makes sets smaller, and their coverage exact. Without one, the sets of a confident
    model have classes of hardly any probability: it is valid, but wants a key. Of classes whose score
    is exactly 0 the likelier have the smaller score.

    Args:
      probs: Probabilities, `[N, K]`, of held-out examples.
      labels: Integers in [0, K), `[N]`.
      level: The probability that a set contains the label: a scalar in (0, 1); may be traced.
      key: A PRNG key, used once, for randomized scores, which confident models need for small sets. None:
        deterministic scores.
      where: Boolean mask of the examples to fit to, which broadcasts to `labels`. Others may hold
        anything. None: all.
      by_class: Whether each class has a threshold, from the examples of that label: `level` then holds
        for the examples of each class. A class of too few examples is in all sets.
      groups: Groups of the examples, `[N]`, integers in [0, `num_groups`): `level` then holds in each
        group, see `fit_group_quantile`. They must not depend on the label. None: no groups.
      num_groups: The number of groups, given with `groups`.
      weights: Weights of the examples, `[N]`, against covariate shift, see `fit_weighted_quantile`.
        Not with `by_class` or `groups`. None: equal weights.

    Returns:
      An `AdaptiveSets`, to be called on new probabilities, with another key if this fit had one. Of
      two equal probabilities the first class counts as the larger.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` or `groups` are not integers, `level` or
        `weights` are not real, or `where` is not boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision), labels or groups out of
        range, weights negative or non-finite, or a level outside (0, 1).

    References:
      Romano, Sesia and Candès, "Classification with valid and adaptive coverage", 2020.

    Examples:
      >>> probs = jnp.array([[0.875, 0.125], [0.75, 0.25], [0.25, 0.75]])
      >>> fit_aps(probs, jnp.array([0, 0, 1]), level=0.75)(jnp.array([[0.5, 0.5], [0.625, 0.375]]))
      Array([[ True, False],
             [ True, False]], dtype=bool)
    """
    return fit_raps(
        probs,
        labels,
        level=level,
        penalty=0,
        free=0,
        key=key,
        where=where,
        by_class=by_class,
        groups=groups,
        num_groups=num_groups,
        weights=weights,
    )


def fit_raps(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    level: Numeric,
    penalty: Numeric = 0.01,
    free: Numeric = 5,
    key: Key | None = None,
    where: ArrayLike | None = None,
    by_class: bool = False,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
    weights: ArrayLike | None = None,
) -> AdaptiveSets:
    """RAPS, regularized adaptive prediction sets: APS with a penalty on unlikely classes.

    The score of the class of rank r, counted from 1, is that of APS plus `penalty * max(r - free, 0)`.
    It makes sets smaller if there are many classes.

    Args:
      probs: Probabilities, `[N, K]`, of held-out examples.
      labels: Integers in [0, K), `[N]`.
      level: The probability that a set contains the label: a scalar in (0, 1); may be traced.
      penalty: The penalty per class beyond `free`, finite and at least 0: a scalar; may be traced. Choose
        it and `free` on other examples than these.
      free: The number of classes without a penalty, finite and at least 0: a scalar; may be traced.
      key: A PRNG key, used once, for randomized scores, which confident models need for small sets. None:
        deterministic scores.
      where: Boolean mask of the examples to fit to, which broadcasts to `labels`. Others may hold
        anything. None: all.
      by_class: Whether each class has a threshold, from the examples of that label: `level` then holds
        for the examples of each class. A class of too few examples is in all sets.
      groups: Groups of the examples, `[N]`, integers in [0, `num_groups`): `level` then holds in each
        group, see `fit_group_quantile`. They must not depend on the label. None: no groups.
      num_groups: The number of groups, given with `groups`.
      weights: Weights of the examples, `[N]`, against covariate shift, see `fit_weighted_quantile`.
        Not with `by_class` or `groups`. None: equal weights.

    Returns:
      An `AdaptiveSets`, to be called on new probabilities, with another key if this fit had one. Of
      two equal probabilities the first class counts as the larger.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` or `groups` are not integers, a number is not
        real, or `where` is not boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision), labels or groups out of
        range, weights, `penalty` or `free` negative or non-finite, or a level outside (0, 1).

    References:
      Angelopoulos et al., "Uncertainty sets for image classifiers using conformal prediction", 2021.

    Examples:
      >>> probs = jnp.array([[0.875, 0.125], [0.75, 0.25], [0.25, 0.75]])
      >>> fit_raps(probs, jnp.array([0, 0, 1]), level=0.75, free=1).threshold
      Array(-0.125, dtype=float32)
    """
    probs, labels, where = _predictions.check_examples(probs, labels, where, "[N, K]")
    _checks.check_nonnegative(_checks.check_scalar(penalty, "penalty"), "penalty")
    _checks.check_nonnegative(_checks.check_scalar(free, "free"), "free")
    scores = _adaptive_scores(probs, penalty, free, key)
    threshold = _fitted(scores, labels, level, where, by_class, groups, num_groups, weights)
    return AdaptiveSets(threshold, penalty, free, key is not None)


def _fitted(
    all_scores: jax.Array,
    labels: jax.Array,
    level: Numeric,
    where: ArrayLike | None,
    by_class: bool,
    groups: ArrayLike | None,
    num_groups: int | None,
    weights: ArrayLike | None,
) -> Threshold:
    """The threshold of the labels' scores, whose shapes broadcast to those of new scores `[..., K]`."""
    scores, classes = at_labels(all_scores, labels), all_scores.shape[-1]
    if by_class:
        for value, name in ((groups, "groups"), (num_groups, "num_groups"), (weights, "weights")):
            if value is not None:
                found = "an array" if np.ndim(value) else value
                raise ValueError(f"`{name}` must be None with `by_class`, got {found}.")
        return fit_group_quantile(scores, labels, level=level, num_groups=classes, where=where).quantiles
    if groups is not None or weights is not None:  # a threshold of an example, for all its classes
        scores, where = scores[:, None], None if where is None else jnp.asarray(where)[:, None]
    return _thresholds.fit(scores, level, where, groups, num_groups, weights)


def _adaptive_scores(probs: jax.Array, penalty: Numeric, free: Numeric, key: Key | None) -> jax.Array:
    """The score of every class, `[..., K]`, of which none in a row are equal but for rounding."""
    key = None if key is None else _checks.check_key(key)
    return _meshes.on_automatic_axes(_adaptive, probs, penalty, free, key, out=_meshes.partition(probs))


def _adaptive(probs: jax.Array, penalty: Numeric, free: Numeric, key: Key | None) -> jax.Array:
    order = jnp.argsort(-probs, axis=-1)
    ranked = jnp.take_along_axis(probs, order, axis=-1)
    # The probability of all less likely classes, summed from the least likely.
    summed = jnp.cumsum(ranked[..., ::-1], axis=-1)[..., ::-1]
    rest = jnp.concatenate([summed[..., 1:], jnp.zeros_like(summed[..., :1])], axis=-1)
    share = 0 if key is None else jax.random.uniform(key, (*probs.shape[:-1], 1), probs.dtype)
    rank = jax.lax.broadcasted_iota(jnp.int32, probs.shape, probs.ndim - 1) + 1
    penalty, free = (jnp.asarray(value).astype(probs.dtype) for value in (penalty, free))
    beyond = jnp.maximum(rank.astype(probs.dtype) - free, 0)
    scores = -rest - share * ranked + penalty * beyond
    # Too small to order anything but zeros.
    scores = jnp.where(scores == 0, jnp.finfo(probs.dtype).tiny * rank.astype(probs.dtype), scores)
    return jnp.take_along_axis(scores, jnp.argsort(order, axis=-1), axis=-1)
