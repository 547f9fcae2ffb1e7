"""Means, paired differences and what they say; the table and the plot."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments import splits
from experiments.uci import compare

FOUND = {
    "test_ll": np.array([-2.0, -2.2, -2.4]),
    "test_ll_error": np.array([0.03, 0.04, 0.0]),
    "test_rmse": np.array([3.0, 3.5, 4.0]),
    "test_rmse_error": np.array([0.01, 0.01, 0.01]),
}
REFERENCE = {
    "test_ll": np.array([-2.5, -2.6, -2.9]),
    "test_rmse": np.array([2.0, 4.0, 4.1]),
    "tau": np.array([0.1, 0.1, 0.2]),
}


def test_paired_differences():
    summary = compare.summarize(FOUND, REFERENCE)
    row = summary["test_ll"]
    assert row["mean"].value == pytest.approx(-2.2)
    assert row["mean"].error == pytest.approx(0.2 / np.sqrt(3))
    assert row["monte_carlo_error"] == pytest.approx(0.05 / 3)
    assert row["difference"].value == pytest.approx(1.4 / 3)
    assert row["difference"].error == pytest.approx(np.std([0.5, 0.4, 0.5], ddof=1) / np.sqrt(3))
    assert row["verdict"] == "better"
    assert summary["test_rmse"]["verdict"] == "not told apart"
    turned = {name: REFERENCE[name] - 10 for name in compare.NAMES}
    worse = compare.summarize(FOUND, turned)["test_rmse"]
    assert (worse["verdict"], worse["difference"].value) == ("worse", pytest.approx(10.1333, abs=1e-3))
    one = {name: values[:1] for name, values in FOUND.items()}
    first = {name: values[:1] for name, values in REFERENCE.items()}
    assert compare.summarize(one, first)["test_ll"]["verdict"] == "one split"


def test_the_table():
    assert compare.body(compare.summarize(FOUND, {}))[0] == [
        "test log likelihood",
        "-2.20±0.12",
        "-",
        "-",
        "-",
    ]
    row = compare.body(compare.summarize(FOUND, REFERENCE))[0]
    assert row[1:] == ["-2.20±0.12", "-2.67±0.12", "0.467±0.033", "better"]
    taus = np.array([0.1, 0.2, 0.2])
    assert compare.agreement(taus, {}) is None
    against, alone = compare.summarize(FOUND, REFERENCE), compare.summarize(FOUND, {})
    same = compare.agreement(taus, REFERENCE)
    assert compare.caption(3, 10_000, against, same).endswith("in 2 of 3 splits.")
    assert compare.caption(3, 10_000, against, None).endswith("at two standard errors of it.")
    assert compare.caption(3, 10_000, alone, None).endswith("3 splits, with 10,000 samples for each.")


def test_the_mean_over_seeds():
    """Values of a split are first averaged; what seeds differ by is their share of the error."""
    step = np.array([0.1, -0.2, 0.3])
    found = {name: np.stack([values - step, values + step]) for name, values in FOUND.items()}
    found |= {name: np.stack([FOUND[name]] * 2) for name in FOUND if name.endswith("_error")}
    one, both = compare.summarize(FOUND, REFERENCE)["test_ll"], compare.summarize(found, REFERENCE)["test_ll"]
    for name in ("mean", "difference"):
        np.testing.assert_allclose(both[name], one[name])
    assert both["monte_carlo_error"] == pytest.approx(one["monte_carlo_error"] / np.sqrt(2))
    # Two values that differ by 2 d have a mean with standard error d.
    assert both["seed_error"] == pytest.approx(np.sqrt(np.sum(step**2)) / 3)
    assert "seed_error" not in one
    same = compare.agreement(np.stack([REFERENCE["tau"]] * 2), REFERENCE)
    caption = compare.caption(3, 10_000, compare.summarize(found, REFERENCE), same, 2)
    assert "mean of 2 seeds, whose share of the error is 0.12 (log likelihood) and 0.12 (RMSE)." in caption
    assert caption.endswith("in 6 of 6 cases.")
    figure = compare.plot(splits.quick(0)._replace(reference=REFERENCE), found, "title")
    label = "a split, mean of 2 seeds ± 2 standard errors"
    assert label in figure.axes[0].get_legend_handles_labels()[1]
    plt.close(figure)


def test_the_title():
    problem = splits.quick(0)
    assert compare.title(problem, 1, 20) == "diabetes, 20 of 20 epochs"
    assert compare.title(problem, 2, 4) == "diabetes, 2 hidden layers, 4 of 20 epochs"


@pytest.mark.parametrize("reference", [{}, REFERENCE], ids=["alone", "against"])
def test_the_plot(reference):
    problem = splits.quick(0)._replace(reference=reference)
    figure = compare.plot(problem, FOUND, "title")
    assert len(figure.axes) == 2
    assert all(axis.get_xlabel() and axis.get_ylabel() for axis in figure.axes)
    plt.close(figure)
