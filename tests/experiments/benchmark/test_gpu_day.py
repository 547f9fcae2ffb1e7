"""The plan of a GPU day with parts that crash, hang and resume; nothing here needs a GPU."""

import json
import os
import signal
import sys
import time

import jax
import pytest
from etils import epath

from experiments import cli
from experiments.benchmark import gpu_day, gpu_parts
from experiments.benchmark.gpu_day import Part

SAME = {"device": "none", "versions": {"jax": "0"}}
# Writes a result, tells that it ran, and then does what the part is for.
SCRIPT = """
import json, os, signal, subprocess, sys, time
folder, name, same, then = sys.argv[1:]
with open(f"{folder}/{name}.ran", "a") as ran:
    ran.write("x")
result = {"title": f"python {name}", "seconds": 1.0, "exit_code": 0, "counts": {"passed": 2}}
record = {"part": name, "same": json.loads(same), "missing": ["torch"], "results": [result]}
if then != "silent":
    open(f"{folder}/{name}.json", "w").write(json.dumps(record))
print("last words")
sys.stdout.flush()
if then == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
if then == "hang":
    child = subprocess.Popen(["sleep", "60"])
    open(f"{folder}/child", "w").write(str(child.pid))
    time.sleep(60)
if then == "fault":
    record["results"].append({"title": "contest", "error": "ValueError: no"})
    open(f"{folder}/{name}.json", "w").write(json.dumps(record))
if then == "meet":
    other = {"left": "right", "right": "left"}[name]
    while not os.path.exists(f"{folder}/{other}.ran"):
        time.sleep(0.01)
sys.exit(3 if then == "silent" else 0)
"""


@pytest.fixture
def run(tmp_path):
    """Runs a plan of parts; each does what is said of its name."""

    def run(plan: tuple[Part, ...], then: dict[str, str], budget: float = 60, same: dict = SAME, **options):
        def command(part: Part, seconds: float) -> list[str]:
            told = [str(tmp_path), part.name, json.dumps(same), then.get(part.name, "end")]
            return [sys.executable, "-S", "-c", SCRIPT, *told]

        options = {"left_out": {}, "least": 0.0} | options
        gpu_day.day(plan, epath.Path(tmp_path), budget, same, command, **options)
        return {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}

    return run


def times_run(folder, name: str) -> int:
    return len((folder / f"{name}.ran").read_text())


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A process that has ended may wait for its parent to ask.
    with open(f"/proc/{process}/stat") as stat:
        return stat.read().split(") ")[1][0] != "Z"


def test_a_part_ends_alone_and_what_is_written_stays(run, tmp_path, capsys):
    names = ("good", "crash", "hang", "silent", "fault", "last")
    plan = tuple(Part(name, 2.0 if name == "hang" else 30.0) for name in names)
    start = time.monotonic()
    records = run(plan, {name: name for name in names}, left_out={"last": "no data"})
    assert time.monotonic() - start < 30
    assert {name: record["status"] for name, record in records.items()} == {
        "good": "done",
        "crash": "failed",
        "hang": "cut off",
        "silent": "failed",
        "fault": gpu_day.FAULTS,
    }
    assert records["crash"]["exit_code"] == -signal.SIGSEGV
    assert records["crash"]["log"] == ["last words"]
    assert [len(record["results"]) for record in records.values()].count(1) == 3
    assert records["silent"]["results"] == []
    assert not alive(int((tmp_path / "child").read_text()))
    assert not list(tmp_path.glob(".partial*"))

    lines = capsys.readouterr().out
    text = (tmp_path / "table.md").read_text()
    for name in ("good: done, ", "crash: failed, ", "hang: cut off, "):
        assert name in lines
        assert f"## {name}" in text
    assert " s used, " in lines
    assert "last: left out, no data." in lines
    assert "## last: no data" in text
    assert "| python good | 1 | passed | 2 passed |" in text
    assert "- Not installed and left out: torch." in text
    assert "- contest: ValueError: no" in text
    assert "- last words" in text


def test_a_day_resumes(run, tmp_path, capsys):
    plan, then = (Part("good", 9), Part("crash", 9), Part("fault", 9)), {"crash": "crash", "fault": "fault"}
    run(plan, then)
    records = run(plan, {})
    assert {name: times_run(tmp_path, name) for name in records} == {"good": 1, "crash": 2, "fault": 1}
    assert records["crash"]["status"] == "done"
    assert "good: done before" in capsys.readouterr().out
    # Of another device nothing is kept.
    records = run(plan[:1], {}, same={"device": "another"})
    assert records["good"]["same"] == {"device": "another"}
    assert times_run(tmp_path, "good") == 2


def test_the_budget_is_for_all(run, tmp_path, capsys):
    plan = (Part("hang", 60), Part("late", 60))
    records = run(plan, {"hang": "hang"}, budget=1.5, least=0.5)
    assert list(records) == ["hang"]
    assert records["hang"]["status"] == "cut off"
    assert 1 < records["hang"]["seconds"] < 20
    assert "late: not started, 0 s left." in capsys.readouterr().out
    assert "## late: not run" in (tmp_path / "table.md").read_text()


def test_parts_that_are_not_timed_run_side_by_side(run):
    plan = (Part("left", 30, alone=False), Part("right", 30, alone=False), Part("after", 30))
    records = run(plan, {"left": "meet", "right": "meet"})
    assert [record["status"] for record in records.values()] == ["done"] * 3
    waves = [[part.name for part in wave] for wave in gpu_day._waves(plan)]
    assert waves == [["left", "right"], ["after"]]


def test_what_is_lacking_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXDROP_DATA", raising=False)
    found = gpu_day.lacking(None, quick=False)
    assert found == {"protein": "no --data-dir"}
    monkeypatch.setattr(gpu_day.importlib.util, "find_spec", lambda name: None)
    assert gpu_day.lacking(None, quick=True) == dict.fromkeys(
        ("kernel", "tests"), "pytest and xdist not installed"
    )
    with pytest.raises(FileNotFoundError, match=gpu_day.PROTEIN):
        gpu_day.lacking(epath.Path(tmp_path), quick=False)
    monkeypatch.setenv("JAXDROP_DATA", str(tmp_path))
    assert gpu_day.PROTEIN in gpu_day.lacking(None, quick=False)["protein"]


def test_a_day_needs_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if jax.default_backend() == "cpu":
        with pytest.raises(
            cli.BadInputError, match="must be a GPU with --suite gpu-day, except with --quick, got cpu"
        ):
            gpu_day.run(epath.Path(tmp_path), None, None, quick=False)
    assert not list(tmp_path.iterdir())


def test_the_plan():
    names = [part.name for part in gpu_day.PLAN]
    assert set(names) == set(gpu_parts.CONTESTS) | {"kernel", "protein", "tests", "experiments"}
    assert {part.name for part in gpu_day.PLAN if part.alone} == set(gpu_parts.CONTESTS)
    assert sum(part.seconds for part in gpu_day.PLAN[:6]) < gpu_day.BUDGET
    identity = gpu_day.identity(quick=True)
    assert identity == json.loads(json.dumps(identity)) == gpu_day.identity(quick=True)
    assert identity != gpu_day.identity(quick=False)
