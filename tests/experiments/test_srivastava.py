"""The quick form, what is said of the order, what is refused, and that kills change nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import cli, study
from experiments.srivastava import __main__ as job
from experiments.srivastava import methods
from jaxdrop import optim

ROOT = Path(__file__).parents[2]
NAMES = {"metrics.json", "run.json", "table.md", "comparison.png", "learning_curves.png"}
PNG = "learning_curves.png"
SECONDS = 120


def start(out: Path, cache: Path, save_every: float) -> subprocess.Popen:
    """The command in its own process, as a user starts it, but for programs compiled once."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, "-m", "experiments.srivastava", "--quick", "--out", str(out)]
    return subprocess.Popen(
        [*command, "--save-every", str(save_every)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    return said


def results(out: Path) -> Path:
    return out / "srivastava" / "digits-quick"


def saved(out: Path) -> int:
    """The step of the last whole checkpoint."""
    folders = results(out).glob("checkpoints-*/*/*")
    return max((int(folder.name) for folder in folders if folder.name.isdigit()), default=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path, str]:
    """An uninterrupted run, the programs that it compiled, and what it said."""
    out, cache = (tmp_path_factory.mktemp(name) for name in ("whole", "cache"))
    return out, cache, finish(start(out, cache, save_every=1e9))


@pytest.mark.slow
def test_quick_writes_every_result(whole):
    folder = results(whole[0])
    assert {path.name for path in folder.iterdir()} == NAMES
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = {row["method"]: row for row in metrics["methods"]}
    assert list(rows) == list(methods.METHODS)
    assert len((folder / "table.md").read_text().splitlines()) == 2 + len(rows)
    baseline = rows[methods.BASELINE]["test_by_seed"]
    for name, row in rows.items():
        difference = np.subtract(row["test_by_seed"], baseline)
        np.testing.assert_allclose(row["difference"], difference.mean(), atol=1e-12)
        np.testing.assert_allclose(row["difference_error"], difference.std(ddof=1) / 2**0.5, atol=1e-12)
        assert row["valid"] == pytest.approx(min(tried["valid"] for tried in row["tried"]))
        assert [tried["setting"] for tried in row["tried"]] == methods.METHODS[name]
        assert row["setting"] in methods.METHODS[name]
        assert name not in metrics["published"]
    assert f"worst) {metrics['order']['shows']} here." in " ".join(whole[2].split())
    run = json.loads((folder / "run.json").read_text())
    assert run["seconds"] > 0
    assert run["environment"]["jax"]
    assert run["environment"]["command"].startswith("python -m experiments.srivastava --quick --out ")


@pytest.mark.slow
def test_five_kills_do_not_change_a_byte_of_the_metrics(whole, tmp_path):
    """Killed on the way to the first step, at three steps, and while results are being written."""
    rng = np.random.default_rng(0)
    every = job.QUICK["steps"] // job.QUICK["chunks"]
    marks = every * np.sort(rng.choice(np.arange(1, job.QUICK["chunks"]), 3, replace=False))
    moments = [(lambda: True, 2.0), *((lambda mark=mark: saved(tmp_path) >= mark, 0.03) for mark in marks)]
    moments += [((results(tmp_path) / PNG).exists, 0.1)]
    reached = []
    for here, longest in moments:
        process = start(tmp_path, whole[1], save_every=0.0)
        end = time.monotonic() + SECONDS
        while not here() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, longest))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it had ended"
        assert not (results(tmp_path) / "metrics.json").exists() or (results(tmp_path) / PNG).exists()
        reached.append(saved(tmp_path))
    # Some were in the middle of the training, and none had to start from its beginning again.
    assert sum(0 < step < job.QUICK["steps"] for step in reached) >= 2, reached
    assert reached == sorted(reached)
    assert "Resuming from step" in finish(start(tmp_path, whole[1], save_every=0.0))
    assert {path.name for path in results(tmp_path).iterdir()} == NAMES
    for name in ("metrics.json", "table.md"):
        assert (results(tmp_path) / name).read_bytes() == (results(whole[0]) / name).read_bytes()


def rows(**tests):
    """Rows of three seeds; the methods that are not given lie in between."""
    values = {name: [2.0, 2.1, 2.2] for name in methods.METHODS}
    values |= {methods.BASELINE: [3.0, 3.1, 3.25], methods.BEST: [1.0, 1.1, 1.15]}
    values |= {{"best": methods.BEST, "worst": methods.BASELINE}.get(key, key): v for key, v in tests.items()}
    return [
        study.Row(study.Method(name, [], methods.BASELINE), {}, "", {}, [], np.array(value), np.zeros(0), 0)
        for name, value in values.items()
    ]


