"""Tables with every method, bounds where the reference ends, and goals with verdicts."""

import numpy as np
import pytest

from experiments.means import Mean
from experiments.samples import evaluate, measures, peers, results

COUNTS = {"independent, T=10": 10, "independent, T=100": 100, "balanced, T=32": 32, "moments": 0}


def result(classes: bool, name: str = "MLP", gain: float = 200.0) -> evaluate.Result:
    """Errors as one over the samples; balanced masks gain 8 times, moments are worth `gain` samples."""
    noise = 1 + 0.1 * np.random.default_rng(0).normal(size=(64,))
    worth = {"independent, T=10": 10.0, "independent, T=100": 100, "balanced, T=32": 256, "moments": gain}
    kept = list(measures.ERRORS) if classes else list(results.OUTPUTS)
    errors = {label: dict.fromkeys(kept, noise / count) for label, count in worth.items()}
    if classes:
        errors["moments"] = {key: errors["moments"][key] for key in ("mean", "deviation", "covariance")}
    alone = peers.label(evaluate.ALONE, 100)
    prices = {label: count or 2.0 for label, count in COUNTS.items()}
    prices |= {alone: 50.0, "Flax loop, T=10": 30.0}
    times = {label: price * np.array([1.0, 1.1]) for label, price in prices.items()}
    scores = {label: np.array([0.9]) for label in (*COUNTS, evaluate.REFERENCE)} if classes else {}
    floors = dict.fromkeys(measures.ERRORS, 1e-9)
    return evaluate.Result(
        name, classes, COUNTS, ["matched, T=16"], errors, floors, scores, times, np.zeros(5)
    )


def test_ratios_are_of_time_and_of_passes():
    found = results.ratios(result(True))
    assert set(found) == {"balanced, T=32", "moments"}
    balanced = found["balanced, T=32"]
    assert balanced["mean", results.PASSES].value.value == pytest.approx(8, rel=0.02)
    assert balanced["ranking", "time"].sign == "~"
    # Independent samples without classes take half the time: 200 samples, 100 ms over 2 ms.
    assert found["moments"]["covariance", "time"].value.value == pytest.approx(50, rel=0.02)
    assert ("probabilities", "time") not in found["moments"]


def test_tables_hold_every_method():
    both = [result(True), result(False, "energy")]
    outputs, classes = results.error_tables(both[0])
    assert [row[0] for row in outputs.body] == list(both[0].times)
    assert outputs.body[0][1] == "10.5"
    assert [row[0] for row in classes.body] == [*list(COUNTS)[:3], evaluate.REFERENCE]
    assert classes.body[-1][-1] == "90.0"
    assert len(results.error_tables(both[1])) == 1
    assert outputs.caption.endswith("Refused by the method: matched, T=16.")
    found = {of.name: results.ratios(of) for of in both}
    images, values = results.ratio_tables(both, found)
    assert [row[0] for row in images.body] == ["MLP: balanced, T=32", "MLP: moments"]
    assert values.header == ["", "variance", "mean", "density", "passes"]
    for table in (images, values):
        assert len({len(row) for row in (table.header, *table.body)}) == 1


@pytest.mark.parametrize(("gain", "verdict"), [(2000, "met"), (200, "missed")])
def test_goals_have_verdicts(gain, verdict):
    found = {"MLP": results.ratios(result(True, gain=gain)), "energy": results.ratios(result(False))}
    goals = results.goals(found, ["energy"])
    assert [(goal.measure[0], goal.task) for goal in goals] == [
        ("covariance", "MLP"),
        ("probabilities", "MLP"),
        ("ranking", "MLP"),
        ("mean", "energy"),
    ]
    assert goals[0].method == "moments"
    assert goals[0].verdict == verdict
    assert goals[-1].verdict == "met"
    assert [row[-1] for row in results.goal_table(goals).body] == [goal.verdict for goal in goals]


def test_numbers_are_short():
    values = [results._three(value) for value in (1234.5, 12.34, 0.012345, 3.0, float("nan"))]
    assert values == ["1234", "12.3", "0.0123", "3.00", "-"]
    assert measures.Ratio(Mean(123.4, 5.6), ">").show() == ">123±6"
