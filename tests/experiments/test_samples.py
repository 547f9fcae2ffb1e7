"""The whole command in its quick form, interrupted and resumed."""

import json

import jax
import numpy as np
import pytest

from experiments.samples import __main__ as job
from experiments.samples import evaluate, measures, methods, peers, tasks

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

FILES = {"metrics.json", "run.json", "table.md", "images.png", "outputs.png"}


@pytest.fixture
def small(monkeypatch):
    """One network, not trained, no peers, and a reference of as many samples as a method: less to compile."""
    smaller = {"counts": methods.Counts((4,), (32,), (24,), (128,)), "peer_counts": (4,)}
    monkeypatch.setattr(job, "QUICK", job.QUICK | smaller)
    model, *_ = tasks.image_models(True)["MLP"]
    monkeypatch.setattr(tasks, "image_models", lambda quick: {"MLP": (model, 10, 8)})
    init = jax.jit(model.init)

    def train(task, seed, checkpoints, setup):
        return tasks.Trained(init(jax.random.key(seed), task.x), 1.0, np.ones(tasks.CHUNKS))

    monkeypatch.setattr(tasks, "train", train)
    monkeypatch.setattr(peers, "loops", lambda *_: {})
    load = job.load
    monkeypatch.setattr(job, "load", lambda *args: load(*args)[:1])


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_quick_writes_every_result_and_continues_where_it_was_stopped(tmp_path, monkeypatch):
    done = []
    measure = evaluate._measured

    def stop(plan, task, method, halves):
        done.append(method.label)
        if len(done) == 3:
            raise KeyboardInterrupt
        return measure(plan, task, method, halves)

    monkeypatch.setattr(evaluate, "_measured", stop)
    with pytest.raises(KeyboardInterrupt):
        job.main(out=tmp_path, quick=True)
    folder = tmp_path / "samples-quick"
    assert len(list(folder.glob("checkpoints-*/MLP-*.npz"))) == 2 + 2
    job.main(out=tmp_path, quick=True)
    # Five methods, and the one that was begun twice.
    assert len(done) == len(set(done)) + 1 == 5 + 1
    assert {path.name for path in folder.iterdir()} == FILES
    check(json.loads((folder / "metrics.json").read_text()), json.loads((folder / "run.json").read_text()))
    assert "Time to equal error, networks for images:" in (folder / "table.md").read_text()


def check(metrics: dict, run: dict) -> None:
    errors = metrics["tasks"]["MLP"]["errors"]
    assert set(errors) < set(run["times"]["MLP"])
    for label, row in errors.items():
        assert set(measures.ERRORS) >= {name.removesuffix("_error") for name in row}, label
    assert set(errors["moments"]) < set(errors["Gaussian, N=128"])
    assert np.shape(metrics["tasks"]["MLP"]["auroc"]["independent, T=4"]) == (16,)
    assert [goal["task"] for goal in run["goals"]] == ["MLP"] * 3
    assert {goal["verdict"] for goal in run["goals"]} <= {"met", "missed", "unclear"}
    assert set(run["ratios"]["MLP"]) == set(errors) - {"independent, T=4"}
