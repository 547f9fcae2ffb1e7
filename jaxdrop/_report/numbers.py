"""The analysis of a regression: scores, scale of the deviations, conformal intervals and pictures."""

import numpy as np
from matplotlib.axes import Axes

from jaxdrop import plots, uncertainty
from jaxdrop._report import findings
from jaxdrop._report.blocks import Picture
from jaxdrop._report.findings import Analysis, Coverage
from jaxdrop._report.kinds import Kind, Numbers
from jaxdrop._types import Key
from jaxdrop.uncertainty import Report, ReportRow


def losses(kind: Kind, found: Numbers, targets: np.ndarray) -> np.ndarray:
    """The loss of each example: its negative log likelihood, or its squared error without a variance."""
    off = targets - found.mean
    if kind.outputs == "mean":
        return off**2
    _check_spread(found.stddev)
    variance = found.stddev**2
    return 0.5 * (np.log(2 * np.pi * variance) + off**2 / variance)


def check_held(kind: Kind, count: int) -> None:
    """Checks that enough examples are held out to fit the noise, if none is predicted."""
    if kind.outputs == "mean" and count < findings.LEAST:
        raise ValueError(
            f"`holdout` must hold out at least {findings.LEAST} examples for a model that predicts no "
            f"variance, to fit that of the noise, got {count}."
        )


def score_name(kind: Kind) -> str:
    """The name of the mean loss."""
    return "mean squared error" if kind.outputs == "mean" else "negative log likelihood"


def analyze(
    kind: Kind,
    held: Numbers,
    held_targets: np.ndarray,
    scored: Numbers,
    targets: np.ndarray,
    *,
    level: float,
    bins: int,
    key: Key,
    unit: str,
) -> Analysis:
    """Scores before and after a fit of the deviations, conformal intervals, and pictures.

    Raises:
      ValueError: If the model predicts no variance, and too few examples are held out to fit one.
    """
    before_key, after_key = findings.keys(key, 2)
    count, enough = len(held_targets), len(held_targets) >= findings.LEAST
    before, after, last, factor = None, None, scored, {}
    words = findings.too_few(count)
    if kind.outputs == "mean":
        check_held(kind, count)
        noise = _noise(held_targets - held.mean, held.epistemic)
        held, last = (_with_noise(found, noise) for found in (held, scored))
        factor = {"noise_stddev": float(np.sqrt(noise))}
        words = [
            f"The model predicts no noise. A standard deviation of {np.sqrt(noise):.3g} was fitted to "
            f"{count} held-out examples and added to that of the samples."
        ]
    else:
        before = _scores(scored, targets, level, unit, bins, before_key)
        if enough:
            scale = float(uncertainty.fit_stddev_scale(held.mean, held.stddev, held_targets).scale)
            last = _scaled(scored, scale)
            factor = {"stddev_scale": scale}
            words = [
                f"Standard deviations were multiplied by {scale:.3g}, fitted to {count} held-out examples."
            ]
    if enough:
        after = _scores(last, targets, level, unit, bins, after_key)
    coverages: list[Coverage] = []
    if enough and (problem := findings.too_few_for_sets(count, level)):
        words = [*words, problem.replace("sets", "intervals")]
    elif enough:
        # Fitted to the deviations before the scale, which did not see these targets.
        base = last if kind.outputs == "mean" else scored
        coverages = [_intervals(held, held_targets, base, targets, level)]
    off = np.abs(targets - scored.mean)
    doubts = {"stddev": last.stddev, "epistemic_stddev": np.sqrt(last.epistemic)}
    pictures = [
        ("uncertainty", _against(last, targets, unit)),
        ("calibration", _quantiles(None if before is None else scored, last, targets, after is not None)),
        ("uncertainty", _risk(off, doubts, unit)),
    ]
    return Analysis(
        before, after, words, coverages, doubts, last.error, off, "absolute error", pictures, factor
    )


