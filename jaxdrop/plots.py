"""Plots of results, with matplotlib: the curve of a tuned rate, and the sites that bring uncertainty.

Needs the extra `plots`; `import jaxdrop` does not import this module. Color is never the only cue: line
styles and markers tell the same.
"""

from collections.abc import Mapping

import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, PyTree
from jaxdrop.mc import SiteShares
from jaxdrop.training import Choice, Tuned

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ImportError as error:
    raise ImportError('`jaxdrop.plots` needs matplotlib; run `pip install "jaxdrop[plots]"`.') from error

__all__ = ["PALETTE", "share_bars", "share_map", "tuning_curve"]


def __dir__() -> list[str]:
    """The public names."""
    return __all__


# Colors that color-blind readers can tell apart: Okabe and Ito, "Color universal design", 2008.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "black")
_MARKERS = "osD^vP*"
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)))
_GRAY = "0.4"
# Positive values that span so much are drawn on a logarithmic axis.
_SPAN = 100
# More lines than these have their legend beside the axes.
_INSIDE = 4
# The part of a variance that belongs to no single site.
_REST = "interactions"


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
    if ax is None:
        _, ax = plt.subplots(figsize=(8.4 if beside else 6.4, 4.8), layout="constrained")
    for i, group in enumerate(dict.fromkeys(groups)):
        label = _told(dict(zip(others, group, strict=True)))
        own = np.array([other == group for other in groups]) & finite
        style = {"color": PALETTE[i % len(PALETTE)], "marker": _MARKERS[i % len(_MARKERS)], "capsize": 3}
        # Shifted in every round, so that no two of 49 lines look the same.
        line = {"ls": _LINES[(i + i // len(PALETTE)) % len(_LINES)], "label": label}
        _draw(ax, values, choice, own & whole, style | line)
        _draw(ax, values, choice, own & ~whole, style | {"ls": "", "mfc": "none", "alpha": 0.6})
    best = np.argmin(np.where(finite & whole, choice.mean, np.inf))
    threshold = choice.mean[best] + choice.standard_error[best]
    if np.isfinite(threshold):
        ax.axhline(threshold, color=_GRAY, ls=":", label="one standard error above the lowest mean")
    chosen = np.all([column == choice.setting[name] for name, column in choice.settings.items()], axis=0)
    star = {"marker": "*", "ms": 15, "mfc": "white", "mec": "black", "ls": "", "zorder": 3}
    ax.plot(values[chosen], choice.mean[chosen], **star, label=f"chosen: {_told(choice.setting)}")
    if (finite & ~whole).any():
        ax.plot([], [], color=_GRAY, marker="o", mfc="none", ls="", label="stopped after fewer steps")
    _scale(ax, values)
    ax.set_xlabel(x)
    several = np.isfinite(choice.standard_error).any()
    ax.set_ylabel("validation score, mean ± standard error" if several else "validation score")
    place = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0)} if beside else {}
    ax.legend(fontsize="small", **place)
    return ax


def share_bars(shares: SiteShares, *, ax: Axes | None = None) -> Axes:
    """Plots the shares of the predictive variance by site: whose uncertainty it is.

    Each bar is the mean share over the examples, with the range from the 5 % to the 95 % quantile of the
    examples. What belongs to no single site, "interactions", is gray and hatched.

    Args:
      shares: The shares, from `jaxdrop.mc.site_shares`.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If `shares` is not a `SiteShares`.

    Examples:
      >>> from jaxdrop import mc
      >>> table = mc.site_shares({"conv": np.ones((4, 1)), "dense": np.full((4, 1), 3.0)})
      >>> [float(bar.get_width()) for bar in share_bars(table).patches]
      [0.25, 0.75]
    """
    if not isinstance(shares, SiteShares):
        raise TypeError(f"`shares` must be a `jaxdrop.mc.SiteShares`, got {type(shares).__name__}.")
    if ax is None:
        height = 1.2 + 0.32 * len(shares.sites)
        _, ax = plt.subplots(figsize=(6.4, height), layout="constrained")
    rows = np.arange(len(shares.sites))
    rest = np.array([site == _REST for site in shares.sites])
    ax.barh(rows[~rest], shares.mean[~rest], height=0.7, color=PALETTE[0])
    ax.barh(rows[rest], shares.mean[rest], height=0.7, color="0.85", edgecolor=_GRAY, hatch="//")
    ax.hlines(rows, *shares.range(), color="black", lw=1.2)
    ax.axvline(0, color="black", lw=0.8)
    ax.set_yticks(rows, shares.sites)
    ax.invert_yaxis()  # the first site on top
    ax.set_xlabel("share of the variance\nmean, and 5 % to 95 % of the examples")
    return ax


def share_map(values: ArrayLike, *, label: str = "variance", ax: Axes | None = None) -> Axes:
    """Plots which pixels or units bring a variance, as a map of one example.

    Args:
      values: Variances by pixel `[H, W]` as an image, or by unit `[N]` as bars, in descending order of size.
      label: The label of the values.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If `values` are not real.
      ValueError: If they have another number of axes, are empty, or are not finite.

    Examples:
      >>> share_map(np.eye(3)).images[0].get_array().shape
      (3, 3)
    """
    values = np.asarray(_checks.check_real("values", values), np.float64)
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"`values` must have shape [H, W] or [N], not empty, got {values.shape}.")
    _checks.check_all(values, "values", "be finite", np.isfinite)
    if ax is None:
        _, ax = plt.subplots(figsize=(5.2, 4.2) if values.ndim == 2 else (6.4, 3.2), layout="constrained")
    if values.ndim == 2:
        image = ax.imshow(values, cmap="cividis", vmin=min(values.min(), 0), interpolation="nearest")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.figure.colorbar(image, ax=ax, label=label)
        return ax
    order = np.argsort(-values, kind="stable")
    ax.bar(np.arange(values.size), values[order], width=1.0, color=PALETTE[0])
    ax.set_xlabel("units, in descending order")
    ax.set_ylabel(label)
    ax.margins(x=0.01)
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
