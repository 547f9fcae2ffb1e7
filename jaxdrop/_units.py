"""The axes of the layers, the units and the weights of a leaf."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxdrop import _checks, _names, _selection
from jaxdrop._types import PyTree, Stacked, UnitAxis


class Layers(NamedTuple):
    """What is known of the layers that a leaf stacks.

    Attributes:
      axes: Axes along which they lie, as `stacked` says; None if it does not name the leaf.
      bias: Shape of the bias beside the leaf; `()` if there is none.
    """

    axes: Sequence[int] | None = None
    bias: tuple[int, ...] = ()


class Axes(NamedTuple):
    """The axes of a leaf: those that index its layers and their units, and those of a unit's weights."""

    layers: tuple[int, ...]
    units: tuple[int, ...]
    weights: tuple[int, ...]


def layers(params: PyTree, stacked: Stacked) -> list[Layers]:
    """What `stacked` and the biases say of each leaf, in the order of `jax.tree.leaves`.

    Raises:
      TypeError: If `stacked` is not a list of (pattern, axes) pairs.
      ValueError: If a pattern matches no path, or only paths that an earlier pattern takes.
    """
    names = _selection.paths(params)
    pairs = [(pattern, _check_axes(axes)) for pattern, axes in _check_pairs(stacked)]
    told = _selection.by_pattern(names, pairs, _selection.absent(params), "stacked")
    shapes = {name: np.shape(leaf) for name, leaf in zip(names, jax.tree.leaves(params), strict=True)}
    biases = [_names.bias(name) for name in names]
    return [
        Layers(told.get(name), () if bias is None else shapes.get(bias, ()))
        for name, bias in zip(names, biases, strict=True)
    ]


def axes(w: jax.Array, path: str, unit_axis: UnitAxis, stack: Layers) -> Axes:
    """The axes of a leaf; `unit_axis` counts those of one layer.

    Raises:
      ValueError: If there are no such axes, the name does not tell the units and none are given, or
        the bias or the name shows layers that `stacked` does not name.
    """
    stacking = _checks.check_axes(() if stack.axes is None else stack.axes, w.ndim, "stacked")
    rest = [axis for axis in range(w.ndim) if axis not in stacking]
    numbered = _checks.check_axes(_names.units(path, unit_axis, len(rest)), len(rest), "unit_axis")
    units = tuple(axis for i, axis in enumerate(rest) if i in numbered)
    if stack.axes is None and len(units) < _least(w.shape, path, stack.bias):
        shown = f"a bias of shape {stack.bias}" if len(stack.bias) > 1 else "the name of a table"
        raise ValueError(
            f"`stacked` must name {path}, whose shape {w.shape} with {shown} is that of several layers: "
            f"give [({path!r}, axes)] with the axes of the layers, or () for a single layer, got none."
        )
    return Axes(stacking, units, tuple(axis for axis in rest if axis not in units))


def _least(shape: tuple[int, ...], path: str, bias: tuple[int, ...]) -> int:
    """The least number of axes that the units of all layers have, if the leaf shows it, and else 0.

    A bias has one entry for each unit. That of one layer is a vector, or has the last axes of its
    kernel. A table of one layer is a matrix.
    """
    # Without axes that broadcast, as of experts, or of convolutions with channels first.
    entries = bias if bias[:1] == (1,) else tuple(size for size in bias if size != 1)
    while entries and entries[-1] == 1:
        entries = entries[:-1]
    if bias[-1:] == shape[-1:] == (1,) and not path.endswith("weight"):
        entries += (1,)  # of one unit, whose axis is the last
    # Each of its axes is one of the kernel, which has others: a GRU's bias of two rows is of one layer.
    fits = len(shape) > len(entries) and not Counter(entries) - Counter(shape)
    own = shape[-len(bias) :] == bias or shape[-len(entries) :] == entries
    if len(entries) > 1 and fits and not own:
        return len(entries)
    return len(shape) - 1 if len(shape) > 2 and _names.is_table(path) else 0


def _check_pairs(stacked: Stacked) -> Stacked:
    fits = isinstance(stacked, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in stacked
    )
    if not fits:
        raise TypeError(f"`stacked` must be a list of (pattern, axes) pairs, got {stacked!r}.")
    return stacked


def _check_axes(axes: int | Sequence[int]) -> Sequence[int]:
    found = [axes] if isinstance(axes, int | np.integer) else axes
    fits = isinstance(found, list | tuple | np.ndarray) and all(
        isinstance(axis, int | np.integer) and not isinstance(axis, bool) for axis in found
    )
    if not fits:
        raise TypeError(f"`stacked` must have an axis or axes beside each pattern, got {axes!r}.")
    return [int(axis) for axis in found]
