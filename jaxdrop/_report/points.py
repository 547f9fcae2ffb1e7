"""The points of a figure and what they say: values under the pointer."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import FillBetweenPolyCollection, PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.dates import AutoDateFormatter, ConciseDateFormatter, DateFormatter, num2date
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.ticker import LogFormatter, ScalarFormatter
from matplotlib.transforms import Bbox

# More points than these make a page slow; long lines are thinned.
_MOST = 400
# Half of the side of a point's target, in pixels of the axes.
_REACH = 4.0


# What a label may name.
_KINDS = ("bars", "points", "steps")
# By axis and index of a point; by the value on the horizontal axis.
_Errors = dict[tuple[str, int], str]
_Bands = dict[float, tuple[float, float]]


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
    title: str = ""


def points(figure: Figure) -> list[Point]:
    """The points of a drawn figure, at most a few hundred."""
    axes = [ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"]
    found = [(ax, marks) for ax in axes for marks in _told(ax)]
    total = sum(len(marks) for _, marks in found)
    shown = []
    for ax, marks in found:
        count = len(marks) if total <= _MOST else max(2, _MOST * len(marks) // total)
        shown += [_place(figure, ax, marks[i]) for i in _thin(len(marks), count)]
    return [point for point in shown if point is not None]


def _told(ax: Axes) -> list[list[_Mark]]:
    """The marks of each artist; of an outline and its filling only those with a title."""
    found = list(_artists(ax))
    titled = {mark[:2] for marks in found for mark in marks if mark.title}
    return [[mark for mark in marks if mark.title or mark[:2] not in titled] for marks in found]


def _thin(length: int, most: int = _MOST) -> np.ndarray:
    """Indices at equal distances from the first to the last, at most so many."""
    return np.unique(np.linspace(0, length - 1, min(most, length)).round().astype(int))


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
    return Point((*box, 1 - (bottom - high) / size[1]), "\n".join(filter(None, (mark.title, *mark.lines))))


def _artists(ax: Axes) -> Iterator[list[_Mark]]:
    """The marks of each line, row of bars, cloud of points or map."""
    x, y = _Name(ax.xaxis, "x", "points"), _Name(ax.yaxis, "y", "points")
    own = set()
    for container in ax.containers:
        own |= set(container.get_children())
        if isinstance(container, ErrorbarContainer) and container.lines[0] is not None:
            yield _line(container.lines[0], container.get_label(), x, y, _errors(container), {})
        elif isinstance(container, BarContainer):
            bins = _touch(container)
            names = _Name(ax.xaxis, "x", "bars"), _Name(ax.yaxis, "y", "bars")
            yield [_bar(bar, container, bins, *names) for bar in container.patches]
    for line in ax.lines:
        if line not in own and line.get_transform() == ax.transData:
            yield _line(line, line.get_label(), x, y, {}, _bands(ax, line))
    for patch in ax.patches:
        if isinstance(patch, StepPatch) and patch.orientation == "vertical":
            yield _steps(patch, _Name(ax.xaxis, "x", "steps"), _Name(ax.yaxis, "y", "steps"))
    for artist in ax.collections:
        if isinstance(artist, PathCollection):
            yield _cloud(artist, x, y)
        elif isinstance(artist, QuadMesh):
            yield _mesh(ax, artist, np.asarray(artist.get_coordinates()))
    for image in ax.images:
        left, right, bottom, top = image.get_extent()
        shape = np.ma.asarray(image.get_array()).shape
        if len(shape) == 2:
            edges = np.linspace(left, right, shape[1] + 1), np.linspace(top, bottom, shape[0] + 1)
            yield _mesh(ax, image, np.stack(np.meshgrid(*edges), -1))


class _Name:
    """How an axis names its values.

    A label may name several kinds of drawings, each in its part: "accuracy ± standard error" and, on the next
    line, "steps: share of the examples".
    """

    def __init__(self, axis: Axis, fallback: str, kind: str = ""):
        formatter = axis.get_major_formatter()
        parts = re.split(rf"\s*[;\n]?\s*\b({'|'.join(_KINDS)}): ", axis.get_label_text())
        label = dict(zip(parts[1::2], parts[2::2], strict=True)).get(kind, parts[0])
        # The error is said with the value.
        self.label = " ".join(label.split("±")[0].rstrip(" ,").split()) or fallback
        self._is_date = isinstance(formatter, AutoDateFormatter | ConciseDateFormatter | DateFormatter)
        self._names = {}
        # Names, such as those of bars.
        if not self._is_date and not isinstance(formatter, ScalarFormatter | LogFormatter):
            ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=False)
            self._names = {round(float(place), 9): text.get_text() for place, text in ticks}

    def between(self, low: float, high: float) -> str:
        """A line such as "rate: 0.1 to 0.2"; only the middle where that is a name or one whole number."""
        middle = round((low + high) / 2, 9)
        if middle in self._names or (middle.is_integer() and high - low <= 1):
            return self.say(middle)
        return f"{self.label}: {low:.4g} to {high:.4g}"

    def say(self, value: float, error: str = "") -> str:
        """A line such as "rate: 0.5"."""
        if self._is_date:
            text = f"{num2date(value):%Y-%m-%d %H:%M}".removesuffix(" 00:00")
        else:
            text = self._names.get(round(float(value), 9)) or f"{value:.4g}"
        return f"{self.label}: {text}{error}"


def _title(label: object) -> str:
    """The label of the legend, if there is one."""
    return "" if str(label).startswith("_") else str(label)


def _line(line: Line2D, label: object, x: _Name, y: _Name, errors: _Errors, bands: _Bands) -> list[_Mark]:
    if line.get_linestyle() == "None" and line.get_marker() in ("None", "", None):
        return []
    marks = []
    data = np.asarray(line.get_xydata(), float)
    for i in _thin(len(data)):
        a, b = data[i]
        lines = x.say(a, errors.get(("x", i), "")), y.say(b, errors.get(("y", i), ""))
        low, high = bands.get(a, (np.inf, -np.inf))
        if low <= b <= high:
            lines += (f"band: {low:.4g} to {high:.4g}",)
        marks.append(_Mark((a, b, a, b), lines, _title(label)))
    return marks


def _errors(container: ErrorbarContainer) -> _Errors:
    """Errors of the points of a line, as "± 0.1" or as a range."""
    errors: _Errors = {}
    line, _, bars = container.lines
    data = np.asarray(line.get_xydata(), float)
    kinds = ["x"] * container.has_xerr + ["y"] * container.has_yerr
    for kind, segments in zip(kinds, bars, strict=True):
        axis = 0 if kind == "x" else 1
        ends = [np.asarray(segment)[:, axis] for segment in segments.get_segments()]
        if [len(pair) for pair in ends] != [2] * len(data):
            continue
        for i, (low, high) in enumerate(ends):
            middle = data[i, axis]
            same = np.isclose(middle - low, high - middle, rtol=1e-3)
            text = f" ± {(high - low) / 2:.2g}" if same else f" ({low:.4g} to {high:.4g})"
            errors[kind, i] = text if np.isfinite((low, high)).all() else ""
    return errors


def _bands(ax: Axes, line: Line2D) -> _Bands:
    """The narrowest band of a line's color, by the value on the horizontal axis."""
    bands: _Bands = {}
    color = to_hex(line.get_color())
    for artist in ax.collections:
        if not isinstance(artist, FillBetweenPolyCollection) or getattr(artist, "t_direction", "x") != "x":
            continue  # `fill_betweenx`
        faces = np.reshape(artist.get_facecolor(), (-1, 4))
        if color not in [to_hex(tuple(face)) for face in faces.tolist()]:
            continue
        ends: _Bands = {}
        for a, b in np.concatenate([np.asarray(path.vertices) for path in artist.get_paths()]):
            low, high = ends.get(a, (b, b))
            ends[a] = min(low, b), max(high, b)
        for a, (low, high) in ends.items():
            if a not in bands or high - low < bands[a][1] - bands[a][0]:
                bands[a] = low, high
    return bands


