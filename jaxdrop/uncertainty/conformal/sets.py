"""Split conformal prediction: sets and intervals with guaranteed coverage.

A fit on held-out examples returns a small pytree that is called on new predictions. If old and new
examples are exchangeable, the set contains the truth with a probability of at least `level`, over the
draw of both and for any model. If no two scores are equal it is at most 1 / (N + 1) more.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Key, Numeric
from jaxdrop.uncertainty._unchecked import at_labels

__all__ = ["CQR", "LAC", "AdaptiveSets", "conformal_quantile", "fit_aps", "fit_cqr", "fit_lac", "fit_raps"]


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
    where = _predictions.check_mask(where, np.shape(scores))
    scores = _predictions.rounded_up(_predictions.check_exact(scores, "scores", where))
    scores = _predictions.filled(_checks.check_rank(scores, 1, "[N, ...]", "scores"), where, jnp.inf)
    level = jnp.asarray(_predictions.check_level(_checks.check_scalar(level, "level")))
    level = _predictions.as_wide(level, "level")
    count = jnp.asarray(len(scores) if where is None else jnp.sum(jnp.asarray(where), 0, dtype=jnp.int32))
    return _meshes.on_automatic_axes(_quantile, scores, count, level)


def _quantile(scores: jax.Array, count: jax.Array, level: jax.Array) -> jax.Array:
    rank = (count + 1).astype(level.dtype) * level
    # Rounding errors, as in 0.55 * 100, must not increase the rank by one. 2e-7 is that of float32.
    whole = jnp.abs(rank - jnp.round(rank)) <= 2e-7 * rank
    rank = jnp.where(whole, jnp.round(rank), jnp.ceil(rank)).astype(jnp.int32)
    ranked = jnp.sort(jnp.append(scores, jnp.full_like(scores[:1], jnp.inf), axis=0), axis=0)
    index = jnp.broadcast_to(jnp.clip(rank - 1, 0, len(scores)), (1, *scores.shape[1:]))
    found = jnp.take_along_axis(ranked, index, axis=0)[0]
    return jnp.where(jnp.isnan(scores).any(0), jnp.nan, found)


class LAC(NamedTuple):
    """Least ambiguous sets: all classes above a probability; a call on `[..., K]` returns the sets.

    Attributes:
      threshold: The largest score in a set, minus the smallest probability of a class in it. Infinite if
        there were too few examples, NaN if a traced label was out of range; then sets hold all classes.
    """

    threshold: jax.Array

    def __call__(self, probs: ArrayLike) -> jax.Array:
        """Whether each class is in the set, `[..., K]`, boolean; a set may be empty."""
        # Not `<=`: a NaN, of a traced label out of range, must not give empty sets.
        return ~(-_predictions.check_probabilities(probs, "[..., K]") > self.threshold)


def fit_lac(probs: ArrayLike, labels: ArrayLike, *, level: Numeric, where: ArrayLike | None = None) -> LAC:
    """LAC, least ambiguous sets: the smallest sets on average at the given coverage, if `probs` are right.

    The score is minus the label's probability. (1 minus it is common, but rounds small probabilities.)

    Args:
      probs: Probabilities, `[N, K]`, of held-out examples.
      labels: Integers in [0, K), `[N]`.
      level: The probability that a set contains the label: a scalar in (0, 1); may be traced.
      where: Boolean mask of the examples to fit to, which broadcasts to `labels`. Others may hold
        anything. None: all.

    Returns:
      A `LAC`, to be called on new probabilities.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers, `level` is not real, or
        `where` is not boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision), labels out of range, or a
        level outside (0, 1).

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
    return LAC(conformal_quantile(-at_labels(probs, labels), level, where=where))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["threshold", "penalty", "free"],
    meta_fields=["randomized"],
)
@dataclasses.dataclass(frozen=True)
class AdaptiveSets:
    """Adaptive sets, which grow with the uncertainty; a call on `[..., K]` returns the sets.

    Attributes:
      threshold: The largest score in a set, see `fit_raps`. Infinite if there were too few examples, NaN
        if a traced label was out of range; then sets hold all classes.
      penalty: The penalty on the score per class beyond the `free` likeliest; 0 for APS.
      free: The number of classes without a penalty.
      randomized: Whether the scores were randomized; then a call needs a key.
    """

    threshold: jax.Array
    penalty: Numeric
    free: Numeric
    randomized: bool

    def __call__(self, probs: ArrayLike, *, key: Key | None = None) -> jax.Array:
        """Whether each class is in the set, `[..., K]`, boolean; a set may be empty."""
        probs = _predictions.check_probabilities(probs, "[..., K]")
        if self.randomized != (key is not None):
            expected, found = ("given", "None") if self.randomized else ("None", "a key")
            raise ValueError(f"`key` must be {expected}, as it was for the fit, got {found}.")
        # Not `<=`: a NaN, of a traced label out of range, must not give empty sets.
        return ~(_adaptive_scores(probs, self.penalty, self.free, key) > self.threshold)


