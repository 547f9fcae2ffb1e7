"""The whole command in its quick form, interrupted and resumed."""

import json

import numpy as np
import pytest

from experiments.samples import __main__ as job
from experiments.samples import evaluate, measures, methods, tasks

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

FILES = {"metrics.json", "run.json", "table.md", "images.png", "regression.png"}


@pytest.fixture
def small(monkeypatch):
    """One network for images, and one for a table."""
    smaller = {"table_steps": 10, "table_truth": 64, "counts": methods.Counts((1, 4), (32,), (24,))}
    monkeypatch.setattr(job, "QUICK", job.QUICK | smaller | {"peer_counts": (4,)})
    model, *_ = tasks.image_models(True)["MLP"]
    monkeypatch.setattr(tasks, "image_models", lambda quick: {"MLP": (model, 10, 64)})


@pytest.mark.usefixtures("small")
def test_quick_writes_every_result_and_continues_where_it_was_stopped(tmp_path, monkeypatch):
    done = []
    measure = evaluate._measured

    def stop(plan, task, method, halves):
        done.append(f"{task.name}-{method.label}")
        if len(done) == 3:
            raise KeyboardInterrupt
        return measure(plan, task, method, halves)

    monkeypatch.setattr(evaluate, "_measured", stop)
    with pytest.raises(KeyboardInterrupt):
        job.main(out=tmp_path, quick=True)
    folder = tmp_path / "samples-quick"
    assert len(list(folder.glob("checkpoints-*/MLP-*.npz"))) == 2 + 2
    job.main(out=tmp_path, quick=True)
    # Six methods with classes, five without, and the one that was begun twice.
    assert len(done) == len(set(done)) + 1 == 6 + 5 + 1
    assert {path.name for path in folder.iterdir()} == FILES
    check(json.loads((folder / "metrics.json").read_text()), json.loads((folder / "run.json").read_text()))
    assert "Time to equal error, regression:" in (folder / "table.md").read_text()


def check(metrics: dict, run: dict) -> None:
    assert set(metrics["tasks"]) == {"MLP", "diabetes"}
    errors = metrics["tasks"]["MLP"]["errors"]
    assert set(errors) < set(run["times"]["MLP"])
    for label, row in errors.items():
        assert set(measures.ERRORS) >= {name.removesuffix("_error") for name in row}, label
    assert set(errors["moments"]) < set(errors["Gaussian classes"])
    assert np.shape(metrics["tasks"]["MLP"]["auroc"]["independent, T=4"]) == (16,)
    assert {goal["verdict"] for goal in run["goals"]} <= {"met", "missed", "unclear"}
    assert set(run["ratios"]["diabetes"]) == {"balanced, T=32", "matched, T=24", "moments"}
