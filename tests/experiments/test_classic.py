"""The classic comparison in its quick form, and what its tables say."""

import functools
import json
from unittest import mock

import numpy as np
import pytest

from experiments import data, loop
from experiments.classic import __main__ as classic
from experiments.classic import models, peers
from tests.experiments import events

TASK = models.Task((8,), data.load("digits"), epochs=3)


@pytest.mark.slow
def test_quick(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peers, "load", lambda: ({}, ["Keras", "torch"]))
    classic.main(out=tmp_path, quick=True)
    folder = tmp_path / "classic" / "digits-quick"
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json",
        "run.json",
        "table.md",
        "comparison.png",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["config"]["models"] == ["64-32-10"]
    rows = {row["contender"]: row for row in metrics["rows"]}
    assert list(rows) == list(models.OURS)
    for name in (models.LINEN, models.NNX):
        by_seed = rows[name]["accuracy_by_seed"]
        assert len(by_seed) == 2
        # The same steps: a rounding may move one of 797 images across a border, not more.
        np.testing.assert_allclose(rows[name + models.BY_STEPS]["accuracy_by_seed"], by_seed, atol=2 / 797)
        assert min(by_seed) > 0.12
    assert "difference" not in rows[models.LINEN]
    assert rows[models.NNX]["verdict"] in ("yes", "no")
    run = json.loads((folder / "run.json").read_text())
    assert run["missing"] == ["Keras", "torch"]
    assert np.shape(run["times"][0]["seconds"]) == (2, 2)
    assert "Keras is not installed and is left out." in capsys.readouterr().out
    assert len((folder / "table.md").read_text().splitlines()) == 2 + len(models.OURS)


def fake(calls: list, name: str, task: models.Task):
    """A contender whose runs are a function of its name and the seed."""

    def run(seed: int) -> models.Run:
        calls.append((seed, name))
        rng = np.random.default_rng((seed, len(name), *task.hidden))
        return models.Run(rng.random(), rng.random(task.epochs).tolist())

    return run


def contenders(calls: list) -> dict[str, models.Contender]:
    return {name: functools.partial(fake, calls, name) for name in (models.LINEN, "Keras", "torch")}


def test_each_seed_begins_with_another_contender(tmp_path):
    calls = []
    setup = loop.Setup(1, tmp_path, tmp_path / "logs")
    runs = classic.train(TASK, range(4, 6), contenders(calls), tmp_path / "done", setup)
    linen = models.LINEN
    assert calls == [(4, "Keras"), (4, "torch"), (4, linen), (5, "torch"), (5, linen), (5, "Keras")]
    assert list(runs) == [linen, "Keras", "torch"]
    assert [len(mine) for mine in runs.values()] == [2, 2, 2]
    curves = events.points(tmp_path / "logs" / "done" / TASK.name)
    assert curves["test/Keras"] == [(4, pytest.approx(runs["Keras"][0].accuracy)), (5, mock.ANY)]
    assert [step for step, _ in curves["epoch_s/torch"]] == list(range(6))
    assert curves["epoch_s/torch"][4][1] == pytest.approx(runs["torch"][1].seconds[1])


def test_a_stopped_run_goes_on_with_the_seeds_that_are_left(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(classic, "OURS", contenders(calls))
    monkeypatch.setattr(peers, "load", lambda: ({}, []))
    monkeypatch.setattr(classic, "QUICK", {"hidden": (8,)})
    classic.main(out=tmp_path / "whole", quick=True)
    whole = list(calls)

    def stop(task):
        run = fake(calls, "torch", task)
        return lambda seed: run(seed) if seed == 0 else pytest.fail("stopped")

    monkeypatch.setattr(classic, "OURS", contenders(calls) | {"torch": stop})
    with pytest.raises(pytest.fail.Exception):
        classic.main(out=tmp_path / "stopped", quick=True)
    assert not list((tmp_path / "stopped").rglob("metrics.json"))
    calls.clear()
    monkeypatch.setattr(classic, "OURS", contenders(calls))
    classic.main(out=tmp_path / "stopped", quick=True)
    assert calls == [call for call in whole if call[0] == 1]
    one, two = (
        (tmp_path / name / "classic" / "digits-quick" / "metrics.json").read_bytes()
        for name in ("whole", "stopped")
    )
    assert one == two
    assert not list((tmp_path / "stopped").rglob("checkpoints-*"))


def test_a_difference_has_the_errors_of_both():
    def runs(*accuracies):
        return [models.Run(accuracy, [3.0, 1.0, 2.0]) for accuracy in accuracies]

    named = {models.LINEN: runs(0.90, 0.92), models.LINEN + models.BY_STEPS: runs(0.90, 0.92)}
    rows = classic.scores(TASK, named | {"Keras": runs(0.96, 0.98), "torch": runs(0.93, 0.93)})
    assert "difference" not in rows[0]
    assert "difference" not in rows[1]
    np.testing.assert_allclose(rows[2]["difference"].value, 0.06)
    np.testing.assert_allclose(rows[2]["difference"].error, np.hypot(0.01, 0.01))
    assert rows[2]["verdict"] == "no"
    np.testing.assert_allclose(rows[3]["difference"].error, 0.01)
    assert rows[3]["verdict"] == "yes"


def test_one_seed_has_no_verdict():
    runs = {name: [models.Run(0.9, [1.0])] for name in (models.LINEN, "Keras")}
    assert classic.scores(TASK, runs)[1]["verdict"] == "one seed"


def test_the_first_epoch_is_told_apart():
    runs = [models.Run(0.9, [5.0, 1.0, 2.0]), models.Run(0.9, [1.5, 3.0, 4.0])]
    (row,) = classic.times(TASK, {models.LINEN: runs})
    assert row["epoch_s"] == 2.5
    assert row["quartiles_s"].tolist() == [1.75, 3.25]
    assert row["compile_s"] == 3.5
