"""Tables that hold every method, and verdicts that know which way is better."""

import numpy as np
import pytest

from experiments.ood import evaluate, networks, results, sets

PLAN = networks.Plan("mnist", 0, 3, counts=(1, 3, 10, 30), angles=(45, 90))
NAMES = ["notMNIST", "rotated 90°"]


def rows() -> results.Rows:
    """The larger its number of samples, the better a method; weight scaling is the worst."""
    found = {}
    noise = np.array([0.0, 0.001, 0.002])
    for i, method in enumerate([*results.shown(PLAN)]):
        row = {f"in/{key}": 0.5 - 0.01 * i + noise for key, *_ in results.QUALITY}
        row |= {f"{name}/entropy": 0.5 + 0.01 * i + noise for name in NAMES}
        found[method] = row | {f"{name}/information": 0.6 - 0.01 * i - noise for name in NAMES}
    return found


def test_the_sets_out_of_distribution():
    empty = sets.Images(np.zeros(0), np.zeros(0))
    images = dict.fromkeys([sets.IN, "notMNIST", "rotated 45°", "rotated 90°"], empty)
    assert results.outside(images, PLAN) == NAMES


def test_the_tables_show_powers_of_ten_and_the_last():
    shown = results.shown(PLAN)
    assert len(shown) == 2 + 2 * 3 + 3 + 1
    assert not any(name.endswith("T=3") for name in shown)
    header, body = results.quality_table(PLAN, rows())
    assert [row[0] for row in body] == shown
    assert body[0][1] == "50.10±0.06"
    header, body = results.detection_table(PLAN, rows(), NAMES, "entropy")
    assert header == ["AUROC (%) by entropy", *NAMES]
    assert [row[0] for row in body] == shown
    # Of one network, or one sample, there is no mutual information.
    _, body = results.detection_table(PLAN, rows(), NAMES, "information")
    single = {evaluate.PLAIN, evaluate.ONE, *(f"{name}, T=1" for name in evaluate.SITES)}
    assert [row[0] for row in body] == [name for name in shown if name not in single]


def test_verdicts_know_which_way_is_better():
    found = results.compare(PLAN, rows(), NAMES)
    of = {(c.question, c.measure): c for c in found}
    for measure in ("in/nll", "notMNIST/entropy"):
        assert of["MC dropout vs weight scaling", measure].verdict == "better"
    error = of["MC dropout vs weight scaling", "in/error"]
    assert error.difference.value == pytest.approx(-0.03)
    assert {c.verdict for c in found if c.question == results.INFORMATION} <= {"better", "worse", "unclear"}
    header, body = results.comparison_table(found, NAMES)
    assert len({len(row) for row in (header, *body)}) == 1
    assert body[0][1] == "-3.00±0.00 better"
    assert body[-1][1:4] == ["-"] * 3
