"""Plots of weights: which leaves are sparse."""

import numpy as np

from jaxdrop import _checks, _selection
from jaxdrop._types import PyTree, Where
from jaxdrop.drops import sparse_kernel
from jaxdrop.plots import _arrays, _axes
from jaxdrop.plots._axes import Axes

__all__ = ["weight_sparsity"]

_ALL = "all"


def weight_sparsity(
    params: PyTree, *, threshold: float = 0.0, where: Where = None, ax: Axes | None = None
) -> Axes:
    """Plots the share of the weights near zero, by leaf and of all.

    After a proximal step (`optim.proximal_l1`) weights are zero, and a threshold of 0 counts them. After a
    penalty such as `penalties.l1` they are small: give a threshold. A kernel with a `log_variance` beside it,
    of sparse variational dropout, counts as `sparse_kernel` prunes it. All weights are counted, so that there
    is no standard error.

    Args:
      params: Tree of floating-point arrays, such as Flax's `params` or an NNX state.
      threshold: The largest size of a weight near zero, at least 0.
      where: Leaves to show; defaults to the weights (see `penalties.weight_mask`).
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If a selected leaf is not floating-point, or traced.
      ValueError: If no leaf is selected, `where` does not fit the parameters, a weight is NaN, or
        `threshold` is negative or not finite.

    References:
      Molchanov, Ashukha and Vetrov, "Variational dropout sparsifies deep neural networks", 2017.

    Examples:
      >>> ax = weight_sparsity({"kernel": np.array([[0.0, 1.0], [2.0, 3.0]]), "bias": np.zeros(2)})
      >>> [float(bar.get_width()) for bar in ax.patches]
      [0.25, 0.25]
    """
    _checks.check_nonnegative(_checks.check_number(threshold, "threshold"), "threshold")
    rows = _counts(params, threshold, where)
    zeros, sizes = (np.array(column) for column in zip(*rows.values(), strict=True))
    zeros, sizes = np.append(zeros, zeros.sum()), np.append(sizes, sizes.sum())
    place, shares = np.arange(len(zeros)), zeros / np.maximum(sizes, 1)
    ax = _axes.axes(ax, (_axes.SIZE[0], 1.2 + 0.32 * len(zeros)))
    ax.barh(place[:-1], shares[:-1], height=0.7, color=_axes.PALETTE[0], alpha=0.6)
    ax.barh(place[-1:], shares[-1:], height=0.7, color=_axes.GRAY, alpha=0.5)
    for at, (zero, size) in enumerate(zip(zeros, sizes, strict=True)):
        ax.text(0.01, at, f"{zero:,} of {size:,}", fontsize="small", va="center")
    ax.set_yticks(place, [*rows, _ALL])
    ax.invert_yaxis()  # the first leaf on top
    ax.set_xlim(0, 1)
    near = "are 0" if threshold == 0 else f"are at most {threshold:g} in size"
    ax.set_xlabel(f"share of the weights that {near}")
    return ax


def _counts(params: PyTree, threshold: float, where: Where) -> dict[str, tuple[int, int]]:
    """The weights near zero, and the weights, of each selected leaf."""
    mask = _selection.selected_floating(params, where)
    paths, leaves = _selection.paths(params), _selection.leaves_like(params, params, "params")
    known = dict(zip(paths, leaves, strict=True))
    places = _selection.places(params, mask)
    found, seen = {}, set()
    for path, leaf, place in zip(paths, leaves, places, strict=True):
        if place is None or place in seen:
            continue
        seen.add(place)
        array = np.asarray(_arrays.check_known(leaf, "params"))
        array = array.astype(_checks.widened(array.dtype))
        if np.isnan(array).any():
            raise ValueError(f"`params` must not hold a NaN, got one at {path}.")
        beside = known.get(path.removesuffix("kernel") + "log_variance") if path.endswith("kernel") else None
        if beside is not None and np.shape(beside) == array.shape:
            array = np.asarray(sparse_kernel(array, beside))
        found[path] = (int(np.count_nonzero(np.abs(array) <= threshold)), array.size)
    return found
