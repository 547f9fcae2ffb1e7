"""The whole command in its quick form, resumed, and what it refuses."""

import json

import numpy as np
import pytest

from experiments import cli
from experiments.co2 import __main__ as job
from experiments.co2 import networks
from tests.experiments import events

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


@pytest.fixture
def small(monkeypatch):
    smaller = {"hidden": (8,), "steps": 20, "samples": 5, "points": 20}
    monkeypatch.setattr(job, "QUICK", job.QUICK | smaller)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_quick_writes_every_result_and_resumes_to_the_same(tmp_path, bucket, monkeypatch):
    done, train = [], networks.train

    def stop(plan, activation, *args):
        done.append(activation)
        if len(done) == 2:
            raise KeyboardInterrupt
        return train(plan, activation, *args)

    monkeypatch.setattr(networks, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        job.main(out=tmp_path, quick=True)
    job.main(out=tmp_path, quick=True)
    assert done == ["ReLU", "tanh", "tanh"]
    folder = tmp_path / "co2-quick"
    names = {"metrics.json", "run.json", "table.md", "bands.png", "training.png"}
    assert {path.name for path in folder.iterdir()} == names
    resumed = (folder / "metrics.json").read_bytes()
    # In a bucket all is the same.
    job.main(out=bucket / "b", log_dir=bucket / "logs", quick=True)
    assert (bucket / "b" / "co2-quick" / "metrics.json").read_bytes() == resumed
    written = {path.name for path in (bucket / "b" / "co2-quick").iterdir()}
    assert written == {path.name for path in folder.iterdir()}
    (run,) = (bucket / "logs" / "co2-quick").iterdir()
    for activation in networks.ACTIVATIONS:
        curve = events.points(run / activation)[f"train/{activation}"]
        assert [step for step, _ in curve] == list(range(1, networks.CHUNKS + 1))
    metrics = json.loads(resumed)
    for ways in metrics["networks"].values():
        assert np.shape(ways["MC dropout"]["nll_held_out"]) == (2,)
        assert ways["weight scaling"]["deviation_far"] == [0, 0]
    assert len(metrics["claims"]) == 5
    assert np.shape(metrics["learned"]["tanh"]) == (2, networks.CHUNKS)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_that_is_none_is_refused(rate, tmp_path):
    with pytest.raises(cli.BadInputError, match=rf"`rate` must lie in \(0, 1\), got {rate:g}\."):
        job.main(rate=rate, out=tmp_path, quick=True)


def test_a_series_that_is_held_out_whole_is_refused(tmp_path):
    (tmp_path / "co2").mkdir()
    np.savetxt(tmp_path / "co2" / "mauna_loa.csv", [(i, i % 7) for i in range(72)], delimiter=",")
    with pytest.raises(cli.BadInputError, match=r"`co2` must have more than 72 points, got 72\."):
        job.main(data_dir=tmp_path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_wave_is_standardized_and_always_the_same():
    x, y = job.synthetic()
    assert abs(y.mean()) < 1e-6
    assert y.std() == pytest.approx(1, abs=1e-6)
    assert (np.diff(x) > 0).all()
    np.testing.assert_array_equal(job.synthetic()[1], y)
