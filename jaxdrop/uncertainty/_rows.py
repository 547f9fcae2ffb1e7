"""The scores of a report, a row each; for concrete arrays, without those that are masked."""

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _predictions
from jaxdrop._types import ArrayLike, Key
from jaxdrop.uncertainty import (
    _tallied,
    _unchecked,
    binary,
    classification,
    decomposition,
    detection,
    errors,
    intervals,
    mixtures,
    regression,
    regression_calibration,
)
from jaxdrop.uncertainty.errors import Score

LOWER, HIGHER, NEITHER = "lower", "higher", ""
NATS = "nats"


@dataclass(frozen=True)
class ReportRow:
    """A score in a report.

    Attributes:
      name: The name of the score.
      value: Its value, infinite for an infinite loss; NaN if the examples do not determine it.
      standard_error: Its standard error; NaN if it is not known, as without a key for a bootstrap.
      better: "lower" or "higher", "nearer to 0.9" for a coverage at that level, "" if neither is better.
      unit: The unit of value and standard error; "" if they have none.
    """

    name: str
    value: float
    standard_error: float
    better: str
    unit: str


Rows = list[ReportRow]


def row(name: str, score: Score | _tallied.BinnedScore, better: str, unit: str = "") -> ReportRow:
    """A row of a score that is computed."""
    return ReportRow(name, float(score.value), float(score.standard_error), better, unit)


def mean(name: str, values: ArrayLike, better: str, unit: str = "") -> ReportRow:
    """A row of a mean over examples."""
    return row(name, errors.mean_with_error(values), better, unit)


def of_classes(probs: ArrayLike, labels: ArrayLike, samples: bool, bins: int, key: Key | None) -> Rows:
    """The rows of class probabilities, `[B, K]` or `[T, B, K]`."""
    drawn = probs
    if samples:
        probs = jnp.mean(_predictions.widened(drawn), axis=0)
        if drawn.dtype.itemsize < 4:  # the sums are of half precision, and are checked as of float32
            probs = probs / jnp.sum(probs, axis=-1, keepdims=True)
    hits = classification.accuracy(probs, labels)
    rows = [
        mean("accuracy", hits, HIGHER),
        mean("nll", classification.nll(probs, labels), LOWER, NATS),
        mean("brier", classification.brier(probs, labels), LOWER),
        row("ece", errors.ece_with_error(probs, labels, bins=bins), LOWER),
        row("classwise_ece", _resampled(_classwise(bins), key, probs, labels), LOWER),
    ]
    return rows + _of_uncertainties(drawn if samples else probs, hits, samples)


def of_binary(probs: ArrayLike, labels: ArrayLike, samples: bool, bins: int) -> Rows:
    """The rows of binary probabilities, `[B]` or `[T, B]`."""
    drawn = _predictions.widened(probs)
    if samples:
        probs = jnp.mean(drawn, axis=0)
    nll = binary.binary_nll(probs, labels)
    truth = np.asarray(labels) > 0
    hits = jnp.asarray((np.asarray(probs) > 0.5) == truth, drawn.dtype)
    sums = _tallied.sums_of_gaps(_predictions.widened(probs), jnp.asarray(truth, drawn.dtype), None, bins)
    rows = [
        mean("accuracy", hits, HIGHER),
        mean("nll", nll, LOWER, NATS),
        mean("brier", binary.binary_brier(probs, labels), LOWER),
        row("ece", _tallied.FINISHED["ece"](sums), LOWER),
        row("auroc", _of_two(detection.auroc_with_error, probs, truth), HIGHER),
        row("aupr", _of_two(detection.aupr_with_error, probs, truth), HIGHER),
    ]
    return rows + _of_uncertainties(jnp.stack([1 - drawn, drawn], axis=-1), hits, samples)


def of_normal(
    given: ArrayLike, stddev: ArrayLike, y: ArrayLike, level: float, unit: str, bins: int, key: Key | None
) -> Rows:
    """The rows of predicted means and standard deviations, `[B]`."""
    nll = regression.gaussian_nll(given, jnp.square(_predictions.widened(stddev)), y)
    off, spread = _predictions.shifted(y, given), _predictions.widened(stddev)
    end = statistics.NormalDist().inv_cdf((1 + level) / 2) * spread
    return [
        mean("nll", nll, LOWER, NATS),
        _rms("rmse", off, unit),
        mean("crps", regression.crps_gaussian(given, stddev, y), LOWER, unit),
        *_of_interval(jnp.abs(off) <= end, -end, end, off, level, unit),
        _rms("sharpness", spread, unit),
        _ence_row(off, spread, bins, key),
    ]


def of_samples(samples: ArrayLike, y: ArrayLike, level: float, unit: str) -> Rows:
    """The rows of samples `[T, B]`; each end of the interval lies between two of them."""
    count = len(samples)
    largest = (count - 1) / (count + 1)
    if level > largest:
        least = int(np.ceil((1 + level) / (1 - level) - 1e-9))
        raise ValueError(
            f"`level` must be at most {largest:.3g}, the largest coverage that {count} samples can show "
            f"(take {least} samples), got {level:g}."
        )
    score = regression.crps(samples, y)
    off = np.sort(np.asarray(_predictions.shifted(samples, np.asarray(y)[None])), axis=0)
    # The interval at rank k from both ends covers one more sample with the probability 1 - 2 k / (T + 1).
    rank = (count + 1) * (1 - level) / 2
    k = int(rank + 1e-9)
    wide, narrow = ((count + 1 - 2 * k) / (count + 1), max(count - 1 - 2 * k, 0) / (count + 1))
    share = (level - narrow) / (wide - narrow)
    inside = share * _is_inside(off, k) + (1 - share) * _is_inside(off, k + 1)
    lower, upper = _at(off, rank), _at(off, count + 1 - rank)
    return [
        _rms("rmse", off.mean(0), unit),
        mean("crps", score, LOWER, unit),
        *_of_interval(inside, lower, upper, np.zeros_like(lower), level, unit),
        _rms("sharpness", off.std(0, ddof=1), unit),
    ]


