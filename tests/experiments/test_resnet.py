"""The whole command in its quick form, stopped and resumed, and what it refuses."""

import json

import numpy as np
import pytest

from experiments.resnet import __main__ as job
from experiments.resnet import grid, networks, ways
from tests.experiments import events

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


@pytest.mark.slow
def test_quick_trains_all_ways_alike_and_resumes(tmp_path, monkeypatch):
    smaller = {"shape": networks.Shape((4,), 1), "steps": 4, "train_size": 100, "valid_size": 50}
    monkeypatch.setattr(job, "QUICK", job.QUICK | smaller)
    monkeypatch.setattr(job, "QUICK_WAYS", job.QUICK_WAYS | {"steps": 4})
    with monkeypatch.context() as patch:
        patch.setattr(grid, "run", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            job.main(out=tmp_path, quick=True)
    folder = tmp_path / "resnet" / "digits-quick"
    assert not (folder / "metrics.json").exists()
    # Resumed, it reads the curves of the ways.
    fail = dict.fromkeys(ways.WAYS, lambda problem: pytest.fail("trained again"))
    monkeypatch.setattr(ways, "WAYS", fail)
    job.main(out=tmp_path, log_dir=tmp_path / "logs", quick=True)
    (run,) = (tmp_path / "logs" / "resnet" / "digits-quick").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json",
        "run.json",
        "table.md",
        "ways.png",
        "sweep.png",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    curves = {row["way"]: np.array(row["losses"]) for row in metrics["ways"]}
    assert len(curves) == 7
    for losses in curves.values():
        np.testing.assert_allclose(losses, curves[ways.REFERENCE], atol=1e-5)
    assert np.ptp(curves[ways.REFERENCE]) > 0.01
    assert np.shape(metrics["valid_by_run"]) == (2, 8)
    curves = events.points(run / "sweep")
    assert len(curves) == 2 * 4
    np.testing.assert_allclose([step for step, _ in curves["valid/rate_0.2_decay_0.001"]], [2, 4])
    for row in metrics["settings"]:
        runs = [
            all(metrics["hyper"][name][i] == value for name, value in row["chosen"].items()) for i in range(8)
        ]
        assert row["valid"] == pytest.approx(np.mean(np.array(metrics["valid_by_run"])[-1, runs]))
        assert len(row["test_by_seed"]) == 2
    assert metrics["settings"][0]["chosen"]["rate"] == 0
