"""The curve of a tuned rate shows the table that it was given."""

import numpy as np
import pytest

from jaxdrop import plots
from jaxdrop.training import TrainState, Tuned, choose, grid
from tests.plots.axes import axes

HYPER = {
    name: np.asarray(column)
    for name, column in grid(seed=[0, 1], rate=[0.5, 0.0, 0.25], decay=[0.0, 1.0]).items()
}
SCORES = 0.3 + (HYPER["rate"] - 0.25) ** 2 + 0.01 * HYPER["decay"] + 0.02 * HYPER["seed"]
CHOICE = choose(HYPER, SCORES, simpler="decay")


def drawn(ax):
    """Points of each line by its label, without error bars."""
    return {line.get_label(): line.get_xydata() for line in ax.lines}


def test_one_line_per_decay_the_threshold_and_the_chosen_setting():
    ax = axes()
    assert plots.tuning_curve(CHOICE, ax=ax) is ax
    bars = {bar.get_label(): bar for bar in ax.containers}
    assert list(bars) == ["decay 0", "decay 1"]
    mean = {(r, d): m for r, d, m in zip(*CHOICE.settings.values(), CHOICE.mean, strict=True)}
    for label, decay in (("decay 0", 0.0), ("decay 1", 1.0)):
        line, _, (error,) = bars[label].lines
        assert line.get_xdata().tolist() == [0.0, 0.25, 0.5]
        np.testing.assert_allclose(line.get_ydata(), [mean[rate, decay] for rate in (0.0, 0.25, 0.5)])
        heights = [np.ptp(segment[:, 1]) / 2 for segment in error.get_segments()]
        np.testing.assert_allclose(heights, 0.01)
    points = drawn(ax)
    np.testing.assert_allclose(
        points["one standard error above the lowest mean"][:, 1], CHOICE.mean.min() + 0.01
    )
    np.testing.assert_allclose(points["chosen: rate 0.25, decay 1"], [[0.25, mean[0.25, 1.0]]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("rate", "validation score, mean ± standard error")
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {*bars, *list(points)[-2:]}


def test_settings_that_were_stopped_are_open_and_apart():
    rung = np.where(CHOICE.settings["rate"] == 0.5, 0, 1)
    state = TrainState(np.ones(2), np.ones(2), (), ())
    ax = plots.tuning_curve(Tuned(CHOICE, 5 * (rung + 1), rung, SCORES, state), ax=axes())
    lines = [bar.lines[0] for bar in ax.containers]
    open_ones = [line for line in lines if line.get_markerfacecolor() == "none"]
    assert [line.get_xdata().tolist() for line in open_ones] == [[0.5], [0.5]]
    assert all(line.get_linestyle() == "None" for line in open_ones)
    assert [line.get_xdata().tolist() for line in lines if line not in open_ones] == [[0.0, 0.25]] * 2
    assert "stopped after fewer steps" in drawn(ax)


def test_single_runs_failures_and_scales():
    choice = choose({"decay": [0.0, 1e-4, 1e-1]}, [3.0, np.nan, 1.0], over=None)
    ax = plots.tuning_curve(choice, ax=axes())
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("decay", "validation score", "symlog")
    assert ax.containers[0].lines[0].get_xdata().tolist() == [0.0, 0.1]
    assert list(drawn(ax))[-1] == "chosen: decay 0.1"
    assert len(ax.lines) == 2
    positive = choose({"decay": [1e-4, 1e-1]}, [3.0, 1.0], over=None)
    assert plots.tuning_curve(positive, ax=axes()).get_xscale() == "log"


def test_many_lines_look_different_and_have_their_legend_beside_the_axes():
    hyper = grid(rate=[0.0, 0.5], width=np.arange(20))
    ax = plots.tuning_curve(choose(hyper, np.arange(40.0), over=None))
    lines = [bar.lines[0] for bar in ax.containers]
    styles = {(line.get_color(), line.get_marker(), str(line._dash_pattern)) for line in lines}
    assert len(styles) == len(lines) == 20
    assert ax.get_legend().get_bbox_to_anchor().x0 > ax.bbox.x1


def test_names_are_in_the_legend_and_not_on_the_axis():
    hyper = {"optimizer": ["adam", "adam", "sgd", "sgd"], "rate": [0.0, 0.5, 0.0, 0.5]}
    choice = choose(hyper, [4.0, 3.0, 2.0, 1.0], over=None)
    labels = plots.tuning_curve(choice, ax=axes()).get_legend_handles_labels()[1]
    assert labels == ["chosen: optimizer sgd, rate 0.5", "optimizer adam", "optimizer sgd"]
    with pytest.raises(ValueError, match=r"`x` must name numbers, got 'optimizer' with <U4; give another"):
        plots.tuning_curve(choice, x="optimizer")


def test_what_is_refused():
    with pytest.raises(TypeError, match=r"`result` must be a `Choice` or a `Tuned`, got dict\."):
        plots.tuning_curve({})
    with pytest.raises(ValueError, match=r"`x` must be one of 'rate', 'decay', got 'seed'\."):
        plots.tuning_curve(CHOICE, x="seed")
    with pytest.raises(ValueError, match=r"`result` must have a hyper-parameter beside .*, got none\."):
        plots.tuning_curve(choose({"seed": [0, 1]}, [1.0, 2.0]))