def _touch(container: BarContainer) -> bool:
    """Whether each bar begins where the one before ends, as in a histogram."""
    flat = container.orientation == "horizontal"
    if len(container.patches) < 2:
        return False
    sides = [(bar.get_y(), bar.get_height()) if flat else (bar.get_x(), bar.get_width()) for bar in container]
    start, size = np.array(sides, float).T
    return np.allclose(start[:-1] + size[:-1], start[1:], atol=1e-6 * abs(size).max())


def _bar(bar: Rectangle, container: BarContainer, bins: bool, x: _Name, y: _Name) -> _Mark:
    left, bottom = bar.get_xy()
    right, top = left + bar.get_width(), bottom + bar.get_height()
    flat = container.orientation == "horizontal"
    place, value = (y, x) if flat else (x, y)
    low, high = (bottom, top) if flat else (left, right)
    length = bar.get_width() if flat else bar.get_height()
    where = place.between(low, high) if bins else place.say((low + high) / 2)
    title = _title(container.get_label()) or _title(container.patches[0].get_label())  # by `bar`, by `hist`
    return _Mark((left, bottom, right, top), (where, value.say(length)), title)


def _steps(patch: StepPatch, x: _Name, y: _Name) -> list[_Mark]:
    values, edges, baseline = patch.get_data()
    start = np.asarray(0.0 if baseline is None else baseline, float)
    starts = np.broadcast_to(start, np.shape(values))
    marks = []
    for low, high, value, base in zip(edges[:-1], edges[1:], values, starts, strict=True):
        what = y.say(value) if start.ndim == 0 else f"{y.label}: {base:.4g} to {value:.4g}"
        marks.append(_Mark((low, base, high, value), (x.between(low, high), what), _title(patch.get_label())))
    return marks


def _cloud(artist: PathCollection, x: _Name, y: _Name) -> list[_Mark]:
    offsets = np.ma.masked_array(artist.get_offsets(), dtype=float).filled(np.nan).reshape(-1, 2)
    index = _thin(len(offsets))
    title = _title(artist.get_label())
    return [_Mark((a, b, a, b), (x.say(a), y.say(b)), title) for a, b in offsets[index]]


def _mesh(ax: Axes, artist: AxesImage | QuadMesh, corners: np.ndarray) -> list[_Mark]:
    """The cells of a map, if they are few enough to be pointed at."""
    values = artist.get_array()
    if values is None or np.size(values) > _MOST:
        return []
    x, y = _Name(ax.xaxis, "column"), _Name(ax.yaxis, "row")
    name = _Name(artist.colorbar.ax.yaxis, "value").label if artist.colorbar else "value"
    rows, columns = corners.shape[0] - 1, corners.shape[1] - 1
    values = np.ma.masked_array(values, dtype=float).filled(np.nan).reshape(rows, columns)
    marks = []
    for i, j in np.ndindex(rows, columns):
        (left, bottom), (right, top) = corners[i, j], corners[i + 1, j + 1]
        lines = x.say((left + right) / 2), y.say((bottom + top) / 2), f"{name}: {values[i, j]:.4g}"
        marks.append(_Mark((left, bottom, right, top), lines))
    return marks
