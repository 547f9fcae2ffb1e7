"""Plots of training: the curve of a tuned hyper-parameter."""

from collections.abc import Mapping

import numpy as np

from jaxdrop import _checks
from jaxdrop._types import PyTree
from jaxdrop.plots import _axes
from jaxdrop.plots._axes import GRAY, LINES, MARKERS, PALETTE, Axes
from jaxdrop.training import Choice, Tuned

__all__ = ["tuning_curve"]

# Positive values that span so much are drawn on a logarithmic axis.
_SPAN = 100
# More lines than these have their legend beside the axes.
_INSIDE = 4


def tuning_curve(result: Choice | Tuned, *, x: str | None = None, ax: Axes | None = None) -> Axes:
    """Plots the validation scores of a sweep over a hyper-parameter, such as the dropout rate.

    Each point is the mean score of a setting with its standard error over the runs. There is one line for
    each combination of the other hyper-parameters. A star marks the chosen setting. A dotted line marks
    the threshold of the one-standard-error rule, if there are several runs of each setting. Settings that
    successive halving stopped are open markers: their scores are after fewer steps, and no line joins
    them. Settings that failed are not drawn.

    Args:
      result: A `Choice` or a `Tuned`.
      x: Name of the hyper-parameter on the horizontal axis. None: "rate", or the first name if there is
        no rate.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If `result` is neither a `Choice` nor a `Tuned`.
      ValueError: If `x` is not the name of a hyper-parameter, or that of one without numbers, or there is
        none.

    References:
      Okabe and Ito, "Color universal design", 2008 (colors).
      Breiman, Friedman, Olshen and Stone, "Classification and regression trees", 1984, section 3.4.3
      (the rule).

    Examples:
      >>> from jaxdrop.training import choose
      >>> choice = choose({"seed": [0, 1, 0, 1], "rate": [0.0, 0.0, 0.5, 0.5]}, [0.3, 0.34, 0.2, 0.24])
      >>> tuning_curve(choice).get_xlabel()
      'rate'
    """
    if not isinstance(result, Choice | Tuned):
        raise TypeError(f"`result` must be a `Choice` or a `Tuned`, got {type(result).__name__}.")
    choice = result if isinstance(result, Choice) else result.choice
    names = list(choice.settings)
    if not names:
        raise ValueError("`result` must have a hyper-parameter beside the repetitions, got none.")
    if x is None:
        x = "rate" if "rate" in names else names[0]
    _checks.check_choice(x, names, "x")
    whole = np.ones(len(choice.mean), bool)
    if isinstance(result, Tuned):
        whole = result.rung == result.rung.max()
    values, finite = choice.settings[x], np.isfinite(choice.mean)
    if not np.issubdtype(values.dtype, np.number):
        raise ValueError(f"`x` must name numbers, got {x!r} with {values.dtype}; give another name.")
    others = {name: choice.settings[name].tolist() for name in names if name != x}
    groups = list(zip(*others.values(), strict=True)) or [()] * len(whole)
    beside = len(set(groups)) > _INSIDE
    ax = _axes.axes(ax, (8.4, 4.8) if beside else _axes.SIZE)
    for i, group in enumerate(dict.fromkeys(groups)):
        label = _told(dict(zip(others, group, strict=True)))
        own = np.array([other == group for other in groups]) & finite
        style = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "capsize": 3}
        # Shifted in every round, so that no two of 49 lines look the same.
        line = {"ls": LINES[(i + i // len(PALETTE)) % len(LINES)], "label": label}
        _draw(ax, values, choice, own & whole, style | line)
        _draw(ax, values, choice, own & ~whole, style | {"ls": "", "mfc": "none", "alpha": 0.6})
    best = np.argmin(np.where(finite & whole, choice.mean, np.inf))
    threshold = choice.mean[best] + choice.standard_error[best]
    if np.isfinite(threshold):
        ax.axhline(threshold, color=GRAY, ls=":", label="one standard error above the lowest mean")
    chosen = np.all([column == choice.setting[name] for name, column in choice.settings.items()], axis=0)
    star = {"marker": "*", "ms": 15, "mfc": "white", "mec": "black", "ls": "", "zorder": 3}
    ax.plot(values[chosen], choice.mean[chosen], **star, label=f"chosen: {_told(choice.setting)}")
    if (finite & ~whole).any():
        ax.plot([], [], color=GRAY, marker="o", mfc="none", ls="", label="stopped after fewer steps")
    _scale(ax, values)
    ax.set_xlabel(x)
    several = np.isfinite(choice.standard_error).any()
    ax.set_ylabel("validation score, mean ± standard error" if several else "validation score")
    _axes.show_legend(ax, beside=beside)
    return ax


def _scale(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic axis for values of many magnitudes, linear near a value of 0."""
    positive = values[values > 0]
    if values.min() < 0 or not positive.size or positive.max() < _SPAN * positive.min():
        return
    if values.min() > 0:
        ax.set_xscale("log")
    else:
        ax.set_xscale("symlog", linthresh=positive.min())


def _draw(ax: Axes, x: np.ndarray, choice: Choice, part: np.ndarray, style: PyTree) -> None:
    """Draws some settings, from left to right, with error bars where there are several runs."""
    order = np.flatnonzero(part)[np.argsort(x[part])]
    if order.size:
        error = choice.standard_error[order]
        ax.errorbar(x[order], choice.mean[order], None if np.isnan(error).all() else error, **style)


def _told(setting: Mapping[str, float]) -> str | None:
    """A setting in words; none of an empty one, whose line needs no label."""
    words = {name: value if isinstance(value, str) else f"{value:g}" for name, value in setting.items()}
    return ", ".join(f"{name} {word}" for name, word in words.items()) or None
