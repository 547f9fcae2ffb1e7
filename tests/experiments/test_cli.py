"""How bad input looks at the command line."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest

from experiments import cli, report

ROOT = Path(__file__).parents[2]


def test_checks():
    assert cli.check_count("seeds", 1) == 1
    with pytest.raises(ValueError, match=r"`seeds` must be at least 1, got 0\."):
        cli.check_count("seeds", 0)
    with pytest.raises(ValueError, match=r"`dataset` must be one of a, b, got c\."):
        cli.check_choice("dataset", "c", ("a", "b"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--devices", "3", "--seeds", "2", "--quick"],
            "`devices` must divide the number of runs, 50, got 3.",
        ),
        (["--dataset", "[b]x"], "`dataset` must be one of digits, mnist, fashion-mnist, got [b]x."),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(arguments, message, tmp_path):
    command = [sys.executable, "-m", "experiments.regularizers", "--out", str(tmp_path / "out"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == f"Error: {message}"
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


SEEDED = [({"seeds": 0}, "`seeds` must be at least 1, got 0.")]
SEEDED += [({"seed": -1}, "`seed` must be at least 0, got -1.")]
SCALED = [
    ({"scale": value}, f"`scale` must lie in (0, 1], got {value:g}") for value in (0.0, 2.0, float("nan"))
]
FROM = [({"dataset": "digits"}, "`dataset` must be one of mnist, fashion-mnist, got digits.")]
# Of every experiment that trains: options that it refuses; and options with which it wants data.
REFUSED: dict[str, list[tuple[dict[str, Any], str]]] = {
    "active": SEEDED + FROM,
    "classic": [*SEEDED, ({"epochs": 1}, "`epochs` must be at least 2, got 1.")],
    "co2": [*SEEDED, ({"steps": 15}, "`steps` must be a multiple of 10, got 15.")],
    "ood": SEEDED + FROM,
    "rates": [
        *SEEDED,
        *SCALED,
        ({"part": "noise"}, "`part` must be one of rate, size, average, all, got noise."),
    ],
    "regularizers": [
        *SEEDED,
        ({"steps": 30}, "`steps` must be a positive multiple of 20, got 30."),
        ({"train_size": 900, "valid_size": 300}, "must add up to at most 1000, got 900 and 300."),
        ({"dataset": "cifar"}, "`dataset` must be one of"),
        ({"width": 0}, "`width` must be at least 1, got 0."),
    ],
    "srivastava": [
        *SEEDED,
        *SCALED,
        ({"save_every": -1.0}, "`save_every` must be at least 0, got -1."),
        ({"save_every": float("nan")}, "`save_every` must be at least 0, got nan."),
    ],
    "uci": [
        *SEEDED[1:],
        ({"epochs": 0}, "`epochs` must be at least 1, got 0."),
        *(
            ({"dataset": name}, f"not a path, got {name!r}.")
            for name in ("../x", "/tmp/x", "..", ".", "", "a/b")
        ),
    ],
    "variants": [
        *SEEDED,
        ({"part": "sound"}, "`part` must be one of selu, images, text, transformer, all, got sound."),
    ],
}
WANTING = [(name, {}) for name in ("active", "classic", "co2", "ood", "rates", "srivastava")]
WANTING += [("regularizers", {"dataset": "mnist"}), ("uci", {"dataset": "energy"})]
WANTING += [("variants", {"part": part}) for part in ("selu", "images", "text", "transformer")]


def command(name: str) -> Callable:
    return importlib.import_module(f"experiments.{name}.__main__").main


@pytest.mark.parametrize("name", REFUSED)
def test_bad_options_leave_nothing(name: str, tmp_path):
    for options, message in REFUSED[name]:
        with pytest.raises(cli.BadInputError, match=re.escape(message)):
            command(name)(out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "options"), WANTING)
def test_missing_data_leaves_nothing(name: str, options: dict, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"looked for {tmp_path}")):
        command(name)(data_dir=tmp_path, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_devices_are_set_before_jax_starts():
    jax.devices()
    assert cli.start_devices(1) == 1
    assert cli.start_devices(None) is None
    with pytest.raises(cli.BadInputError, match="`devices` must be set before JAX starts its devices, got:"):
        cli.start_devices(2)
    with pytest.raises(cli.BadInputError, match="`devices` must be at least 1, got 0"):
        cli.start_devices(0)


def test_hosts_are_joined_by_the_environment(monkeypatch):
    joined = []
    monkeypatch.setattr(cli.jax.distributed, "initialize", lambda **options: joined.append(options))
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.1:1234")
    cli.start_devices(None)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    cli.start_devices(None)
    assert joined == [{"num_processes": None, "process_id": None}, {"num_processes": 2, "process_id": 1}]


@pytest.mark.parametrize("name", ["run[/1]", "[b]x", ":x:"])
def test_a_path_is_printed_as_it_is(name: str, capsys):
    bar, _ = cli.progress(name, 2)
    with bar:
        report.Table(name, [name], [[name]], name).print()
        cli.console.print(f"Written to {name}/")
    shown = capsys.readouterr().out
    assert shown.count(name) == 6


def test_a_name_without_characters_ends_no_run(tmp_path):
    code = "from experiments import cli; cli.run(lambda: cli.console.print('run-\\udcff'))"
    env = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "run-\\udcff\n")


def test_help_explains_every_option():
    command = [sys.executable, "-m", "experiments.regularizers", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for option in ("--dataset", "--data-dir", "--out", "--seed", "--seeds", "--steps", "--quick"):
        assert option in text
    assert "chooses strengths and rates on validation parts" in " ".join(text.split())
