"""The pictures of uncertainty show the arrays they were given."""

import statistics

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments import plots
from experiments.means import Mean


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_reliability_has_a_panel_with_error_bars_for_each_method():
    right = np.array([[0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.45, 0.55]], np.float32)
    labels = np.array([1, 1, 0, 1])
    figure = plots.reliability({"one": (right, labels), "two": (right, 1 - labels)}, "title")
    assert [axis.get_title() for axis in figure.axes] == ["one", "two"]
    assert [bool(axis.get_ylabel()) for axis in figure.axes] == [True, False]
    for axis, hits in zip(figure.axes, (labels, 1 - labels), strict=True):
        (bars,) = axis.containers
        np.testing.assert_allclose(bars.lines[0].get_xdata(), np.sort(right[:, 1]), rtol=1e-5)
        np.testing.assert_allclose(bars.lines[0].get_ydata(), hits[[3, 2, 0, 1]])
        assert axis.get_xlim()[0] == 0.5
        told = axis.get_legend().get_texts()[-1].get_text().split()
        assert float(told[1]) == pytest.approx(abs(hits - right[:, 1]).mean(), abs=1e-3)


def test_risk_starts_where_it_is_more_than_a_twentieth():
    rank = np.arange(1000.0)
    late, early = rank >= 900, (rank >= 900) | (rank == 700)
    (axis,) = plots.risk_coverage({"late": (late * 1.0, rank), "early": (early * 1.0, rank)}).axes
    # One error of 701 is less than a twentieth of .101; 6 of 905 are more.
    assert axis.get_xlim() == pytest.approx((0.905, 1), abs=0.01)
    for line, wrong in zip(axis.lines, (late, early), strict=True):
        assert line.get_ydata()[-1] == pytest.approx(wrong.mean())
    assert [line.get_label().split(":")[0] for line in axis.lines] == ["late", "early"]
    assert len({line.get_linestyle() for line in axis.lines}) == 2
    assert axis.get_ylim()[0] == 0


def test_a_band_is_drawn_where_there_is_a_deviation():
    x = np.linspace(0, 1, 5)
    bands = {"still": plots.Band(x), "moving": plots.Band(x, np.ones(5)), "third": plots.Band(-x, x)}
    figure = plots.uncertainty_band(x, bands, train=(x[:3], x[:3]), held_out=(x[3:], x[3:]), title="title")
    assert [axis.get_title() for axis in figure.axes] == list(bands)
    assert [len(axis.collections) for axis in figure.axes] == [0, 2, 2]
    (path,) = figure.axes[1].collections[1].get_paths()
    half = statistics.NormalDist().inv_cdf(0.75)
    assert (path.vertices[:, 1].min(), path.vertices[:, 1].max()) == pytest.approx((-half, 1 + half))
    assert figure.axes[0].lines[-1].get_xdata()[0] == 0.5
    assert [bool(axis.get_xlabel()) for axis in figure.axes] == [False, True, True]
    assert [bool(axis.get_ylabel()) for axis in figure.axes] == [True, False, True]
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"trained on", "held out", "predicted", "50 % band", "90 % band"}


def test_entropies_of_every_set_share_their_bins():
    rng = np.random.default_rng(0)
    sets = {"in": rng.uniform(0, 0.5, 100), "out": rng.uniform(0, 2.0, 50)}
    figure = plots.entropy_histograms({"one": sets, "two": sets, "three": sets, "four": sets}, bins=10)
    assert [axis.get_title() for axis in figure.axes] == ["one", "two", "three", "four"]
    patches = figure.axes[0].patches
    assert [patch.get_label() for patch in patches] == ["in", "out"]
    values, edges, _ = patches[1].get_data()
    assert values.sum() == pytest.approx(100)
    assert edges[-1] == sets["out"].max()
    np.testing.assert_array_equal(edges, patches[0].get_data().edges)


def test_nothing_but_zeros_is_drawn_all_the_same():
    (axis,) = plots.entropy_histograms({"one": {"in": np.zeros(3)}}).axes
    assert axis.patches[0].get_data().values[0] == 100


def test_a_comparison_shows_verdicts_by_color_and_marker():
    verdicts = {"none": "-", "good": "helps", "bad": "hurts"}
    means = [Mean(3.0, 0.1), Mean(2.0, 0.1), Mean(4.0, 0.1)]
    figure = plots.comparison(verdicts, means, [None, *means[1:]], ("left", "right"), "title", {"good": 1.0})
    left, right = figure.axes
    shown = [
        (line.get_marker(), line.get_color()) for line in left.lines if line.get_marker() in ("o", "v", "^")
    ]
    assert shown == [("o", plots.GRAY), ("v", plots.BLUE), ("^", plots.VERMILION)]
    assert [text.get_text() for text in left.get_yticklabels()] == list(verdicts)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["published, one run"]
    assert right.get_xlabel() == "right"
    assert all(len(axis.get_xticks()) <= 7 for axis in (left, right))


def test_lines_differ_in_more_than_their_color():
    _, axis = plt.subplots()
    for i in range(7):
        plots.draw_mean(axis, [0, 1], np.ones((2, 3)), i, str(i))
    assert len({line.get_color() for line in axis.lines}) == 7
    assert len({line.get_marker() for line in axis.lines}) == 7
