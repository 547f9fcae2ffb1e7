"""Axes of figures that nothing else holds, and what was drawn in them."""

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.use("agg")


def axes() -> Axes:
    return Figure().add_subplot()


def legend(ax: Axes) -> list[str]:
    """The texts of the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def bars(ax: Axes, i: int = 0) -> tuple[list, list, list, list]:
    """Places, values and both ends of the vertical error bars that were drawn as number `i`."""
    line, _, (error,) = ax.containers[i].lines
    below, above = zip(*[segment[:, 1].tolist() for segment in error.get_segments()], strict=True)
    return line.get_xdata().tolist(), line.get_ydata().tolist(), list(below), list(above)
