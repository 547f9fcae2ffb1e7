"""Plots of conformal prediction: sizes of sets and widths of intervals, with their coverage."""

import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike
from jaxdrop.plots import _arrays, _axes
from jaxdrop.plots._axes import Axes
from jaxdrop.uncertainty import Score, mean_with_error, set_coverage

__all__ = ["interval_widths", "set_sizes"]


def set_sizes(
    sets: ArrayLike, *, labels: ArrayLike | None = None, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Plots the sizes of prediction sets, and with labels the coverage of the sets of each size.

    Steps are the shares of examples whose set has so many classes. Points are the coverage of these, whose
    bars are Wilson's intervals of one standard error. The legend gives the mean size, and the coverage of
    all sets, with standard errors: those of new examples for one fit.

    Args:
      sets: Whether each class is in the set, `[..., K]`, boolean, as a `LAC` returns it.
      labels: Integers in [0, K), `[...]`; None for no coverage.
      label: The name in the legend. Each call on the same axes has another color.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If `sets` are not boolean, `labels` are not integers, or a value is traced.
      ValueError: If `sets` are empty, the shapes do not match, or labels are out of range.

    References:
      Angelopoulos et al., "Uncertainty sets for image classifiers using conformal prediction", 2021; Wilson,
      "Probable inference, the law of succession, and statistical inference", 1927.

    Examples:
      >>> sets = np.array([[True, False], [True, True], [True, False], [False, True]])
      >>> ax = set_sizes(sets, labels=np.array([0, 0, 1, 1]))
      >>> ax.patches[0].get_data().values
      array([0.75, 0.25])
    """
    known = np.asarray(_arrays.check_known(sets, "sets"))
    if known.dtype != np.bool_:
        raise TypeError(f"`sets` must be a boolean array, got {known.dtype}.")
    if known.ndim < 2 or not known.size:
        raise ValueError(f"`sets` must be of shape [..., K], not empty, got {known.shape}.")
    sizes = known.sum(-1, dtype=np.int32)
    found = None if labels is None else set_coverage(known, _arrays.check_known(labels, "labels"))
    score = mean_with_error(jnp.asarray(sizes.ravel()))
    low, high = sizes.min(), sizes.max()
    counts = np.bincount(sizes.ravel() - low)
    ax = _axes.axes(ax)
    style = _axes.look(ax)
    edges = np.arange(low, high + 2) - 0.5
    text = _axes.with_label(label, f"mean size {_axes.told(score)}")
    ax.stairs(counts / sizes.size, edges, fill=True, color=style.color, alpha=_axes.FILL, lw=0)
    ax.stairs(counts / sizes.size, edges, color=style.color, ls=style.line, lw=1.4, label=text)
    if found is not None and labels is not None:
        at, share, number = _by_size(known, sizes, labels)
        text = f"coverage {_axes.told(Score(found.coverage, found.coverage_error))}, points by size"
        look = {"color": style.color, "marker": style.marker, "ls": "", "ms": 5}
        bars = _axes.bars(share, _axes.wilson(share, number))
        ax.errorbar(at, share, bars, **look, label=_axes.with_label(label, text))
        ax.axhline(float(found.coverage), color=style.color, ls=":", lw=0.8)
    ax.xaxis.set_major_locator(_axes.whole_numbers())
    if found is None:
        ax.set_ylim(bottom=0, auto=None)
    else:
        ax.set_ylim(0, 1.02)
    ax.set_xlabel("classes in the set")
    ax.set_ylabel("share of the examples" + ("" if found is None else "; points: coverage ± standard error"))
    _axes.show_legend(ax)
    return ax


def interval_widths(
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    targets: ArrayLike | None = None,
    bins: int = 30,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plots a histogram of the widths of prediction intervals.

    The legend gives the mean width, and with targets the coverage, with standard errors: those of new
    examples for one fit. Infinite intervals are not in the histogram, and the legend gives their share.

    Args:
      lower: The lower ends, `[...]`, as a `CQR` or a `Residual` returns them; may be infinite.
      upper: The upper ends, of the shape of `lower` and not below them; may be infinite.
      targets: The targets, of the shape of `lower`; None for no coverage.
      bins: The number of bins, at least 1.
      label: The name in the legend. Each call on the same axes has another color.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If an argument is not real, or traced, or `bins` is not an integer.
      ValueError: If an argument is empty, the shapes differ, values are NaN, an upper end is below a lower
        one, no interval is finite, or `bins` is below 1.

    References:
      Romano, Patterson and Candès, "Conformalized quantile regression", 2019.

    Examples:
      >>> ax = interval_widths(np.zeros(3), np.array([1.0, 2.0, 3.0]), targets=np.ones(3) / 2)
      >>> ax.get_legend().get_texts()[0].get_text()
      'mean width 2.00 ± 0.58, coverage 1 ± 0'
    """
    lower, upper = _arrays.numbers(lower, "lower"), _arrays.numbers(upper, "upper")
    _arrays.check_alike(upper, lower, "upper", "lower")
    if (upper < lower).any():
        raise ValueError("`upper` must not be below `lower`, got an interval that is.")
    if targets is not None:
        targets = _arrays.check_alike(_arrays.numbers(targets, "targets"), lower, "targets", "lower")
    _checks.check_count(bins, "bins")
    finite = np.isfinite(lower) & np.isfinite(upper)
    if not finite.any():
        raise ValueError("`lower` and `upper` must hold a finite interval, got none.")
    lower_ends, upper_ends = lower[finite], upper[finite]
    widths = upper_ends - lower_ends
    text = f"mean width {_axes.told(_arrays.scored(mean_with_error, widths))}"
    if targets is not None:
        covered = (lower <= targets) & (targets <= upper)
        text += f", coverage {_axes.told(mean_with_error(covered.ravel()))}"
    if not finite.all():
        text += f", {100 * (1 - finite.mean()):.2g} % infinite"
    counts, edges = np.histogram(widths, bins, _range(lower_ends, upper_ends, widths))
    ax = _axes.axes(ax)
    style = _axes.look(ax)
    ax.stairs(counts / finite.size, edges, fill=True, color=style.color, alpha=_axes.FILL, lw=0)
    label = _axes.with_label(label, text)
    ax.stairs(counts / finite.size, edges, color=style.color, ls=style.line, lw=1.4, label=label)
    ax.set_ylim(bottom=0, auto=None)
    ax.set_xlabel("width of the interval, in units of the target")
    ax.set_ylabel("share of the intervals")
    _axes.show_legend(ax)
    return ax


def _range(lower: np.ndarray, upper: np.ndarray, widths: np.ndarray) -> tuple[float, float] | None:
    """The range of a histogram of widths; around those that differ by the rounding of float32 alone."""
    rounding = 4 * np.finfo(np.float32).eps * max(np.abs(lower).max(), np.abs(upper).max())
    if widths.max() == 0 or np.ptp(widths) > rounding:
        return None
    return 0.0, 2 * float(widths.max())


def _by_size(sets: np.ndarray, sizes: np.ndarray, labels: ArrayLike) -> tuple[np.ndarray, ...]:
    """The sizes that there are, the coverage of the sets of each, and their number."""
    hits = np.take_along_axis(sets, np.asarray(labels, np.int64)[..., None], -1)[..., 0]
    found, place, number = np.unique(sizes, return_inverse=True, return_counts=True)
    return found, np.bincount(place.ravel(), hits.ravel()) / number, number
