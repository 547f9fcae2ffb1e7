"""The whole command in its quick form, resumed, and what it refuses."""

import json

import numpy as np
import pytest

from experiments.active import __main__ as job
from experiments.active import acquire, rounds
from tests.experiments import events

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(
        job, "QUICK", job.QUICK | {"kernels": (2, 2), "units": 4, "steps": 5, "rounds": 2, "samples": 4}
    )
    monkeypatch.setattr(acquire, "CANDIDATES", 30)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_quick_writes_every_result_and_resumes_to_the_same(tmp_path, monkeypatch):
    done, learn = [], rounds.learn

    def stop(*args):
        done.append(1)
        if len(done) == 8:
            raise KeyboardInterrupt
        return learn(*args)

    monkeypatch.setattr(rounds, "learn", stop)
    with pytest.raises(KeyboardInterrupt):
        job.main(out=tmp_path, log_dir=tmp_path / "logs", quick=True)
    job.main(out=tmp_path, log_dir=tmp_path / "logs", quick=True)
    # Five methods of three rounds, and the one that was begun twice.
    assert len(done) == 5 * 3 + 1
    folder = tmp_path / "active" / "digits-quick"
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "run.json", "table.md", "curves.png"}
    resumed = (folder / "metrics.json").read_bytes()
    job.main(out=tmp_path / "b", quick=True)
    assert (tmp_path / "b" / "active" / "digits-quick" / "metrics.json").read_bytes() == resumed
    metrics = json.loads(resumed)
    assert [row["method"] for row in metrics["methods"]] == list(acquire.METHODS)
    errors = np.array([row["errors"] for row in metrics["methods"]])
    assert errors.shape == (5, 3, 2)
    # The first labels are the same for all, and so is what is learned from them.
    np.testing.assert_array_equal(errors[:, 0], np.broadcast_to(errors[0, 0], (5, 2)))
    # Live curves over the number of labels, one folder per method; a resumed run has each point once.
    (run,) = (tmp_path / "logs" / "active" / "digits-quick").iterdir()
    curves = events.points(run / "BALD")
    steps, values = zip(*curves["test/BALD"], strict=True)
    assert steps == (20, 30, 40)
    np.testing.assert_allclose(values, errors[list(acquire.METHODS).index("BALD")].mean(1), rtol=1e-6)
    assert len(curves["test_deviation/BALD"]) == 3
    for places in metrics["places"].values():
        assert np.shape(places) == (2, 40)
        assert all(len(set(row)) == 40 for row in places)
