"""Plots with a panel for each measure and task, and errors in their units."""

import matplotlib.pyplot as plt
import pytest

from experiments.samples import evaluate, figures, methods, peers
from tests.experiments.samples.test_results import result


@pytest.mark.slow
def test_the_plots_have_a_panel_for_each_measure_and_task():
    found = figures.figures([result(True), result(True, "ViT"), result(False, "energy")])
    panels = {
        name: len(rows) * (2 if name != figures.REGRESSION else 1) for name, rows in figures.ROWS.items()
    }
    assert {name: len(figure.axes) for name, figure in found.items()} == panels
    _, names = found["images"].axes[0].get_legend_handles_labels()
    assert set(names) == {methods.INDEPENDENT, methods.BALANCED, methods.MOMENTS, peers.FLAX}
    assert set(figures.figures([result(False)])) == {figures.REGRESSION}
    plt.close("all")


def test_errors_have_units_and_bounds():
    of = result(True)
    value, known = figures.error(of, "independent, T=100", "covariance")
    assert known
    assert value == pytest.approx(10, rel=0.02)
    assert figures.error(of, "independent, T=100", "probabilities")[0] == pytest.approx(0.1, rel=0.02)
    assert figures.error(of, "moments", "ranking") is None
    of.scores["independent, T=10"][:] = 0.87
    assert figures.error(of, "independent, T=10", evaluate.AUROC)[0] == pytest.approx(3)
    noisy = of._replace(errors={"moments": {"mean": -of.errors["moments"]["covariance"]}})
    value, known = figures.error(noisy, "moments", "mean")
    assert value > 0
    assert not known
