"""What is shown and published, of the study of `test_study.py`."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments import study, study_report
from tests.experiments import test_study


def test_curves_are_shown_beside_those_of_the_baseline(tmp_path):
    made = test_study.make(test_study.program(test_study.FIT, test_study.OTHER))
    figure = study_report.plot_curves(made, study.run(made, tmp_path))
    fit, other = figure.axes
    names = ["training", "validation", "validation of the baseline"]
    assert [line.get_label() for line in fit.lines] == names[:2]
    assert [line.get_label() for line in other.lines] == names
    np.testing.assert_array_equal(other.lines[2].get_ydata(), fit.lines[1].get_ydata())
    assert len({line.get_linestyle() for line in other.lines}) == 3
    # All but the first scores are within the axes.
    late = np.concatenate([line.get_ydata()[1:] for line in other.lines])
    assert fit.get_ylim()[0] < late.min() < late.max() < fit.get_ylim()[1]
    plt.close(figure)


def test_results_are_published_and_checkpoints_removed(tmp_path, capsys):
    made = test_study.make(test_study.program(test_study.FIT), test_study.program(test_study.OTHER))
    made = made._replace(measures={"w": lambda params: params["w"]}, columns={"test": "test", "w": "w"})
    study_report.conduct(made, tmp_path, "caption", lambda rows: ({"count": len(rows)}, "a note"))
    names = {"metrics.json", "run.json", "table.md", "comparison.png", "learning_curves.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["count"], metrics["methods"][1]["w"]) == (2, pytest.approx(3.5, abs=1e-4))
    assert "a note" in capsys.readouterr().out
    assert (tmp_path / "table.md").read_text().count("helps") == 1
