"""The whole command in its quick form, resumed, and what it refuses."""

import json

import numpy as np
import pytest

from experiments import cli
from experiments.ood import __main__ as job
from experiments.ood import evaluate
from tests.experiments import test_data

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

FIGURES = ("reliability", "risk_coverage", "entropies", "auroc", "rotation")
FILES = {"metrics.json", "run.json", "table.md", *(f"{name}.png" for name in FIGURES)}


@pytest.fixture
def small(monkeypatch):
    smaller = {"hidden": (8, 8), "steps": 10, "members": 1, "images": 40, "counts": (3,), "angles": (90,)}
    monkeypatch.setattr(job, "QUICK", job.QUICK | smaller)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_quick_writes_every_result_and_resumes_to_the_same(tmp_path, monkeypatch):
    done = []
    compute = evaluate.predict

    def stop(*args):
        done.append(1)
        if len(done) == 8:
            raise KeyboardInterrupt
        return compute(*args)

    monkeypatch.setattr(evaluate, "predict", stop)
    with pytest.raises(KeyboardInterrupt):
        job.main(out=tmp_path, quick=True)
    folder = tmp_path / "ood" / "digits-quick"
    assert len(list(folder.glob("checkpoints-*/set-*.npz"))) == 7
    job.main(out=tmp_path, quick=True)
    # Eight methods on three sets, and the one that was begun twice.
    assert len(done) == 8 * 3 + 1
    assert {path.name for path in folder.iterdir()} == FILES
    resumed = (folder / "metrics.json").read_bytes()
    monkeypatch.setattr(job.results, "figures", lambda *_: {})
    job.main(out=tmp_path / "b", quick=True)
    assert (tmp_path / "b" / "ood" / "digits-quick" / "metrics.json").read_bytes() == resumed
    check(json.loads(resumed))


@pytest.mark.parametrize(("few", "name"), [("mnist", "MNIST"), ("notmnist", "notMNIST")])
def test_a_set_of_too_few_images_is_refused(few, name, tmp_path):
    for folder in ("mnist", "fashion-mnist", "notmnist"):
        test_data.write_set(tmp_path / folder, 7 if folder == few else 2000)
    with pytest.raises(cli.BadInputError, match=f"`test images of {name}` must be at least 2000, got 7"):
        job.main(data_dir=tmp_path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def check(metrics: dict) -> None:
    methods = metrics["methods"]
    assert {"weight scaling", "MC dropout, T=3", "MC, last layer, T=3", "SWAG, T=3"} <= set(methods)
    for row in methods.values():
        assert len(row["in/error"]) == 2
        assert "rotated 90°/information" in row
        assert "shuffled pixels/nll" not in row
    assert {c["verdict"] for c in metrics["comparisons"]} <= {"better", "worse", "unclear"}
    assert np.shape(metrics["losses"]) == (10, 2, 2)
