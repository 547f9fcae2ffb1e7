"""What a figure says at its points, and where."""

import datetime

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxdrop._report.points import points


@pytest.fixture
def ax():
    ax = Figure(figsize=(6, 4)).add_subplot()
    ax.set_xlabel("rate\nof dropout")
    return ax


def said(ax):
    ax.figure.draw_without_rendering()
    return [point.text for point in points(ax.figure)]


def test_error_bars(ax):
    ax.errorbar([1, 2], [0.25, 0.5], [0.125, 0.0625], label="error", capsize=2)
    ax.errorbar([1, 2], [3, 4], [[1, 2], [3, 4]], [0.5, 0.25])
    assert said(ax) == [
        "error\nrate of dropout: 1\ny: 0.25 ± 0.12",
        "error\nrate of dropout: 2\ny: 0.5 ± 0.062",
        "rate of dropout: 1 ± 0.5\ny: 3 (2 to 6)",
        "rate of dropout: 2 ± 0.25\ny: 4 (2 to 8)",
    ]


def test_a_line_and_the_narrowest_band_around_it(ax):
    x = np.array([0.0, 1.0])
    ax.plot(x, x, label="mean")
    ax.fill_between(x, x - 1, x + 1, color="C0", alpha=0.2)
    ax.fill_between(x, x - 2, x + 2, color="C0", alpha=0.1)
    ax.fill_between(x, x - 0.5, x + 0.5, color="C1")  # of another line
    ax.axhline(3, label="no point")
    assert said(ax) == [
        "mean\nrate of dropout: 0\ny: 0\nband: -1 to 1",
        "mean\nrate of dropout: 1\ny: 1\nband: 0 to 2",
    ]


def test_bars_bins_and_names(ax):
    ax.hist([0.1, 0.1, 0.9], bins=[0, 0.5, 1], label="in")
    ax.stairs([3], [0.25, 0.75])
    assert said(ax) == [
        "in\nrate of dropout: 0 to 0.5\ny: 2",
        "in\nrate of dropout: 0.5 to 1\ny: 1",
        "rate of dropout: 0.25 to 0.75\ny: 3",
    ]
    other = Figure().add_subplot()
    other.barh([0, 1], [0.5, 0.25], height=0.8)
    other.set_yticks([0, 1], ["conv", "dense"])
    assert said(other) == ["y: conv\nx: 0.5", "y: dense\nx: 0.25"]
    other = Figure().add_subplot()
    other.bar(["a", "b"], [1, 2], width=1)
    assert said(other) == ["x: a\ny: 1", "x: b\ny: 2"]


def test_clouds_maps_and_dates(ax):
    ax.scatter([0.5, np.nan], [2, 3])
    ax.scatter(np.ma.masked_array([1.0, 2.0], [False, True]), [4, 5])
    assert said(ax) == ["rate of dropout: 0.5\ny: 2", "rate of dropout: 1\ny: 4"]
    other = Figure().add_subplot()
    other.imshow([[1.0, 2.0], [3.0, 4.0]])
    assert said(other)[1] == "column: 1\nrow: 0\nvalue: 2"
    other.figure.colorbar(other.images[0], label="variance")
    assert said(other)[-1] == "column: 1\nrow: 1\nvariance: 4"  # no points of the color bar
    other = Figure().add_subplot()
    other.pcolormesh([0, 1, 2], [0, 2, 4], [[1.0, 2.0], [3.0, 4.0]])
    assert said(other)[2] == "column: 0.5\nrow: 3\nvalue: 3"
    other = Figure().add_subplot()
    other.plot([datetime.date(2024, 1, 2), datetime.date(2024, 1, 3)], [1, 2])
    assert "2024-01-02" in said(other)[0]


def test_a_label_of_two_drawings_and_of_their_errors(ax):
    ax.errorbar([0.25], [0.5], [0.125], fmt="o", label="net")
    ax.stairs([0.75], [0, 0.5], fill=True)  # a filling and its outline, which has the label
    ax.stairs([0.75], [0, 0.5], label="count")
    ax.stairs([3], [0, 2], baseline=[1], label="range")
    ax.set_ylabel("accuracy, ± standard error\nsteps: share of the examples")
    assert said(ax) == [
        "net\nrate of dropout: 0.25\naccuracy: 0.5 ± 0.12",
        "count\nrate of dropout: 0 to 0.5\nshare of the examples: 0.75",
        "range\nrate of dropout: 0 to 2\nshare of the examples: 1 to 3",
    ]
    ax.set_ylabel("share; points: accuracy ± standard error")
    assert [text.split("\n")[2] for text in said(ax)[:2]] == ["accuracy: 0.5 ± 0.12", "share: 0.75"]


def test_places(ax):
    """The middle of a point's target is the point, in shares of the figure from its upper left."""
    ax.set_position((0.25, 0.25, 0.5, 0.5))
    ax.set_xlim(1, 100)
    ax.set_xscale("log")
    ax.set_ylim(0, 1)
    ax.plot([10], [0.25], "o")
    ax.bar([0], [0])
    ax.plot([1000], [0.5], "o")  # outside
    ax.figure.draw_without_rendering()
    (point,) = points(ax.figure)
    left, top, right, bottom = point.box
    np.testing.assert_allclose([(left + right) / 2, (top + bottom) / 2], [0.5, 0.625])
    assert right > left
    assert bottom > top


def test_bars_are_their_own_targets(ax):
    ax.set_position((0, 0, 1, 1))
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.bar([0.5], [0.75], width=0.5)
    ax.figure.draw_without_rendering()
    np.testing.assert_allclose(points(ax.figure)[0].box, [0.25, 0.25, 0.75, 1])


def test_long_lines_are_thinned_to_their_ends(ax):
    ax.plot(np.arange(100_000), np.zeros(100_000))
    ax.plot([0, 1], [1, 1], label="short")
    texts = said(ax)
    assert len(texts) <= 402
    assert texts[0] == "rate of dropout: 0\ny: 0"
    assert texts[-3].startswith("rate of dropout: 1e+05")
    assert texts[-2:] == ["short\nrate of dropout: 0\ny: 1", "short\nrate of dropout: 1\ny: 1"]