def of_mixture(
    means: ArrayLike, stddevs: ArrayLike, y: ArrayLike, level: float, unit: str, bins: int, key: Key | None
) -> Rows:
    """The rows of samples of a mean and a standard deviation, `[T, B]`."""
    score = mixtures.crps_gaussian_mixture(means, stddevs, y)
    off, spread = _predictions.shifted(means, np.asarray(y)[None]), _predictions.widened(stddevs)
    each = regression.gaussian_nll(off, spread**2, jnp.zeros_like(off))
    nll = np.log(len(off)) - jax.scipy.special.logsumexp(-each, axis=0)
    lower, upper = mixtures.gaussian_mixture_quantile(off, spread, np.array([1 - level, 1 + level]) / 2)
    aleatoric, epistemic = decomposition.decompose_variance(off, spread**2)
    total = jnp.sqrt(aleatoric + epistemic)
    return [
        mean("nll", nll, LOWER, NATS),
        _rms("rmse", off.mean(0), unit),
        mean("crps", score, LOWER, unit),
        *_of_interval((lower <= 0) & (upper >= 0), lower, upper, jnp.zeros_like(lower), level, unit),
        _rms("sharpness", total, unit),
        _ence_row(off.mean(0), total, bins, key),
        _rms("aleatoric_stddev", jnp.sqrt(aleatoric), unit, NEITHER),
        _rms("epistemic_stddev", jnp.sqrt(epistemic), unit, NEITHER),
    ]


def _of_uncertainties(probs: ArrayLike, hits: jax.Array, samples: bool) -> Rows:
    """How well entropies tell wrong predictions from right ones, and their means."""
    if samples:
        means = {
            "total_entropy": decomposition.total_entropy(probs),
            "expected_entropy": decomposition.expected_entropy(probs),
            "mutual_information": decomposition.mutual_information(probs),
        }
        doubts = {name: means[name] for name in ("total_entropy", "mutual_information")}
    else:
        means = doubts = {"entropy": _unchecked.entropy_of(_predictions.widened(probs))}
    wrong = np.asarray(hits) == 0
    rows = []
    for name, doubt in doubts.items():
        rows.append(row(f"aurc_{name}", errors.aurc_with_error(doubt, 1 - hits), LOWER))
        found = _of_two(detection.auroc_with_error, doubt, wrong)
        rows.append(row(f"error_auroc_{name}", found, HIGHER))
    return rows + [mean(name, values, NEITHER, NATS) for name, values in means.items()]


def _of_two(score: Callable[..., Score], values: ArrayLike, outside: np.ndarray) -> Score:
    """A score that tells some examples from the others; NaN if there are none of either."""
    if outside.all() or not outside.any():
        return Score(np.nan, np.nan)
    # Masks, as arrays of other sizes would be compiled again.
    return score(values, values, where_in=~outside, where_out=outside)


def _of_interval(
    inside: ArrayLike, lower: ArrayLike, upper: ArrayLike, y: ArrayLike, level: float, unit: str
) -> Rows:
    return [
        mean("coverage", inside, f"nearer to {level:g}"),
        mean("interval_score", intervals.interval_score(lower, upper, y, level), LOWER, unit),
    ]


def _rms(name: str, values: ArrayLike, unit: str, better: str = LOWER) -> ReportRow:
    return row(name, _tallied.FINISHED["rms"](_tallied.sums_of_mean(values, None, True)), better, unit)


def _is_inside(ascending: np.ndarray, rank: int) -> np.ndarray:
    """Whether 0 lies between the samples of a rank from both ends; those may have crossed."""
    rank = min(rank, len(ascending))
    return ((ascending[rank - 1] <= 0) & (ascending[-rank] >= 0)).astype(ascending.dtype)


def _at(ascending: np.ndarray, rank: float) -> np.ndarray:
    """The sample of a rank from 1, linear between two."""
    first = min(max(int(rank), 1), len(ascending) - 1)
    share = np.asarray(rank - first, ascending.dtype)
    return (1 - share) * ascending[first - 1] + share * ascending[first]


def _ence_row(off: jax.Array, stddev: jax.Array, bins: int, key: Key | None) -> ReportRow:
    return row("ence", _resampled(_ence(bins), key, jnp.zeros_like(off), stddev, off), LOWER)


# Compiled once for each number of bins.
@functools.cache
def _classwise(bins: int) -> Callable[..., jax.Array]:
    return functools.partial(classification.classwise_ece, bins=bins)


@functools.cache
def _ence(bins: int) -> Callable[..., jax.Array]:
    return functools.partial(regression_calibration.ence, bins=bins)


def _resampled(score: Callable[..., jax.Array], key: Key | None, *arrays: ArrayLike) -> Score:
    """A score with the error of a bootstrap; without a key the error is NaN."""
    if key is None:
        return Score(score(*arrays), np.nan)
    return errors.bootstrap(key, score, *arrays, paired=True)
