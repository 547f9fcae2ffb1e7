"""The points of a figure and what they say: values under the pointer."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import FillBetweenPolyCollection, PathCollection, QuadMesh
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.dates import AutoDateFormatter, ConciseDateFormatter, DateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.ticker import LogFormatter, ScalarFormatter
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

# More points than these make a page slow; long lines are thinned.
_MOST = 400
# Half of the side of a point's target, in pixels of the axes.
_REACH = 4.0


class Point(NamedTuple):
    """What a figure says at a place.

    Attributes:
      box: Left, top, right and bottom, from 0 to 1 of the figure, from its upper left.
      text: A line for each value.
    """

    box: tuple[float, float, float, float]
    text: str


class _Mark(NamedTuple):
    """Values at a place of the axes, in the units of the data."""

    box: tuple[float, float, float, float]
    lines: tuple[str, ...]


def points(figure: Figure) -> list[Point]:
    """The points of a drawn figure, at most a few hundred."""
    found = []
    for ax in figure.axes:
        if ax.get_visible():
            for marks in _artists(ax):
                found.append([(ax, mark) for mark in marks if np.isfinite(mark.box).all()])
    total = sum(len(marks) for marks in found)
    shown = []
    for marks in found:
        count = len(marks) if total <= _MOST else max(2, _MOST * len(marks) // total)
        index = np.unique(np.linspace(0, len(marks) - 1, min(count, len(marks))).round().astype(int))
        shown += [marks[i] for i in index]
    placed = (_place(figure, ax, mark) for ax, mark in shown[: 2 * _MOST])
    return [point for point in placed if point is not None]


def _place(figure: Figure, ax: Axes, mark: _Mark) -> Point | None:
    """A mark in the figure, or None outside of its axes."""
    corners = ax.transData.transform(np.reshape(mark.box, (2, 2)))
    (left, bottom), (right, top) = corners.min(0), corners.max(0)
    if not np.isfinite(corners).all():
        return None
    if not ax.bbox.padded(2).overlaps(Bbox.from_extents(left, bottom, right, top)):
        return None
    size = figure.bbox.width, figure.bbox.height
    # As large as a fingertip needs at least; bars as they are.
    wide, high = max(0, _REACH - (right - left) / 2), max(0, _REACH - (top - bottom) / 2)
    box = (left - wide) / size[0], 1 - (top + high) / size[1], (right + wide) / size[0]
    return Point((*box, 1 - (bottom - high) / size[1]), "\n".join(mark.lines))


def _artists(ax: Axes) -> Iterator[list[_Mark]]:
    """The marks of each line, row of bars, cloud of points or map."""
    x, y = _Name(ax, ax.xaxis, "x"), _Name(ax, ax.yaxis, "y")
    own = set()
    for container in ax.containers:
        own |= set(container.get_children())
        if isinstance(container, ErrorbarContainer) and container.lines[0] is not None:
            yield _line(container.lines[0], container.get_label(), x, y, _errors(container))
        elif isinstance(container, BarContainer):
            bins = _touch(container)
            yield [_bar(bar, container, bins, x, y) for bar in container.patches]
    for line in ax.lines:
        if line not in own and line.get_transform() == ax.transData:
            yield _line(line, line.get_label(), x, y, _bands(ax))
    for patch in ax.patches:
        if isinstance(patch, StepPatch):
            yield _steps(patch, x, y)
    for artist in ax.collections:
        if artist in own:
            continue
        if isinstance(artist, PathCollection):
            yield _cloud(artist, x, y)
        elif isinstance(artist, QuadMesh):
            yield _mesh(np.asarray(artist.get_coordinates()), artist.get_array(), x, y)
    for image in ax.images:
        left, right, bottom, top = image.get_extent()
        values = np.ma.asarray(image.get_array())
        if values.ndim == 2:
            rows, columns = values.shape
            edges = np.linspace(left, right, columns + 1), np.linspace(top, bottom, rows + 1)
            yield _mesh(np.stack(np.meshgrid(*edges), -1), values, x, y)


class _Name:
    """How an axis names its values."""

    def __init__(self, ax: Axes, axis: Axis, fallback: str):
        formatter = axis.get_major_formatter()
        self.label = " ".join(axis.get_label_text().split()) or fallback
        self._format = None
        self._names = {}
        if isinstance(formatter, AutoDateFormatter | ConciseDateFormatter | DateFormatter):
            self._format = formatter.format_data
        elif not isinstance(formatter, ScalarFormatter | LogFormatter):  # names, such as those of bars
            ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=False)
            self._names = {round(float(place), 9): text.get_text() for place, text in ticks}

    def between(self, low: float, high: float) -> str:
        """A line such as "rate: 0.1 to 0.2"; only the middle where that is a name or a whole number."""
        middle = round((low + high) / 2, 9)
        if middle in self._names or middle.is_integer():
            return self.say(middle)
        return f"{self.label}: {low:.4g} to {high:.4g}"

    def say(self, value: float, error: str = "") -> str:
        """A line such as "rate: 0.5"."""
        named = self._names.get(round(float(value), 9))
        text = named or (self._format(value) if self._format else f"{value:.4g}")
        return f"{self.label}: {text}{error}"


def _titled(label: object, *lines: str) -> tuple[str, ...]:
    """The lines, below the label of the legend if there is one."""
    text = str(label)
    return lines if not text or text.startswith("_") else (text, *lines)


def _line(line: Line2D, label: object, x: _Name, y: _Name, errors: dict) -> list[_Mark]:
    if line.get_linestyle() == "None" and line.get_marker() in ("None", "", None):
        return []
    marks = []
    for a, b in np.asarray(line.get_xydata(), float):
        lines = x.say(a, errors.get(("x", a, b), "")), y.say(b, errors.get(("y", a, b), ""))
        band = errors.get(a)
        if band and band[0] <= b <= band[1]:
            lines += (f"band: {band[0]:.4g} to {band[1]:.4g}",)
        marks.append(_Mark((a, b, a, b), _titled(label, *lines)))
    return marks


def _errors(container: ErrorbarContainer) -> dict:
    """Errors of the points of a line, as "± 0.1" or as a range."""
    errors = {}
    line, _, bars = container.lines
    kinds = ["x"] * container.has_xerr + ["y"] * container.has_yerr
    for kind, segments in zip(kinds, bars, strict=True):
        axis = 0 if kind == "x" else 1
        ends = [segment[:, axis] for segment in segments.get_segments() if len(segment) == 2]
        data = np.asarray(line.get_xydata(), float)
        if len(ends) != len(data):
            continue
        for (a, b), (low, high) in zip(data, ends, strict=True):
            middle = (a, b)[axis]
            same = np.isclose(middle - low, high - middle, rtol=1e-3)
            text = f" ± {(high - low) / 2:.2g}" if same else f" ({low:.4g} to {high:.4g})"
            errors[kind, a, b] = text if np.isfinite((low, high)).all() else ""
    return errors


def _bands(ax: Axes) -> dict:
    """The narrowest band around a line, by the value on the horizontal axis."""
    bands = {}
    for artist in ax.collections:
        if isinstance(artist, FillBetweenPolyCollection):
            ends = {}
            for path in artist.get_paths():
                for a, b in path.vertices:
                    low, high = ends.get(a, (b, b))
                    ends[a] = min(low, b), max(high, b)
            for a, (low, high) in ends.items():
                if a not in bands or high - low < bands[a][1] - bands[a][0]:
                    bands[a] = low, high
    return bands


def _touch(container: BarContainer) -> bool:
    """Whether each bar begins where the one before ends, as in a histogram."""
    flat = container.orientation == "horizontal"
    sides = [(bar.get_y(), bar.get_height()) if flat else (bar.get_x(), bar.get_width()) for bar in container]
    start, size = np.array(sides, float).T
    return len(start) > 1 and np.allclose(start[:-1] + size[:-1], start[1:], atol=1e-6 * abs(size).max())


def _bar(bar: Rectangle, container: BarContainer, bins: bool, x: _Name, y: _Name) -> _Mark:
    left, bottom = bar.get_xy()
    right, top = left + bar.get_width(), bottom + bar.get_height()
    flat = container.orientation == "horizontal"
    place, value = (y, x) if flat else (x, y)
    low, high = (bottom, top) if flat else (left, right)
    length = bar.get_width() if flat else bar.get_height()
    where = place.between(low, high) if bins else place.say((low + high) / 2)
    lines = _titled(container.get_label(), where, value.say(length))
    return _Mark((left, bottom, right, top), lines)


def _steps(patch: StepPatch, x: _Name, y: _Name) -> list[_Mark]:
    values, edges, baseline = patch.get_data()
    base = np.broadcast_to(0.0 if baseline is None else np.asarray(baseline, float), np.shape(values))
    marks = []
    for low, high, value, start in zip(edges[:-1], edges[1:], values, base, strict=True):
        lines = _titled(patch.get_label(), x.between(low, high), y.say(value))
        marks.append(_Mark((low, start, high, value), lines))
    return marks


def _cloud(artist: PathCollection, x: _Name, y: _Name) -> list[_Mark]:
    offsets = np.ma.masked_array(artist.get_offsets(), dtype=float).filled(np.nan)
    return [_Mark((a, b, a, b), _titled(artist.get_label(), x.say(a), y.say(b))) for a, b in offsets]


def _mesh(corners: np.ndarray, values: ArrayLike | None, x: _Name, y: _Name) -> list[_Mark]:
    """The cells of a map, if they are few enough to be pointed at."""
    if values is None or np.size(values) > _MOST:
        return []
    values = np.ma.filled(np.ma.asarray(values, float), np.nan)
    marks = []
    for i, j in np.ndindex(corners.shape[0] - 1, corners.shape[1] - 1):
        (left, bottom), (right, top) = corners[i, j], corners[i + 1, j + 1]
        value = np.reshape(values, (corners.shape[0] - 1, -1))[i, j]
        lines = x.say((left + right) / 2), y.say((bottom + top) / 2), f"value: {value:.4g}"
        marks.append(_Mark((left, bottom, right, top), lines))
    return marks
