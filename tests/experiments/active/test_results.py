"""Labels that are counted, and methods that are compared with chance by seed."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments.active import results, rounds

PLAN = rounds.Plan("digits", 0, 3, rounds=4)
CHANCE = np.array([[0.6, 0.5, 0.4], [0.5, 0.4, 0.3], [0.4, 0.3, 0.25], [0.3, 0.25, 0.21], [0.25, 0.22, 0.19]])
FOUND = {"random": {"errors": CHANCE}, "BALD": {"errors": CHANCE - [0.06, 0.07, 0.08]}}


def test_a_difference_is_of_the_rounds_that_differ():
    chance, bald = results.summarize(PLAN, FOUND)
    assert (chance["difference_verdict"], chance["last_verdict"]) == ("-", "-")
    assert (bald["difference_verdict"], bald["last_verdict"]) == ("helps", "helps")
    assert bald["difference"].value == pytest.approx(-0.07)
    assert bald["difference"].error == pytest.approx(0.01 / 3**0.5)
    assert bald["mean"].value == pytest.approx(CHANCE[1:].mean() - 0.07)
    assert bald["last"].value == pytest.approx(-0.07)
    assert [labels for labels, _, _ in bald["looks"]] == [30, 40, 60]


def test_the_table_has_a_row_for_each_method():
    _, header, body, _ = results.table(results.summarize(PLAN, FOUND), "title", "caption")
    assert [row[0] for row in body] == ["random", "BALD"]
    assert all(len(row) == len(header) for row in body)
    assert body[0][-4:] == ["-"] * 4
    assert body[1][-2:] == ["-7.00±0.58", "helps"]


def test_both_panels_have_a_line_for_each_method():
    figure = results.plot(PLAN, results.summarize(PLAN, FOUND), "title")
    for axis in figure.axes:
        assert [line.get_label() for line in axis.lines] == ["random", "BALD"]
        np.testing.assert_array_equal(axis.lines[0].get_xdata(), [20, 30, 40, 50, 60])
    np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata(), -7)
    plt.close(figure)
