"""The choice of a setting, and the rows and plots of the chosen ones."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments.resnet import grid

PLAN = grid.Plan(0, 2, rates=(0.0, 0.5), decays=(0.0, 0.1))
HYPER = {
    "rate": np.repeat([0.0, 0.5], 4),
    "decay": np.tile(np.repeat([0.0, 0.1], 2), 2),
    "seed": np.tile([0.0, 1.0], 4),
}
# Means 0.20, 0.30, 0.21 and 0.23; the standard error of the lowest is 0.02.
VALID = np.array([0.18, 0.22, 0.30, 0.30, 0.19, 0.23, 0.21, 0.25])


def found(test: dict[str, np.ndarray]) -> grid.Found:
    return grid.Found(HYPER, np.stack([VALID + 0.5, VALID]), grid.choose(HYPER, VALID), test, test)


def test_the_rule_prefers_the_strongest_drop_path():
    assert grid.choose(HYPER, VALID) == {
        grid.NO_DROP_PATH: {"rate": 0.0, "decay": 0.0},
        grid.BY_THE_RULE: {"rate": 0.5, "decay": 0.0},
        grid.LOWEST: {"rate": 0.0, "decay": 0.0},
    }


def test_rows_are_paired_by_seed():
    none, rule = np.array([0.20, 0.24]), np.array([0.22, 0.27])
    results = found({grid.NO_DROP_PATH: none, grid.BY_THE_RULE: rule, grid.LOWEST: none})
    rows = {row["setting"]: row for row in grid.summarize(results)}
    assert [row["verdict"] for row in rows.values()] == ["-", "hurts", "-"]
    assert rows[grid.BY_THE_RULE]["difference"] == pytest.approx((0.025, 0.005))
    assert rows[grid.BY_THE_RULE]["valid"] == pytest.approx((0.21, 0.02))
    validation, test = grid.tables(PLAN, results)
    assert validation.body == [["0", "20.0±2.0", "30.0±0.0"], ["0.5", "21.0±2.0", "23.0±2.0"]]
    assert test.body[1] == [
        "one-standard-error rule",
        "0.5",
        "0",
        "75.50±2.50",
        "24.50±2.50",
        "21.00±2.00",
        "2.50±0.50",
        "hurts",
    ]
    figure = grid.plot(PLAN, results)
    assert len(figure.axes) == 2
    plt.close(figure)