@pytest.mark.parametrize(
    ("tests", "shows", "best", "worst"),
    [
        ({}, 2, 2, 2),
        ({"best": [1.0, 1.1, 2.5]}, 1, 1, 2),
        ({"worst": [3.0, 3.1, 1.8]}, 1, 2, 1),
        ({"best": [2.5, 2.5, 2.5]}, 0, 0, 2),
        ({"worst": [0.5, 0.5, 0.5]}, 0, 0, 0),
        ({"max-norm": [1.0, 1.1, 1.15]}, 0, 0, 2),
        ({"best": [1.0]} | {name: [2.0] for name in list(methods.METHODS)[1:5]} | {"worst": [3.0]}, 1, 1, 1),
    ],
)
def test_what_is_said_of_the_order(tests, shows, best, worst):
    found = job.order(rows(**tests))
    assert found["shows"] == job.LEVELS[shows]
    assert (found["best"]["shows"], found["worst"]["shows"]) == (job.LEVELS[best], job.LEVELS[worst])
    first, *others = job.sentences(found).splitlines()
    assert first.endswith(f"{job.LEVELS[shows]} here.")
    assert [
        line.startswith(name) for line, name in zip(others, (methods.BEST, methods.BASELINE), strict=True)
    ]


def test_the_order_names_what_stands_against_it():
    found = job.order(rows(**{"max-norm": [0.5, 0.5, 0.5], "best": [1.0, 1.1, 2.5]}))
    assert found["best"]["against"] == ["max-norm"]
    assert found["best"]["unclear"] == [
        name for name in methods.METHODS if name not in ("max-norm", methods.BASELINE, methods.BEST)
    ]
    assert "not shown against max-norm; unclear against L2 + L1 at the end" in job.sentences(found)


@pytest.mark.parametrize(
    ("scale", "hidden", "steps"),
    [(1.0, (1024, 1024, 2048), 1_000_000), (0.1, (96, 96, 208), 10_000), (0.001, (16, 16, 16), 20)],
)
def test_scale(scale, hidden, steps):
    config = job.scaled("mnist", 0, 4, scale)
    assert (config.hidden, config.steps) == (hidden, steps)
    assert config.steps % config.chunks == 0


@pytest.mark.parametrize(
    ("scale", "backend", "in_turn"), [(0.1, "cpu", False), (0.2, "cpu", True), (0.2, "gpu", False)]
)
def test_large_runs_train_in_turn_on_a_cpu(scale, backend, in_turn, monkeypatch):
    made = []
    monkeypatch.setattr(job.jax, "default_backend", lambda: backend)
    monkeypatch.setattr(job.study_report, "conduct", lambda study, *_: made.append(study))
    job.main(quick=True, scale=scale)
    assert made[0].setup.in_turn == in_turn


@pytest.mark.usefixtures("compiled_in_haste")
def test_a_gradient_that_is_not_finite_ends_the_command_and_overwrites_nothing(tmp_path, monkeypatch, capsys):
    def recipe_for(config):
        def recipe(hyper):
            def loss_fn(params, key, pool):
                # A bias that each update moves on by 1.
                clock, kernel = params["layer_0"]["bias"][0], params["layer_1"]["kernel"]
                bad = jax.lax.stop_gradient(clock >= 25) & (hyper["kl"] > 0)
                return jnp.sum(kernel) * jnp.where(bad, jnp.nan, 1e-3) - clock, ()

            return loss_fn, optim.halt_on_nonfinite(optax.sgd(1.0))

        return recipe

    monkeypatch.setattr(methods, "recipe_for", recipe_for)
    folder = results(tmp_path)
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("earlier")
    monkeypatch.setattr(sys, "argv", ["srivastava", "--quick", "--out", str(tmp_path), "--save-every", "0"])
    with pytest.raises(SystemExit) as ended:
        cli.run(job.main)
    assert ended.value.code == 2
    settings = [setting for options in methods.METHODS.values() for setting in options]
    place = [bool(setting.get("kl")) for setting in settings].index(True)
    said = f"in that of `layer_1/kernel` at step 25 of run {2 * place} (and in"
    assert said in capsys.readouterr().err
    assert (folder / "metrics.json").read_text() == "earlier"
    assert saved(tmp_path) == 20
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"metrics.json"}
