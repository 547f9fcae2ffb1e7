"""Split conformal prediction: sets and intervals that hold the truth as often as they say.

A fit on examples that were not trained on gives a small tree, to be called on new predictions. If
all are exchangeable, and whatever the model, the truth is in the set with a probability of at
least `level`, over the draw of both; at most 1 / (N + 1) more where no two scores are equal.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Key, Numeric
from jaxdrop.uncertainty.classification import at_labels


def conformal_quantile(scores: ArrayLike, level: Numeric) -> jax.Array:
    """The least value that a new score does not exceed with a probability of `level`.

    The `ceil((N + 1) * level)`-th smallest of the N scores, and infinity where there are too few
    for that: below `level / (1 - level)`.

    Args:
      scores: Scores of exchangeable examples, `[N, ...]`; may be infinite.
      level: A scalar in (0, 1); may be traced.

    Returns:
      An array `[...]`, in float32 at least.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If `scores` are empty, or concrete values are NaN or a level outside (0, 1).

    References:
      Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005.

    >>> conformal_quantile(jnp.arange(1.0, 20.0), 0.9), conformal_quantile(jnp.arange(1.0, 20.0), 0.96)
    (Array(18., dtype=float32), Array(inf, dtype=float32))
    """
    scores = _checks.check_rank(_checks.check_values(scores, "scores"), 1, "[N, ...]", "scores")
    level = _checks.as_wide(jnp.asarray(_checks.check_level(_checks.check_scalar(level, "level"))), "level")
    rank = (len(scores) + 1) * level
    # What rounding adds to a whole number, as to 0.55 * 100, must not make the rank the next one.
    whole = jnp.abs(rank - jnp.round(rank)) <= 2e-7 * rank
    rank = jnp.where(whole, jnp.round(rank), jnp.ceil(rank)).astype(jnp.int32)
    ranked = jnp.sort(jnp.append(scores, jnp.full_like(scores[:1], jnp.inf), axis=0), axis=0)
    return ranked[jnp.clip(rank - 1, 0, len(scores))]


class LAC(NamedTuple):
    """Sets of the classes that are likely enough: called on probabilities `[..., K]`, it gives them.

    Attributes:
      threshold: Of the score: minus the least probability of a class in a set; infinite where
        there were too few examples, and then every class is in it.
    """

    threshold: jax.Array

    def __call__(self, probs: ArrayLike) -> jax.Array:
        """Whether each class is in the set, `[..., K]`; a set may be empty."""
        return -_checks.check_probabilities(probs, "[..., K]") <= self.threshold


def fit_lac(probs: ArrayLike, labels: ArrayLike, *, level: Numeric) -> LAC:
    """Least ambiguous sets: of all that cover so much, the smallest on average, if `probs` are right.

    The score is minus the label's probability. (Usual is 1 minus it, which rounds small ones.)

    Args:
      probs: Probabilities, `[N, K]`, of examples that were not trained on.
      labels: Integers in [0, K), `[N]`.
      level: The share of sets that shall hold their label: a scalar in (0, 1); may be traced.

    Returns:
      A `LAC`, to be called on new probabilities.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers, or `level` is not real.
      ValueError: If the shapes do not fit, `probs` is empty, or concrete values are no
        probabilities (to within 1e-3, or 2e-2 in half precision), labels out of range, or a level
        outside (0, 1).

    References:
      Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded error
      levels", 2019.

    >>> probs = jnp.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> fit_lac(probs, jnp.array([0, 1, 1]), level=0.75)(jnp.array([[0.5, 0.5], [0.7, 0.3]]))
    Array([[ True,  True],
           [ True, False]], dtype=bool)
    """
    probs, labels = _examples(probs, labels)
    return LAC(conformal_quantile(-at_labels(probs, labels), level))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["threshold", "penalty", "free"],
    meta_fields=["randomized"],
)
@dataclasses.dataclass(frozen=True)
class AdaptiveSets:
    """Sets that grow with the uncertainty: called on probabilities `[..., K]`, it gives them.

    Attributes:
      threshold: Of the score, see `fit_raps`; infinite where there were too few examples, and then
        every class is in the set.
      penalty: What each class beyond the `free` most likely adds to the score; 0 for APS.
      free: How many classes add nothing.
      randomized: Whether the scores were, and so whether a call needs a key.
    """

    threshold: jax.Array
    penalty: Numeric
    free: Numeric
    randomized: bool

    def __call__(self, probs: ArrayLike, *, key: Key | None = None) -> jax.Array:
        """Whether each class is in the set, `[..., K]`; a set may be empty."""
        probs = _checks.check_probabilities(probs, "[..., K]")
        if self.randomized != (key is not None):
            expected = "given, as it was" if self.randomized else "None, as it was"
            raise ValueError(f"`key` must be {expected} for the fit, got {key}.")
        return _adaptive_scores(probs, self.penalty, self.free, key) <= self.threshold


def fit_aps(probs: ArrayLike, labels: ArrayLike, *, level: Numeric, key: Key | None = None) -> AdaptiveSets:
    """Adaptive prediction sets: the likeliest classes, as many as it takes.

    The score of a class is the probability of it and of all that are likelier; with a key it is
    that without a random share of its own, the same for all classes of an example, which makes
    sets smaller, and their coverage what it should be and no more.

    Args:
      probs: Probabilities, `[N, K]`, of examples that were not trained on.
      labels: Integers in [0, K), `[N]`.
      level: The share of sets that shall hold their label: a scalar in (0, 1); may be traced.
      key: A PRNG key, used once, for random scores.

    Returns:
      An `AdaptiveSets`, to be called on new probabilities; with another key if this had one. Of
      two equal probabilities the first class counts as the likelier.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers, or `level` is not real.
      ValueError: If the shapes do not fit, `probs` is empty, or concrete values are no
        probabilities (to within 1e-3, or 2e-2 in half precision), labels out of range, or a level
        outside (0, 1).

    References:
      Romano, Sesia and Candès, "Classification with valid and adaptive coverage", 2020.

    >>> probs = jnp.array([[0.875, 0.125], [0.75, 0.25], [0.25, 0.75]])
    >>> fit_aps(probs, jnp.array([0, 0, 1]), level=0.75)(jnp.array([[0.5, 0.5], [0.625, 0.375]]))
    Array([[ True, False],
           [ True, False]], dtype=bool)
    """
    return fit_raps(probs, labels, level=level, penalty=0, free=0, key=key)


def fit_raps(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    level: Numeric,
    penalty: Numeric = 0.01,
    free: Numeric = 5,
    key: Key | None = None,
) -> AdaptiveSets:
    """Regularized adaptive prediction sets: those of `fit_aps`, with a price on unlikely classes.

    The score of the class of rank r, counted from 1, is that of APS plus
    `penalty * max(r - free, 0)`. It makes sets of many classes smaller.

    Args:
      probs: Probabilities, `[N, K]`, of examples that were not trained on.
      labels: Integers in [0, K), `[N]`.
      level: The share of sets that shall hold their label: a scalar in (0, 1); may be traced.
      penalty: The price, finite and at least 0: a scalar; may be traced.
      free: How many classes cost nothing, finite and at least 0: a scalar; may be traced. Choose
        both on other examples than these.
      key: A PRNG key, used once, for random scores.

    Returns:
      An `AdaptiveSets`, to be called on new probabilities; with another key if this had one. Of
      two equal probabilities the first class counts as the likelier.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers, or a number is not real.
      ValueError: If the shapes do not fit, `probs` is empty, or concrete values are no
        probabilities (to within 1e-3, or 2e-2 in half precision), labels out of range, a level
        outside (0, 1), or `penalty` or `free` negative or not finite.

    References:
      Angelopoulos et al., "Uncertainty sets for image classifiers using conformal prediction", 2021.

    >>> probs = jnp.array([[0.875, 0.125], [0.75, 0.25], [0.25, 0.75]])
    >>> fit_raps(probs, jnp.array([0, 0, 1]), level=0.75, free=1).threshold
    Array(0.875, dtype=float32)
    """
    probs, labels = _examples(probs, labels)
    for value, name in ((penalty, "penalty"), (free, "free")):
        _checks.check_nonnegative(_checks.check_scalar(value, name), name)
    scores = at_labels(_adaptive_scores(probs, penalty, free, key), labels)
    return AdaptiveSets(conformal_quantile(scores, level), penalty, free, key is not None)


class CQR(NamedTuple):
    """Intervals moved at both ends: called on `(lower, upper)`, it gives those that cover enough.

    Attributes:
      margin: By how much each end moves outwards, in the units of the target; negative where the
        intervals were too wide, infinite where there were too few examples.
    """

    margin: jax.Array

    def __call__(self, lower: ArrayLike, upper: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """The lower and upper ends; an interval that ends before it begins is empty."""
        lower, upper = _interval(lower, upper)
        margin = _checks.check_broadcastable(self.margin, lower.shape, "margin")
        return lower - margin, upper + margin


def fit_cqr(lower: ArrayLike, upper: ArrayLike, y: ArrayLike, *, level: Numeric) -> CQR:
    """Conformalized quantile regression: predicted intervals, made as wide as it takes.

    The score is how far a target lies outside its interval, negative inside. With
    `lower = upper = mean` it is split conformal prediction by the absolute error.

    Args:
      lower: Predicted lower ends, `[N, ...]`, of examples that were not trained on, such as the
        quantiles at `(1 - level) / 2`.
      upper: Predicted upper ends, of that shape.
      y: Targets, of that shape.
      level: The share of intervals that shall hold their target: a scalar in (0, 1); may be traced.

    Returns:
      A `CQR` with a margin for each output, `[...]`.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty, the shapes differ, or concrete values are not finite or
        a level outside (0, 1).

    References:
      Romano, Patterson and Candès, "Conformalized quantile regression", 2019.

    >>> cqr = fit_cqr(jnp.zeros(4), jnp.ones(4), jnp.array([0.5, 1.25, 2.0, -0.5]), level=0.6)
    >>> cqr.margin, cqr(0.0, 1.0)
    (Array(0.5, dtype=float32), (Array(-0.5, dtype=float32), Array(1.5, dtype=float32)))
    """
    lower, upper = _interval(lower, upper)
    y = _checks.check_same_shape(_checks.check_values(y, "y"), lower, "y", "lower")
    for value, name in ((lower, "lower"), (upper, "upper"), (y, "y")):
        _checks.check_finite(value, name)
    return CQR(conformal_quantile(jnp.maximum(lower - y, y - upper), level))


def _examples(probs: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    probs = _checks.check_probabilities(probs, "[N, K]")
    return probs, _checks.check_labels(labels, probs)


def _interval(lower: ArrayLike, upper: ArrayLike) -> tuple[jax.Array, jax.Array]:
    lower = _checks.check_values(lower, "lower")
    return lower, _checks.check_same_shape(_checks.check_values(upper, "upper"), lower, "upper", "lower")


def _adaptive_scores(probs: jax.Array, penalty: Numeric, free: Numeric, key: Key | None) -> jax.Array:
    """The score of every class, `[..., K]`."""
    order = jnp.argsort(-probs, axis=-1)
    ranked = jnp.take_along_axis(probs, order, axis=-1)
    share = 0 if key is None else jax.random.uniform(key, (*probs.shape[:-1], 1), probs.dtype)
    rank = jax.lax.broadcasted_iota(jnp.int32, probs.shape, probs.ndim - 1) + 1
    scores = jnp.cumsum(ranked, axis=-1) - share * ranked + penalty * jnp.maximum(rank - free, 0)
    return jnp.take_along_axis(scores, jnp.argsort(order, axis=-1), axis=-1)
