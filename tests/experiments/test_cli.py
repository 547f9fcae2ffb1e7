"""How bad input looks at the command line."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from etils import epath

from experiments import cli, report

ROOT = Path(__file__).parents[2]


def test_checks():
    assert cli.check_count("seeds", 1) == 1
    with pytest.raises(ValueError, match=r"`seeds` must be at least 1, got 0\."):
        cli.check_count("seeds", 0)


def test_paths_may_be_in_a_bucket(bucket, monkeypatch):
    assert cli.folder("a/b") == epath.Path("a/b")
    assert not cli.in_bucket(cli.folder("/a"))
    assert cli.in_bucket(cli.folder("s3://bucket/a") / "b")
    with pytest.raises(
        cli.BadInputError, match="must be local or start with one of gs://, s3://, az://, hf://"
    ):
        cli.folder("ftp://host/a")

    def missing(_: str) -> None:
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(cli.fsspec, "get_filesystem_class", missing)
    with pytest.raises(cli.BadInputError, match=r"gs:// needs its package: Please install gcsfs\."):
        cli.folder("gs://bucket/a")


@pytest.mark.slow
def test_an_error_is_one_line_and_leaves_nothing(tmp_path):
    arguments = ["--devices", "3", "--seeds", "2", "--quick", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "experiments.regularizers", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    message = "`devices` must divide the number of runs, 50, got 3."
    assert done.stderr.strip().splitlines()[-1] == f"Error: {message}"
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def command(name: str) -> Callable:
    return importlib.import_module(f"experiments.{name}.__main__").main


@pytest.fixture
def given(monkeypatch, capsys):
    """Runs an experiment with arguments; the exit code and what it printed to both streams."""

    def run(name: str | Callable, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["experiment", *arguments])
        code: Any = 0
        try:
            cli.run(command(name) if isinstance(name, str) else name)
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return run


# Of every experiment: arguments that it refuses; the option, what is expected and what came.
SEEDED = [("--seeds 0", "--seeds", "1", "0"), ("--seed=-1", "--seed", "0", "-1")]
SEEDED += [("--seed 4294967296", "--seed", "1000000000", "4294967296")]
SCALED = [(f"--scale {value}", "`scale`", "(0, 1]", value) for value in ("0", "2", "nan")]
FROM = [("--dataset digits", "--dataset", "'mnist', 'fashion-mnist'", "digits")]
REFUSED: dict[str, list[tuple[str, str, str, str]]] = {
    "active": SEEDED + FROM,
    "benchmark": [
        ("--suite all", "--suite", "'ops', 'step'", "all"),
        ("--device tpu", "--device", "'cpu', 'gpu'", "tpu"),
        ("--rounds 0", "--rounds", "1", "0"),
        ("--budget 9", "`budget`", "left out, except with --suite gpu-day", "9"),
        ("--suite gpu-day --device cpu", "`device`", "left out with gpu-day", "cpu"),
    ],
    "classic": [*SEEDED, ("--epochs 1", "--epochs", "2", "1")],
    "co2": [
        *SEEDED,
        ("--steps 30", "`steps`", "multiple of 20", "30"),
        ("--steps 5", "--steps", "20", "5"),
        ("--width 0", "--width", "1", "0"),
    ],
    "ood": SEEDED + FROM,
    "quality": [
        ("--order all", "--order", "'place', 'row'", "all"),
        ("--bytes 0", "--bytes", "1", "0"),
    ],
    "rates": [*SEEDED, *SCALED, ("--part noise", "--part", "'rate', 'size', 'average', 'all'", "noise")],
    "regularizers": [
        *SEEDED,
        ("--steps 30", "`steps`", "multiple of 20", "30"),
        ("--train-size 900", "`valid_size`", "at most 1000", "900 and 300"),
        ("--dataset [b]x", "--dataset", "'digits', 'mnist', 'fashion-mnist'", "[b]x"),
        ("--width none", "--width", "integer", "none"),
        ("--data x.npz --dataset mnist", "`dataset`", "left out with `data`", "mnist"),
        ("--out ftp://x", "--out", "local or start with one of gs://", "ftp://x"),
    ],
    "resnet": [SEEDED[1], ("--seeds 1", "--seeds", "2", "1")],
    "samples": SEEDED[1:],
    "srivastava": [
        *SEEDED,
        *SCALED,
        ("--save-every=-1", "`save_every`", "0", "-1"),
        ("--save-every nan", "`save_every`", "0", "nan"),
    ],
    "uci": [
        *SEEDED[1:],
        ("--epochs 0", "--epochs", "1", "0"),
        *((f"--dataset={name}", "`dataset`", "not a path", name) for name in ("../x", "/tmp/x", "..", "a/b")),
        ("--data x.npz --dataset x", "`dataset`", "left out with `data`", "x"),
    ],
    "variants": [*SEEDED, ("--part sound", "--part", "'transformer', 'all'", "sound")],
}
WANTING = [(name, {}) for name in ("active", "classic", "co2", "ood", "rates", "srivastava")]
WANTING += [("regularizers", {"dataset": "mnist"}), ("uci", {"dataset": "energy"})]
WANTING += [("variants", {"part": part}) for part in ("selu", "images", "text", "transformer")]


@pytest.mark.parametrize("name", REFUSED)
def test_bad_options_are_one_line_and_leave_nothing(name: str, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, option, expected, value in REFUSED[name]:
        code, _, text = given(name, *arguments.split())
        assert (code, text.count("\n")) == (2, 1)
        assert text.startswith("Error: ")
        assert option in text
        assert expected in text.partition(option)[2]
        assert value in text.partition(expected)[2] or value in text.partition(option)[2]
        assert text.endswith(".\n")
    assert not list(tmp_path.iterdir())


def test_choices_are_all_that_there_is():
    modules = {
        name: sys.modules[command(name).__module__] for name in ("benchmark", "quality", "rates", "variants")
    }
    assert typing.get_args(modules["benchmark"].Suite) == (*modules["benchmark"].SUITES, "gpu-day")
    assert typing.get_args(modules["quality"].Order) == tuple(modules["quality"].SHAPES)
    for name in ("rates", "variants"):
        assert typing.get_args(modules[name].Part) == (*modules[name].PARTS, "all")


def test_a_usage_that_names_no_value_is_one_line(given):
    for argument in ("--nope", "word", "--seeds"):
        code, _, text = given("active", argument)
        assert (code, text.count("\n")) == (2, 1)
        assert argument in text


@pytest.mark.parametrize(("name", "options"), WANTING)
def test_missing_data_leaves_nothing(name: str, options: dict, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"looked for {tmp_path}")) as error:
        command(name)(data_dir=tmp_path, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    # The help names the folder that was looked for.
    (option,) = typing.get_type_hints(command(name), include_extras=True)["data_dir"].__metadata__
    needed = str(error.value).partition("must hold ")[2].split()[0].rstrip(",")
    assert needed in option.help.replace("uci/NAME/", "energy/")
    assert "need none." in option.help or "needs none." in option.help


def test_a_shell_is_told_options_and_choices(given, monkeypatch):
    for words, expected in (
        ("python experiments.rates --part", ["--part"]),
        ("python experiments.rates --part ", ["rate", "size", "average", "all"]),
        ("python experiments.rates --se", ["--seed", "--seeds"]),
        ("python experiments.rates --part s", ["size"]),
    ):
        monkeypatch.setenv(cli.COMPLETE, "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        assert given("rates")[:2] == (0, "\n".join(expected) + "\n")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs Bash")
def test_bash_completes_python_m(tmp_path):
    script = f"""
        source {ROOT}/experiments/completion.bash
        complete -p python3 >/dev/null || exit 1
        try() {{
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            _experiments_complete {shlex.quote(sys.executable)}
            echo "${{COMPREPLY[*]}}"
        }}
        try python -m experiments.re
        try python file.py --pa
        try python -m experiments.quality --order ""
    """
    command = ["bash", "--norc", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["experiments.regularizers experiments.resnet", "", "place row key"]


def test_one_host_is_enough_where_runs_are_not_divided(given, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.1:1234")
    for name in REFUSED:
        if "devices" not in typing.get_type_hints(command(name)):
            code, _, text = given(name, "--seed", "1")
            assert (code, text.count("\n")) == (2, 1)
            assert "$JAX_COORDINATOR_ADDRESS must not be set" in text
            assert given(name, "--help")[0] == 0


def test_devices_are_set_before_jax_starts():
    jax.devices()
    assert cli.start_devices(1) == 1
    assert cli.start_devices(None) is None
    with pytest.raises(cli.BadInputError, match="`devices` must be set before JAX starts its devices, got:"):
        cli.start_devices(2)


def test_hosts_are_joined_by_the_environment(monkeypatch):
    joined = []
    monkeypatch.setattr(cli.jax.distributed, "initialize", lambda **options: joined.append(options))
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.1:1234")
    cli.start_devices(None)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    cli.start_devices(None)
    assert joined == [{"num_processes": None, "process_id": None}, {"num_processes": 2, "process_id": 1}]
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "")
    assert cli.start_devices(1) == 1
    assert len(joined) == 2


def test_hosts_that_cannot_join_are_one_line(monkeypatch):
    def fail(**_: int) -> None:
        raise IndexError("list index\nout of range")

    monkeypatch.setattr(cli.jax.distributed, "initialize", fail)
    for address, count in (("10.0.0.1", "2"), ("10.0.0.1:1", "two")):
        monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", address)
        monkeypatch.setenv("JAX_NUM_PROCESSES", count)
        with pytest.raises(
            cli.BadInputError, match=f"must join the hosts .*, got {address}, {count} and None: .*"
        ):
            cli.start_devices(None)


@pytest.mark.parametrize("name", ["run[/1]", "[b]x", ":x:"])
def test_a_path_is_printed_as_it_is(name: str, capsys):
    bar, _ = cli.progress(name, 2)
    with bar:
        report.Table(name, [name], [[name]], name).print()
        cli.console.print(f"Written to {name}/")
    shown = capsys.readouterr().out
    assert shown.count(name) == 6


@pytest.mark.slow
def test_a_name_without_characters_ends_no_run(tmp_path):
    code = "from experiments import cli; cli.run(lambda: cli.console.print('run-\\udcff'))"
    env = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "run-\\udcff\n")


def test_help_explains_every_option(given):
    code, text, _ = given("regularizers", "--help")
    assert code == 0
    for option in ("--dataset", "--data-dir", "--out", "--seed", "--seeds", "--steps", "--quick"):
        assert option in text
    assert "chooses strengths and rates on validation parts" in " ".join(text.split())
