"""Differences of loss curves, their table and their plot; the ways themselves train in `test_resnet.py`."""

import matplotlib.pyplot as plt
import numpy as np

from experiments.resnet import ways

CURVES = {name: np.array([2.0, 1.0], np.float32) for name in ways.WAYS}
CURVES["NNX, sweep"] = np.array([2.0, 1.25], np.float32)


def test_differences_are_from_the_loop_of_flax():
    rows = {row["way"]: row for row in ways.summarize(CURVES)}
    assert {name: row["difference"] for name, row in rows.items() if row["difference"]} == {
        "NNX, sweep": 0.25
    }
    body = {row[0]: row[1:] for row in ways.table(ways.summarize(CURVES)).body}
    assert body["Linen, Flax"] == ["2.000000", "1.000000", "-", "-"]
    assert body["NNX, sweep"] == ["2.000000", "1.250000", "2.5e-01", "2.5e-01"]


def test_the_plot_shows_each_way():
    figure = ways.plot(CURVES)
    assert [len(axis.lines) for axis in figure.axes] == [7, 6]
    plt.close(figure)
