"""The experiment in its quick form, what an interruption leaves, and what the command refuses."""

import functools
import json
import re

import numpy as np
import pytest

from experiments import cli, loop
from experiments.uci import __main__ as job
from tests.experiments import events

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


@pytest.mark.slow
def test_quick_writes_every_result_whenever_it_was_interrupted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "train", functools.partial(loop.train, save_every=0.0))
    monkeypatch.setattr(job, "score", stop)
    with pytest.raises(KeyboardInterrupt):
        job.main(out=tmp_path / "a", epochs=2, quick=True)
    folder = tmp_path / "a" / "uci" / "diabetes-quick-2"
    assert not (folder / "metrics.json").exists()
    damaged = max(folder.glob("checkpoints-*/seed-0/grid/2/**/_METADATA"))
    damaged.write_bytes(b"")
    monkeypatch.undo()
    for name in ("a", "b"):
        job.main(out=tmp_path / name, log_dir=tmp_path / "logs", epochs=2, quick=True)
    assert (
        f"`{damaged}` is damaged or missing; the checkpoint of step 2 is dropped." in capsys.readouterr().out
    )
    written = {path.name for path in folder.iterdir()}
    assert written == {"metrics.json", "run.json", "table.md", "diabetes.png"}
    content = (folder / "metrics.json").read_bytes()
    assert content == (tmp_path / "b" / "uci" / "diabetes-quick-2" / "metrics.json").read_bytes()
    metrics = json.loads(content)
    assert not {"layers", "seeds"} & set(metrics)
    check(metrics)
    (run,) = (tmp_path / "logs" / "uci" / "diabetes-quick-2").iterdir()
    curves = events.points(run / "seed-0" / "grid")
    errors = np.array(metrics["validation"]["training_error"])
    for i, rate in enumerate(metrics["rates"]):
        np.testing.assert_allclose(curves[f"train/rate_{rate:g}"][-1], (2, errors[:, i].mean()), rtol=1e-5)
    assert len(events.points(run / "seed-0" / "chosen")["train/chosen"]) == 2
    assert "seconds" in json.loads((folder / "run.json").read_text())


@pytest.mark.slow
def test_finished_seeds_are_kept(tmp_path, monkeypatch):
    """Two layers and a pair that is not searched; the second seed is interrupted, and equals one alone."""
    rng, file, test = np.random.default_rng(0), tmp_path / "mine.npz", job.test
    np.savez(file, x=rng.normal(size=(40, 3)), y=rng.normal(size=40))
    options = {"own_data": file, "out": tmp_path, "layers": 2, "rate": 0.05, "tau": 2.0, "quick": True}
    options["epochs"] = 2
    name = "mine.npz-quick-2-layers-2-rate-0.05-tau-2.0"
    monkeypatch.setattr(job, "test", lambda plan, *of: stop() if plan.seed else test(plan, *of))
    with pytest.raises(KeyboardInterrupt):
        job.main(seeds=2, **options)
    tested = []
    monkeypatch.setattr(job, "test", lambda plan, *of: tested.append(plan.seed) or test(plan, *of))
    job.main(seeds=2, **options)
    assert tested == [1]
    job.main(seed=1, **options)
    both, alone = (
        json.loads((tmp_path / "uci" / folder / "metrics.json").read_text())
        for folder in (f"{name}-2-seeds", name)
    )
    assert (both["layers"], both["seeds"], alone["chosen_tau"]) == (2, 2, [2.0] * 3)
    assert "validation" not in both
    assert both["test_ll"][1] == alone["test_ll"] != both["test_ll"][0]
    assert both["curves"][1] == alone["curves"]
    assert both["summary"]["test_ll"]["mean"] == pytest.approx(np.mean(both["test_ll"]))


@pytest.mark.parametrize(
    ("rate", "tau", "message"),
    [
        (0.1, None, "`rate` and `tau` must be given together, got 0.1 and None."),
        (1.0, 1.0, "`rate` must lie in [0, 1), got 1."),
        (0.1, np.inf, "`tau` must lie in [1e-10, 1e+10], got inf."),
    ],
)
def test_a_bad_pair_is_refused(rate, tau, message):
    with pytest.raises(cli.BadInputError, match=re.escape(message)):
        job.main(rate=rate, tau=tau)


def test_own_data_have_their_own_folder(tmp_path, monkeypatch):
    rng, taken = np.random.default_rng(0), []
    np.savez(tmp_path / "mine.npz", x=rng.normal(size=(40, 3)), y=rng.normal(size=40))
    monkeypatch.setattr(job, "run", lambda *args: taken.append(args))
    job.main(own_data=tmp_path / "mine.npz", out=tmp_path, epochs=7, quick=True)
    job.main(own_data=tmp_path / "mine.npz", out=tmp_path)
    (_, problem, quick, _), (plan, _, full, _) = taken
    assert (str(quick), str(full)) == (f"{tmp_path}/uci/mine.npz-quick-7", f"{tmp_path}/uci/mine.npz")
    assert len(problem.train) == 3
    assert (plan.dataset, plan.epochs) == ("mine.npz", 400)


def stop(*_):
    raise KeyboardInterrupt


def check(metrics):
    for name in ("test_ll", "test_ll_error", "test_rmse", "test_rmse_error", "chosen_rate", "chosen_tau"):
        assert np.shape(metrics[name]) == (3,)
    scored = np.array(metrics["validation"]["ll"])
    assert scored.shape == (3, len(metrics["rates"]), len(metrics["taus"]))
    best = [np.unravel_index(of.argmax(), of.shape) for of in scored]
    assert metrics["chosen_rate"] == [metrics["rates"][rate] for rate, _ in best]
    assert metrics["chosen_tau"] == [metrics["taus"][tau] for _, tau in best]
    assert metrics["summary"]["test_ll"]["mean"] == pytest.approx(np.mean(metrics["test_ll"]))


@pytest.mark.parametrize(("epochs", "expected"), [(4000, 100), (2000, 50), (40, 1), (97, 1), (90, 2), (1, 1)])
def test_chunks_divide_the_epochs(epochs, expected):
    assert job.chunk(epochs) == expected


def test_a_network_that_came_to_nothing_is_named():
    errors = np.ones((2, 1, 2))
    errors[1, 0, 1] = np.nan
    message = "must be finite, got nan in split 1 at rate 0.1 and tau 3."
    with pytest.raises(ValueError, match=re.escape(message)):
        job._check_finite(errors, np.full((2, 1), 0.1), np.array([[2.0, 3.0], [2.0, 3.0]]))