def _with_noise(found: Numbers, noise: float) -> Numbers:
    """Predictions with a variance of the noise added."""
    noisy = found._replace(aleatoric=found.aleatoric + noise)
    return noisy._replace(error=found.error * found.stddev / np.maximum(noisy.stddev, 1e-300))


def _scaled(found: Numbers, scale: float) -> Numbers:
    """Predictions with scaled deviations."""
    return Numbers(found.mean, found.aleatoric * scale**2, found.epistemic * scale**2, found.error * scale)


def _noise(off: np.ndarray, epistemic: np.ndarray) -> float:
    """The variance of the noise that maximizes the likelihood; its slope is found by bisection."""
    square = off.astype(np.float64) ** 2

    def slope(log_noise: float) -> float:
        variance = epistemic + np.exp(log_noise)
        return float(np.mean(1 / variance - square / variance**2))

    most = float(square.max())
    low, high = np.log(max(most, 1e-30)) - 40, np.log(max(most, 1e-30)) + 1
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp(high))


def _check_spread(stddev: np.ndarray) -> None:
    flat = np.float32(stddev) ** 2 <= 0
    if flat.any():
        raise ValueError(
            "`predict` must give each example a standard deviation above 0, whose square float32 can hold, "
            f"got {stddev.min():.3g}; too small in {int(flat.sum())} of {len(stddev)}."
        )


def _scores(found: Numbers, targets: np.ndarray, level: float, unit: str, bins: int, key: Key) -> Report:
    """The scores of normal distributions, and the spread of the noise and of the samples."""
    stddev = found.stddev
    _check_spread(stddev)
    scores = uncertainty.report((found.mean, stddev), targets, level=level, bins=bins, unit=unit, key=key)
    rows = []
    for name, variance in (("aleatoric_stddev", found.aleatoric), ("epistemic_stddev", found.epistemic)):
        value, error = findings.mean(variance)
        root = float(np.sqrt(value))
        rows.append(ReportRow(name, root, error / (2 * root) if root else 0.0, "", unit))
    return findings.with_rows(scores, rows)


def _intervals(
    held: Numbers, held_targets: np.ndarray, scored: Numbers, targets: np.ndarray, level: float
) -> Coverage:
    fitted = uncertainty.fit_residual(held.mean, held_targets, level=level, stddev=held.stddev)
    lower, upper = map(np.asarray, fitted(scored.mean, stddev=scored.stddev))
    inside = ((targets >= lower) & (targets <= upper)).astype(np.float32)
    guarantee = f"An interval contains the target of a new example with a probability of at least {level:g}."
    name = "Intervals as wide as the deviation"
    return Coverage(name, level, findings.mean(inside), findings.mean(upper - lower), guarantee)


def _against(found: Numbers, targets: np.ndarray, unit: str) -> Picture:
    def draw(ax: Axes) -> None:
        plots.targets_against_predictions(found.mean, found.stddev, targets, ax=ax)

    text = "The target of each scored example against its prediction, with its standard deviation."
    return findings.drawn("Targets and predictions", text, draw)


def _quantiles(first: Numbers | None, last: Numbers, targets: np.ndarray, is_fitted: bool) -> Picture:
    def draw(ax: Axes) -> None:
        for found, name in ((first, "as predicted"), (last if is_fitted else None, "fitted")):
            if found is not None:
                pit = np.asarray(uncertainty.pit_gaussian(found.mean, found.stddev, targets))
                plots.quantile_calibration(pit, label=name, ax=ax)

    text = "Share of targets below each predicted quantile; a calibrated model lies on the diagonal."
    return findings.drawn("Calibration of quantiles", text, draw)


def _risk(off: np.ndarray, doubts: dict[str, np.ndarray], unit: str) -> Picture:
    def draw(ax: Axes) -> None:
        for name, doubt in doubts.items():
            plots.risk_coverage_curve(off, doubt, label=findings.words(name), ax=ax)
        ax.set_ylabel("mean absolute error" + (f" ({unit})" if unit else ""))

    text = "Mean absolute error of the examples kept, if the most uncertain ones are left out."
    return findings.drawn("Selective prediction", text, draw)
