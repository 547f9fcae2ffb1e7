"""Plots of the shares of a variance: by site, and by pixel or unit."""

import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike
from jaxdrop.mc import SiteShares
from jaxdrop.plots import _arrays, _axes
from jaxdrop.plots._axes import Axes

__all__ = ["share_bars", "share_map"]

# The part of a variance that belongs to no single site.
_REST = "interactions"


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
    ax = _axes.axes(ax, (_axes.SIZE[0], 1.2 + 0.32 * len(shares.sites)))
    rows = np.arange(len(shares.sites))
    rest = np.array([site == _REST for site in shares.sites])
    ax.barh(rows[~rest], shares.mean[~rest], height=0.7, color=_axes.PALETTE[0], alpha=0.6)
    ax.barh(rows[rest], shares.mean[rest], height=0.7, color="none", edgecolor=_axes.GRAY, hatch="//")
    ax.hlines(rows, *shares.range(), color=_axes.foreground(ax), lw=1.2)
    ax.axvline(0, color=_axes.foreground(ax), lw=0.8)
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
    values = np.asarray(_checks.check_real("values", _arrays.check_known(values, "values")), np.float64)
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"`values` must have shape [H, W] or [N], not empty, got {values.shape}.")
    _checks.check_all(values, "values", "be finite", np.isfinite)
    ax = _axes.axes(ax, (5.2, 4.2) if values.ndim == 2 else (6.4, 3.2))
    if values.ndim == 2:
        image = ax.imshow(values, cmap="cividis", vmin=min(values.min(), 0), interpolation="nearest")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.figure.colorbar(image, ax=ax, label=label)
        return ax
    order = np.argsort(-values, kind="stable")
    ax.bar(np.arange(values.size), values[order], width=1.0, color=_axes.PALETTE[0])
    ax.set_xlabel("units, in descending order")
    ax.set_ylabel(label)
    ax.margins(x=0.01)
    return ax
