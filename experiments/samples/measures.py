"""Errors of each method against a reference of many samples, and the time to equal error.

The reference is two independent halves a and b. The squared error of an estimate m is the mean of
`(m - a) (m - b)`: the noise of the halves has mean zero in it, so it needs no correction. It may be negative
where an error is far below that noise.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats

from experiments.means import Mean
from jaxdrop import uncertainty

# Groups of examples, one of which is left out at a time for the standard errors.
GROUPS = 16
# Least squared error of a logarithm.
TINY = 1e-30
# Measures by key: title in tables.
ERRORS = {
    "mean": "mean (sd)",
    "deviation": "sd (%)",
    "covariance": "covariance (%)",
    "log_density": "log density",
    "probabilities": "probabilities",
    "total_entropy": "total",
    "expected_entropy": "expected",
    "mutual_information": "MI",
    "inside": "MI, in",
    "ranking": "rank (%)",
}
# Those in percent.
PERCENT = ("deviation", "covariance", "ranking")
ENTROPIES = ("total_entropy", "expected_entropy", "mutual_information")

Found = dict[str, np.ndarray]


class Ratio(NamedTuple):
    """How many times the samples or the time of a method independent samples need for its error.

    Attributes:
      value: The ratio and its standard error.
      sign: ">" for a lower bound, where the error is within the noise of the reference; "<" for an upper
        bound, where it is above that of the fewest samples; "~" where it is below that of the most samples,
        so that their number is extrapolated.
    """

    value: Mean
    sign: str = ""

    def show(self) -> str:
        """Text such as `~120±10`."""
        digits = 0 if abs(self.value.value) >= 10 else 1 if abs(self.value.value) >= 1 else 2
        return self.sign + self.value.show(digits=digits)


def squared_errors(found: Found, halves: tuple[Found, Found]) -> dict[str, np.ndarray]:
    """Squared error of every example by measure, `[B]`, or fewer where only some are labeled."""
    a, b = halves

    def product(name: str) -> np.ndarray:
        return (found[name] - a[name]) * (found[name] - b[name])

    variance = (a["variance"] + b["variance"]) / 2
    sds = [np.sqrt(part["variance"]) for part in (found, a, b)]
    errors = {
        "mean": (product("mean") / variance).mean(-1),
        "deviation": ((sds[0] - sds[1]) * (sds[0] - sds[2]) / variance).mean(-1),
        "covariance": product("covariance").sum((1, 2)) / (a["covariance"] * b["covariance"]).sum((1, 2)),
    }
    if "log_density" in found:
        errors["log_density"] = product("log_density")
    if "probabilities" in found:
        errors["probabilities"] = product("probabilities").sum(-1)
        errors |= {name: product(name) for name in ENTROPIES}
        errors["inside"] = errors["mutual_information"][: len(a["log_density"])]
        ranks = [ranking(part["mutual_information"]) for part in (found, a, b)]
        errors["ranking"] = (ranks[0] - ranks[1]) * (ranks[0] - ranks[2])
    return errors


def floors(halves: tuple[Found, Found]) -> dict[str, float]:
    """Noise of the reference by measure: the standard error of the mean squared error of the truth, or more.

    It is that error if the outputs of an example are off together; less if each is off by itself.
    """
    a, b = halves
    return {
        name: float(np.sqrt((squared**2).sum()) / (2 * len(squared)))
        for name, squared in squared_errors(a, (b, b)).items()
    }


def ranking(values: np.ndarray) -> np.ndarray:
    """Ranks as shares of their number; equal values share the mean of their ranks."""
    return scipy.stats.rankdata(values) / len(values)


def auroc(information: np.ndarray, inside: int) -> float:
    """Area under the ROC curve of the last examples against the first `inside`, by mutual information."""
    return float(uncertainty.auroc(information[:inside], information[inside:]))


def root(squared: np.ndarray) -> Mean:
    """Root of the mean squared error; its standard error is over examples."""
    mean = Mean.of(squared)
    value = np.sqrt(max(mean.value, 0.0))
    return Mean(float(value), mean.error / (2 * value) if value else float("nan"))


def bounded(squared: np.ndarray, floor: float) -> tuple[float, bool]:
    """Mean squared error; within twice the noise of the reference an upper bound, and False.

    Both `floor` and the standard error over examples are at least that noise, so the smaller one is taken.
    """
    mean = Mean.of(squared)
    noise = min(floor, mean.error)
    known = not mean.value <= 2 * noise
    return mean.value if known else max(mean.value, 0) + 2 * noise, known


def leave_out(squared: np.ndarray) -> np.ndarray:
    """Mean squared error without each group of examples, `[groups]`; a group has examples of all sets."""
    groups = np.arange(len(squared)) % min(GROUPS, len(squared))
    counts = np.bincount(groups)
    return (squared.sum() - np.bincount(groups, squared)) / (len(squared) - counts)


def samples_needed(error: float, counts: np.ndarray, errors: np.ndarray) -> float:
    """Number of independent samples of a mean squared error: log-log interpolation of those measured.

    Below the least measured error it is extrapolated as one over the number of samples; above the largest it
    is the smallest number.
    """
    known = np.isfinite(errors)
    counts, errors = counts[known], np.minimum.accumulate(np.maximum(errors[known], TINY))
    if error < errors[-1]:
        return float(counts[-1] * errors[-1] / error)
    return float(np.exp(np.interp(-np.log(error), -np.log(errors), np.log(counts))))


def time_needed(samples: float, counts: np.ndarray, times: np.ndarray) -> float:
    """Time of a number of independent samples, in proportion to it beyond the largest measured."""
    if samples > counts[-1]:
        return float(times[-1] * samples / counts[-1])
    return float(np.exp(np.interp(np.log(samples), np.log(counts), np.log(times))))


def ratio(
    squared: np.ndarray,
    curve: dict[int, np.ndarray],
    price: np.ndarray,
    prices: dict[int, np.ndarray],
    floor: float = 0.0,
) -> Ratio:
    """Price of independent samples with the error of a method, over the price of the method.

    Args:
      squared: Squared errors of the method, `[B]`.
      curve: Those of independent samples, by their number.
      price: The price of the method in each round, `[rounds]`; an array of one if it is known.
      prices: That of independent samples, by their number.
      floor: The noise of the reference, see `floors`.

    Returns:
      The ratio. Its error is that over examples (jackknife) and that over rounds, as if independent.
    """
    counts = np.array(list(curve))
    error, known = bounded(squared, floor)
    lift = error - squared.mean()

    def of(error: float, errors: np.ndarray, index: int | None = None) -> float:
        """Logarithm of the ratio, of the medians of all rounds or of one round."""
        times = np.array([np.median(of if index is None else of[index]) for of in prices.values()])
        own = np.median(price if index is None else price[index])
        return np.log(time_needed(samples_needed(error + lift, counts, errors), counts, times) / own)

    errors = np.array([values.mean() for values in curve.values()])
    value = of(error - lift, errors)
    without = [leave_out(squared), np.stack([leave_out(values) for values in curve.values()], 1)]
    parts = np.array([of(own, others) for own, others in zip(*without, strict=True)])
    spread = (len(parts) - 1) * parts.var()
    if len(price) > 1:
        rounds = np.array([of(error - lift, errors, i) for i in range(len(price))])
        spread += rounds.var(ddof=1) / len(rounds)
    sign = ">" if not known else "~" if error < np.nanmin(errors) else ""
    if error > np.nanmax(errors):
        sign = "<"
    found = np.exp(value)
    return Ratio(Mean(float(found), float(found * np.sqrt(spread))), sign)
