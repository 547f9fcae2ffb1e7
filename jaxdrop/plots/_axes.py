"""The style of all plots: colors, markers and lines, new figures, and numbers with their errors as text."""

from typing import Literal, NamedTuple

import numpy as np

from jaxdrop.uncertainty import Score

try:
    import matplotlib.pyplot as plt
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import to_hex
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError('`jaxdrop.plots` needs matplotlib; run `pip install "jaxdrop[plots]"`.') from error

# Colors that color-blind readers can tell apart: Okabe and Ito, "Color universal design", 2008. The last is
# gray in place of their black, which does not show on a dark page.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = "osD^vP*"
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)))
# Lines and bands of reference. It has the same contrast to white as to black.
GRAY = "0.46"
# Opacity of filled steps and of bands of errors, which lie over each other.
FILL, BAND = 0.25, 0.25
SIZE = (6.4, 4.8)
SQUARE = (5.2, 5.0)
# Most points of a line, and of a cloud, that are drawn.
LINE_POINTS, CLOUD_POINTS = 1000, 2000


Place = Literal["best", "lower center", "lower right", "upper left"]


class Look(NamedTuple):
    """The style of one series.

    Attributes:
      color: The color.
      marker: The marker.
      line: The line style.
    """

    color: str
    marker: str
    line: str | tuple


def axes(ax: Axes | None, size: tuple[float, float] = SIZE) -> Axes:
    """The axes to draw in: the given ones, or those of a new figure."""
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"`ax` must be matplotlib axes or None, got {type(ax).__name__}.")
    return ax


def look(ax: Axes) -> Look:
    """The first style of the palette whose color is not in the axes yet."""
    used = {color for artist in ax.get_children() for color in _colors(artist)}
    free = [i for i, color in enumerate(PALETTE) if to_hex(color) not in used]
    i = free[0] if free else len(ax.lines) % len(PALETTE)
    return Look(PALETTE[i], MARKERS[i], LINES[i])


def _colors(artist: Artist) -> list[str]:
    """The colors of a line, a patch or a collection, without their transparency."""
    found = []
    for name in ("get_color", "get_edgecolor", "get_facecolor"):
        color = getattr(artist, name, lambda: "none")()
        rows = np.unique(color, axis=0) if np.ndim(color) == 2 else [color]
        found += [to_hex(row) for row in rows]
    return found


def foreground(ax: Axes) -> str:
    """The color of the text of the axes: dark on a light page, and light on a dark one."""
    return to_hex(ax.xaxis.label.get_color())


def whole_numbers() -> MaxNLocator:
    """Ticks at whole numbers."""
    return MaxNLocator(integer=True)


def from_zero(ax: Axes) -> None:
    """Starts the vertical axis at 0, if that leaves less than half of it empty."""
    low, high = ax.dataLim.intervaly
    if low < high / 2:
        ax.set_ylim(bottom=0, auto=None)


def show_shares(ax: Axes) -> None:
    """Axes of two shares, with marks at 0 and 1 shown whole."""
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)


def is_new(ax: Axes, label: str) -> bool:
    """Whether nothing in the axes has the label, so that a line of reference is drawn once."""
    return label not in ax.get_legend_handles_labels()[1]


def show_legend(ax: Axes, loc: Place = "best", *, beside: bool = False) -> None:
    """A legend of all that has a label: within the axes, or beside them."""
    if beside:
        ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.02, 1.0))
    else:
        ax.legend(fontsize="small", loc=loc)


def with_label(label: str | None, text: str) -> str:
    """The label of a series before what is said of it."""
    return f"{label}: {text}" if label else text


def told(score: Score) -> str:
    """A score and its standard error, to two digits of the error."""
    value, error = float(score.value), float(score.standard_error)
    if not error > 0:
        return f"{value:.3g}" + (" ± 0" if error == 0 else "")
    if not 1e-5 < error < 1e6:
        return f"{value:.3g} ± {error:.1g}"
    digits = int(max(1 - np.floor(np.log10(error)), 0))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def wilson(share: np.ndarray, count: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of one standard error of a share of `count` examples.

    Unlike the share plus or minus its standard error it has a width where all examples agree, and stays
    within [0, 1].
    """
    center = (share + 0.5 / count) / (1 + 1 / count)
    half = np.sqrt(np.maximum(share * (1 - share), 0) / count + 0.25 / count**2) / (1 + 1 / count)
    return np.clip(center - half, 0, share), np.clip(center + half, share, 1)


def bars(value: np.ndarray, ends: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The lengths of error bars from a value to the ends of an interval."""
    return value - ends[0], ends[1] - value


def thinned(count: int, most: int) -> np.ndarray:
    """Indices from the first to the last of `count`, evenly, at most so many."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
