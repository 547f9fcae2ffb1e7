"""Plots of regression: bands, targets against predictions, and the calibration of distributions."""

import statistics
from collections.abc import Sequence

import numpy as np
import scipy.stats

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.plots import _arrays, _axes
from jaxdrop.plots._axes import Axes
from jaxdrop.uncertainty import QuantileReliability, Score, finish, mean_with_error, tally_rms

__all__ = ["pit_histogram", "prediction_bands", "quantile_calibration", "targets_against_predictions"]

_IDEAL, _EQUAL = "calibrated", "target = prediction"
# The share of bars of a calibrated forecast that lie within the band of a PIT histogram.
_BAND = 0.95
# Levels at which PIT values are compared.
_LEVELS = np.arange(1, 20) / 20


def prediction_bands(
    x: ArrayLike,
    mean: ArrayLike,
    stddev: ArrayLike,
    targets: ArrayLike | None = None,
    *,
    levels: Sequence[float] = (0.5, 0.9),
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plots predictions of one variable with bands that should contain a share of the targets.

    A band is the central interval of a normal distribution. With targets, the legend gives the share of
    them that each band covers, with its standard error, which is that of independent targets.

    Args:
      x: The inputs, `[N]`, in any order.
      mean: The predicted means, `[N]`.
      stddev: The predicted standard deviations, at least 0, `[N]` or a scalar. For new targets they include
        the noise.
      targets: The targets, `[N]`; None to draw none.
      levels: The share of targets that each band should contain, in (0, 1).
      label: The name in the legend. Each call on the same axes has another color.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes. Of more than 1,000 predictions, or 2,000 targets, some are drawn, evenly in `x`; coverages
      count all.

    Raises:
      TypeError: If an argument is not real, or traced.
      ValueError: If an argument is empty, the shapes do not match, values are not finite, deviations
        negative, or levels outside (0, 1).

    Examples:
      >>> x = np.linspace(0, 1, 5)
      >>> ax = prediction_bands(x, 2 * x, 0.1, 2 * x + 0.1)
      >>> [text.get_text() for text in ax.get_legend().get_texts()]
      ['mean', '90 % band: covers 100 ± 0 %', '50 % band: covers 0 ± 0 %', 'targets']
    """
    x = _arrays.vector(x, "x", finite=True)
    mean = _arrays.check_alike(_arrays.vector(mean, "mean", finite=True), x, "mean", "x")
    spread = _arrays.spreads(stddev, x, "x")
    if targets is not None:
        targets = _arrays.check_alike(_arrays.vector(targets, "targets", finite=True), x, "targets", "x")
    shares = _arrays.vector(np.asarray(levels, float), "levels")
    _predictions.check_level(shares, "levels")
    ax = _axes.axes(ax)
    style = _axes.look(ax)
    order = np.argsort(x, kind="stable")
    at = order[_axes.thinned(len(x), _axes.LINE_POINTS)]
    ax.plot(x[at], mean[at], color=style.color, ls=style.line, lw=1.6, label=label or "mean")
    for level in np.sort(shares)[::-1]:
        far = statistics.NormalDist().inv_cdf((1 + level) / 2) * spread
        text = f"{100 * level:g} % band"
        if targets is not None:
            covered = mean_with_error(100.0 * (np.abs(targets - mean) <= far))
            text = f"{text}: covers {_axes.told(covered)} %"
        ends = mean[at] - far[at], mean[at] + far[at]
        alpha = 0.18 + 0.3 * (1 - level)  # the narrower, the darker
        ax.fill_between(x[at], *ends, color=style.color, alpha=alpha, lw=0, label=text)
    if targets is not None:
        at = order[_axes.thinned(len(x), _axes.CLOUD_POINTS)]
        look = {"color": _axes.foreground(ax), "marker": ".", "ls": "", "ms": 4, "alpha": 0.7}
        ax.plot(x[at], targets[at], **look, label="targets")
    ax.set_xlabel("x")
    ax.set_ylabel("y")
    _axes.show_legend(ax)
    return ax


def targets_against_predictions(
    mean: ArrayLike,
    stddev: ArrayLike,
    targets: ArrayLike,
    *,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plots targets against predicted means, whose bars are one predicted standard deviation.

    The legend gives the root mean squared error with its standard error, that of independent targets.

    Args:
      mean: The predicted means, `[N]`.
      stddev: The predicted standard deviations, at least 0, `[N]` or a scalar.
      targets: The targets, `[N]`.
      label: The name in the legend. Each call on the same axes has another color.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes. Of more than 2,000 targets some are drawn, evenly by their predictions.

    Raises:
      TypeError: If an argument is not real, or traced.
      ValueError: If an argument is empty, the shapes do not match, values are not finite, or deviations
        negative.

    Examples:
      >>> ax = targets_against_predictions(np.zeros(2), 1.0, np.array([3.0, 4.0]))
      >>> ax.get_legend().get_texts()[1].get_text()
      'RMSE 3.54 ± 0.49'
    """
    mean = _arrays.vector(mean, "mean", finite=True)
    spread = _arrays.spreads(stddev, mean, "mean")
    targets = _arrays.check_alike(_arrays.vector(targets, "targets", finite=True), mean, "targets", "mean")
    score = _arrays.scored(lambda gaps: finish(tally_rms(gaps)), targets - mean)
    ax = _axes.axes(ax, _axes.SQUARE)
    style = _axes.look(ax)
    if _axes.is_new(ax, _EQUAL):
        ax.axline((mean[0], mean[0]), slope=1, color=_axes.GRAY, ls=":", label=_EQUAL)
    at = np.argsort(mean, kind="stable")[_axes.thinned(len(mean), _axes.CLOUD_POINTS)]
    text = _axes.with_label(label, f"RMSE {_axes.told(score)}")
    look = {"color": style.color, "marker": style.marker, "ls": "", "ms": 4, "lw": 0.8, "alpha": 0.7}
    ax.errorbar(mean[at], targets[at], xerr=spread[at], **look, label=text)
    ax.set_xlabel("predicted mean ± standard deviation")
    ax.set_ylabel("target")
    _axes.show_legend(ax)
    return ax


def pit_histogram(
    pit: ArrayLike, *, bins: int = 10, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Plots the histogram of PIT values, with the band of a calibrated forecast.

    The values of a calibrated forecast are uniform: 19 of 20 of its bars lie within the band, which has the
    binomial 2.5 % and 97.5 % quantiles of independent examples. Bars that are high at both ends tell of
    deviations that are too small, bars that are high in the middle of ones that are too large, and a slope
    of a bias.

    Values of `uncertainty.pit` without a key are T + 1 numbers. Bins that do not divide them equally are
    refused, as a calibrated forecast would not be flat: give it a key.

    Args:
      pit: Values of the probability integral transform, in [0, 1], `[...]`, such as those of
        `uncertainty.pit`, `pit_gaussian` or `pit_gaussian_mixture`.
      bins: The number of bins, at least 1.
      label: The name in the legend. Each call on the same axes has another color.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If `pit` is not real, or traced, or `bins` is not an integer.
      ValueError: If `pit` is empty or outside [0, 1], values are NaN, `bins` is below 1, or it does not
        divide the T + 1 ranks of values without a key.

    References:
      Gneiting, Balabdaoui and Raftery, "Probabilistic forecasts, calibration and sharpness", 2007.

    Examples:
      >>> ax = pit_histogram(np.linspace(0.05, 0.95, 10), bins=5)
      >>> ax.patches[-1].get_data().values
      array([0.2, 0.2, 0.2, 0.2, 0.2])
    """
    values = _check_pit(pit)
    _checks.check_count(bins, "bins")
    ranks = _ranks(values)
    if ranks and ranks % bins:
        raise ValueError(
            f"`bins` must divide the {ranks} ranks of PIT values without a key (give `pit` one), got {bins}."
        )
    edges = np.linspace(0, 1, bins + 1)
    share = np.histogram(values, edges)[0] / len(values)
    ax = _axes.axes(ax)
    style = _axes.look(ax)
    # The band of each number of examples and of bins.
    band = f"calibrated: {100 * _BAND:g} % of the bars of {len(values):,} examples"
    if _axes.is_new(ax, band):
        ends = (np.full(bins, end) for end in _uniform_band(len(values), bins))
        below, above = ends
        ax.stairs(above, edges, baseline=below, fill=True, color=_axes.GRAY, alpha=0.3, lw=0, label=band)
        ax.axhline(1 / bins, color=_axes.GRAY, ls=":", lw=1)
    ax.stairs(share, edges, fill=True, color=style.color, alpha=_axes.FILL, lw=0)
    ax.stairs(share, edges, color=style.color, ls=style.line, lw=1.6, label=label or "forecast")
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0, auto=None)
    ax.set_xlabel("PIT: predicted probability of a value up to the target")
    ax.set_ylabel("share of the targets")
    _axes.show_legend(ax, loc="lower center")
    return ax


def quantile_calibration(
    found: ArrayLike | QuantileReliability, *, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Plots the share of targets below each predicted quantile against its level, with standard errors.

    Bars are Wilson's intervals of one standard error. The legend gives the miscalibration, the mean distance
    from the diagonal, whose standard error follows from the covariance of the shares, to first order: for a
    calibrated forecast, whose gaps are noise, it is too large by half. Errors are those of independent
    targets.

    Args:
      found: A `QuantileReliability` of several levels, from `uncertainty.quantile_reliability`, or PIT values
        in [0, 1], `[...]`, which are compared at levels of 5 % to 95 %.
      label: The name in the legend. Each call on the same axes has another color.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If `found` is not real, or traced.
      ValueError: If `found` is empty, or values are NaN or outside [0, 1].

    References:
      Kuleshov, Fenner and Ermon, "Accurate uncertainties for deep learning using calibrated regression",
      2018; Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Examples:
      >>> ax = quantile_calibration(np.array([0.2, 0.4, 0.6, 0.8]))
      >>> ax.get_ylabel()
      'share of targets below the quantile, ± standard error'
    """
    if isinstance(found, QuantileReliability):
        level, share = (_arrays.vector(of, "found") for of in (found.level, found.share))
        total = int(_arrays.check_known(found.total, "found"))
    else:
        values = np.sort(_check_pit(found, "found"))
        total = len(values)
        ranks = _ranks(values)
        # A share of ranks is known at their borders.
        level = np.unique((_LEVELS * ranks).round().clip(1, ranks - 1)) / ranks if ranks else _LEVELS
        share = np.searchsorted(values, level, side="right") / total
    order = np.argsort(level, kind="stable")
    level, share = level[order], share[order]
    ax = _axes.axes(ax, _axes.SQUARE)
    style = _axes.look(ax)
    if _axes.is_new(ax, _IDEAL):
        ax.plot([0, 1], [0, 1], color=_axes.GRAY, ls=":", label=_IDEAL)
    text = _axes.with_label(label, f"miscalibration {_axes.told(_miscalibration(level, share, total))}")
    look = {"color": style.color, "marker": style.marker, "ls": style.line, "ms": 4, "lw": 1.2}
    ax.errorbar(level, share, _axes.bars(share, _axes.wilson(share, total)), **look, label=text)
    _axes.show_shares(ax)
    ax.set_xlabel("level of the predicted quantile")
    ax.set_ylabel("share of targets below the quantile, ± standard error")
    _axes.show_legend(ax, loc="upper left")
    return ax


def _check_pit(pit: ArrayLike, name: str = "pit") -> np.ndarray:
    values = _arrays.numbers(pit, name).ravel()
    _checks.check_all(values, name, "lie in [0, 1]", lambda values: (values >= 0) & (values <= 1))
    return values


def _ranks(values: np.ndarray) -> int:
    """The number T + 1 of ranks, if the values are those of samples without a key; else 0."""
    distinct = np.unique(values)
    if not 1 < len(distinct) <= len(values) / 2:
        return 0
    ranks = round(1 / np.diff(distinct).min())
    off = distinct * ranks - 0.5
    return ranks if ranks <= len(values) and np.allclose(off, off.round(), atol=1e-3) else 0


def _uniform_band(count: int, bins: int) -> tuple[float, float]:
    """The quantiles of the share of independent uniform values in one of some bins."""
    tail = (1 - _BAND) / 2
    low, high = scipy.stats.binom.ppf([tail, 1 - tail], count, 1 / bins) / count
    return float(low), float(high)


def _miscalibration(level: np.ndarray, share: np.ndarray, total: int) -> Score:
    """The mean distance of shares from their levels, and its standard error to first order.

    A target below a quantile is below all larger ones, which gives the covariance of two shares.
    """
    gap = share - level
    covariance = np.minimum(share[:, None], share) - share[:, None] * share
    sign = np.sign(gap)
    variance = sign @ covariance @ sign / total / len(level) ** 2
    error = np.sqrt(max(variance, 0)) if total > 1 else np.nan  # one target says nothing of its error
    return Score(np.abs(gap).mean(), error)