def fit_aps(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    level: Numeric,
    key: Key | None = None,
    where: ArrayLike | None = None,
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

    Returns:
      An `AdaptiveSets`, to be called on new probabilities, with another key if this fit had one. Of
      two equal probabilities the first class counts as the larger.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers, `level` is not real, or
        `where` is not boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision), labels out of range, or a
        level outside (0, 1).

    References:
      Romano, Sesia and Candès, "Classification with valid and adaptive coverage", 2020.

    Examples:
      >>> probs = jnp.array([[0.875, 0.125], [0.75, 0.25], [0.25, 0.75]])
      >>> fit_aps(probs, jnp.array([0, 0, 1]), level=0.75)(jnp.array([[0.5, 0.5], [0.625, 0.375]]))
      Array([[ True, False],
             [ True, False]], dtype=bool)
    """
    return fit_raps(probs, labels, level=level, penalty=0, free=0, key=key, where=where)


def fit_raps(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    level: Numeric,
    penalty: Numeric = 0.01,
    free: Numeric = 5,
    key: Key | None = None,
    where: ArrayLike | None = None,
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

    Returns:
      An `AdaptiveSets`, to be called on new probabilities, with another key if this fit had one. Of
      two equal probabilities the first class counts as the larger.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers, a number is not real, or
        `where` is not boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision), labels out of range, a level
        outside (0, 1), or `penalty` or `free` negative or non-finite.

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
    scores = at_labels(_adaptive_scores(probs, penalty, free, key), labels)
    return AdaptiveSets(conformal_quantile(scores, level, where=where), penalty, free, key is not None)


class CQR(NamedTuple):
    """Conformalized intervals; a call on `(lower, upper)` widens both ends by the margin.

    Attributes:
      margin: The outward shift of each end, in the units of the target. Negative if the intervals were
        too wide, infinite if there were too few examples.
    """

    margin: jax.Array

    def __call__(self, lower: ArrayLike, upper: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """The new ends, rounded outward; an interval with `upper < lower` is empty."""
        margin = _checks.check_broadcastable(self.margin, _interval(lower, upper)[0].shape, "margin")
        low, high = _predictions.exact(lower), _predictions.exact(upper)
        return _predictions.added(low, -margin, -np.inf), _predictions.added(high, margin, np.inf)


def fit_cqr(
    lower: ArrayLike,
    upper: ArrayLike,
    y: ArrayLike,
    *,
    level: Numeric,
    where: ArrayLike | None = None,
) -> CQR:
    """CQR, conformalized quantile regression: predicted intervals, widened to the given coverage.

    The score is the distance of a target from its interval, negative inside. With `lower = upper = mean`
    it is split conformal prediction with the absolute error. Scores of concrete float64 are formed before
    the cast; of others, offsets that are large beside the scores round them: subtract such an offset first.

    Args:
      lower: Predicted lower ends, `[N, ...]`, of held-out examples, such as the
        quantiles at `(1 - level) / 2`.
      upper: Predicted upper ends, of the shape of `lower`.
      y: Targets, of the shape of `lower`.
      level: The probability that an interval contains the target: a scalar in (0, 1); may be traced.
      where: Boolean mask of the examples that count, which broadcasts to `y`. Others may hold anything.
        None: all.

    Returns:
      A `CQR` with a margin per output, `[...]`.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes differ, or concrete values are non-finite or
        a level outside (0, 1).

    References:
      Romano, Patterson and Candès, "Conformalized quantile regression", 2019.

    Examples:
      >>> cqr = fit_cqr(jnp.zeros(4), jnp.ones(4), jnp.array([0.5, 1.25, 2.0, -0.5]), level=0.6)
      >>> cqr.margin, cqr(0.0, 1.0)
      (Array(0.5, dtype=float32), (Array(-0.5, dtype=float32), Array(1.5, dtype=float32)))
    """
    where = _predictions.check_mask(where, np.shape(y))
    given = [_predictions.exact(value) for value in (lower, upper, y)]
    lower, upper = _interval(lower, upper, where)
    y = _checks.check_same_shape(_predictions.check_values(y, "y", where), lower, "y", "lower")
    lower, upper, y = (_predictions.filled(value, where, 0) for value in (lower, upper, y))
    for value, name in ((lower, "lower"), (upper, "upper"), (y, "y")):
        _predictions.check_finite(value, name)
    scores = jnp.maximum(lower - y, y - upper)
    if any(map(_predictions.is_wide, given)) and all(map(_predictions.is_visible, given)):
        low, high, target = (np.asarray(value, np.float64) for value in given)
        with np.errstate(invalid="ignore"):  # of examples that are masked
            scores = np.maximum(low - target, target - high)
    return CQR(conformal_quantile(scores, level, where=where))


def _interval(low: ArrayLike, up: ArrayLike, where: ArrayLike | None = None) -> tuple[jax.Array, jax.Array]:
    lower = _predictions.check_values(low, "lower", where)
    upper = _predictions.check_values(up, "upper", where)
    return lower, _checks.check_same_shape(upper, lower, "upper", "lower")


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
