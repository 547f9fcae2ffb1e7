"""The main job in its quick form, and its parts that decide what the table says."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data, study
from experiments.regularizers import __main__ as job
from tests.experiments import events


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("results")
    job.main(out=out, log_dir=out / "logs", quick=True)
    return out / "regularizers" / "digits-quick"


@pytest.mark.slow
def test_quick_writes_every_result(quick):
    assert {path.name for path in quick.iterdir()} == {
        "metrics.json",
        "run.json",
        "table.md",
        "comparison.png",
        "learning_curves.png",
    }
    metrics = json.loads((quick / "metrics.json").read_text())
    rows = metrics["methods"]
    assert [row["method"] for row in rows] == list(job.METHODS)
    for row in rows:
        assert len(row["test_by_seed"]) == 3
        np.testing.assert_allclose(row["test"], np.mean(row["test_by_seed"]))
        np.testing.assert_allclose(row["gap"], row["test"] - row["train"], atol=1e-12)
        np.testing.assert_allclose(
            row["test_error"], np.std(row["test_by_seed"], ddof=1) / np.sqrt(3), rtol=1e-9
        )
        assert 0 < row["test"] < 0.9
        assert row["setting"] in job.METHODS[row["method"]]
    assert rows[0]["difference"] == 0
    assert len((quick / "table.md").read_text().splitlines()) == 2 + len(job.METHODS)


@pytest.mark.slow
def test_the_live_curves_end_with_the_scores_of_the_table(quick):
    (run,) = (quick.parents[1] / "logs" / "regularizers" / "digits-quick").iterdir()
    curves = events.points(run / "0")
    rows = json.loads((quick / "metrics.json").read_text())["methods"]
    for row in rows:
        name = row["method"].replace(" + ", "_").replace(" ", "_")
        for part in ("train", "valid"):
            assert [step for step, _ in curves[f"{part}/{name}"]] == list(range(2, 41, 2))
            np.testing.assert_allclose(curves[f"{part}/{name}"][-1][1], row[part], atol=1e-6)
            deviation = row[f"{part}_error"] * 3**0.5
            np.testing.assert_allclose(curves[f"{part}_deviation/{name}"][-1][1], deviation, atol=1e-6)
    assert len(curves) == 4 * len(rows)


@pytest.mark.slow
def test_a_second_run_with_the_same_data_in_a_file_gives_the_same_numbers(quick, tmp_path):
    digits = data.load("digits")
    np.savez(tmp_path / "mine.npz", **{name: getattr(digits, name) for name in digits._fields[1:]})
    job.main(own_data=tmp_path / "mine.npz", out=tmp_path, quick=True)
    again = json.loads((tmp_path / "regularizers" / "mine.npz-quick" / "metrics.json").read_text())
    assert again["methods"] == json.loads((quick / "metrics.json").read_text())["methods"]


def test_each_seed_draws_its_own_parts():
    made = job.make(job.Config("digits", 5, 3, 40, 2, 50, 60, 16), data.load("digits"))
    _, hyper = study.cells(made, made.programs[0])
    settings = made.programs[0].settings()
    assert len(settings) == sum(map(len, job.METHODS.values()))
    parts = np.concatenate([hyper["train"], hyper["valid"]], 1)
    assert parts.shape == (3 * len(settings), 110)
    assert all(len(set(row)) == 110 for row in parts[:3].tolist())
    assert len({row.tobytes() for row in parts}) == 3
    np.testing.assert_array_equal(hyper["probe"], hyper["train"])
    rate = np.asarray(hyper["rate"]).reshape(-1, 3)
    assert [setting.get("rate", 0.0) for setting in settings] == pytest.approx(rate[:, 0].tolist())


def test_zero_weights_are_counted_without_biases():
    params = {"kernel": jnp.array([[0.0, 5e-4, -1.0, 2.0]]), "bias": jnp.zeros(4)}
    assert job.share_below(0.0, params) == 0.25
    assert job.share_below(job.ZERO, params) == 0.5


def test_noise_only_where_hyper_parameters_are_given():
    model = job.MLP(8)
    x = jnp.ones((4, 64))
    variables = model.init(jax.random.key(0), x)
    hyper = {"rate": jnp.float32(0.5), "gaussian_rate": jnp.float32(0.0)}
    noisy = [model.apply(variables, x, hyper, rngs={"dropout": jax.random.key(i)}) for i in range(2)]
    assert not np.array_equal(noisy[0], noisy[1])
    np.testing.assert_array_equal(model.apply(variables, x), model.apply(variables, x))
    still = model.apply(
        variables, x, {"rate": 0.0, "gaussian_rate": 0.0}, rngs={"dropout": jax.random.key(0)}
    )
    np.testing.assert_array_equal(still, model.apply(variables, x))


def test_missing_and_truncated_data_leave_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="looked for"):
        job.main(dataset="mnist", data_dir=tmp_path, out=tmp_path / "out")
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        path = tmp_path / "mnist" / f"{name}-ubyte.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(ValueError, match="must be a valid gzip file"):
        job.main(dataset="mnist", data_dir=tmp_path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert data.NAMES[1] == "mnist"
