"""The process of a part: contests with contenders that fail, commands that are stopped, and one real part."""

import json
import time
import types

import jax.numpy as jnp
import pytest

from experiments import report, timing
from experiments.benchmark import attention, gpu_day, gpu_parts, models, ops, peers


@pytest.fixture
def on_gpu(monkeypatch):
    """The contests of a GPU, which are not built."""
    monkeypatch.setattr(report, "device", lambda: types.SimpleNamespace(platform="gpu"))
    return peers.Setting({}, None, quick=False)


def test_the_contests_are_there(on_gpu):
    chosen = gpu_parts.chosen(ops.ops(on_gpu), gpu_parts.OPS, quick=False)
    titles = [contest.title for contest in chosen]
    assert len(titles) == len(gpu_parts.OPS)
    assert all(title.endswith(word) for title, word in zip(titles, gpu_parts.OPS, strict=True))
    # The memory by length, the last, is not computed.
    assert (
        len(gpu_parts.chosen(attention.attention(on_gpu, fused=True), gpu_parts.ATTENTION, quick=False)) == 4
    )
    assert len(list(gpu_parts.CONTESTS["step"](on_gpu))) == 3
    assert len(list(gpu_parts.CONTESTS["samples"](on_gpu))) == 5
    assert next(models.samples(on_gpu)) not in gpu_parts.chosen(models.samples(on_gpu), ("nothing",), False)


def programs() -> timing.Programs:
    x = jnp.ones(3)

    def fails(x):
        raise ValueError("not on this device\nat all")

    found = {name: timing.compiled(lambda x: x * 2, x) for name in ("copy", "good")}
    found["no compilation"] = timing.compiled(fails, x)
    found |= {name: p for (name, _), p in timing.attempted("no torch", lambda: fails(x)).items()}
    found["no memory"] = timing.Program(lambda: bytearray(2**62))
    return {(name, "fwd"): program for name, program in found.items()}


def test_who_fails_is_left_out_by_name():
    result = gpu_parts.measured(timing.Contest("a", "copy", programs), 2, rounds=2, seconds=0.0)
    assert [row["name"] for row in result["rows"]] == ["copy", "good"]
    assert result["left_out"]["no compilation"] == "fwd: ValueError: not on this device"
    assert result["left_out"]["no torch"].endswith("ValueError: not on this device")
    assert result["left_out"]["no memory"].startswith("fwd: MemoryError")
    assert all(row["forms"]["fwd"]["compile_s"] > 0 for row in result["rows"])

    without = gpu_parts.measured(timing.Contest("a", "no memory", programs), 2, rounds=2, seconds=0.0)
    assert without["error"].startswith("no memory failed: fwd: MemoryError")
    broken = gpu_parts.measured(timing.Contest("a", "copy", lambda: {}[0]), None, rounds=2, seconds=0.0)
    assert broken == {"title": "a", "error": "KeyError: 0"}


def job(folder, part: str) -> gpu_day.Job:
    return gpu_day.Job(part, str(folder), 60.0, None, True, False, {"device": "none"})


def test_commands(tmp_path):
    where, later = job(tmp_path, "protein"), time.monotonic() + 60
    good = gpu_parts.command(where, ["-S", "-c", "print('words')"], later, "good")
    assert (good["exit_code"], good["log"]) == (0, ["words"])
    bad = gpu_parts.command(where, ["-S", "-c", "raise SystemExit(2)"], later, "a title")
    assert (bad["exit_code"], bad["title"]) == (2, "a title")
    stopped = gpu_parts.command(
        where, ["-S", "-c", "import time; time.sleep(60)"], time.monotonic() + 0.2, "slow"
    )
    assert stopped["exit_code"] is None
    assert stopped["seconds"] < 30


def test_tests_are_counted_though_they_were_stopped():
    text = """
tests/a.py::test_one
[gw0] [ 14%] PASSED tests/a.py::test_one[some words]
[gw1] [ 28%] FAILED tests/a.py::test_two
[gw0] [100%] SKIPPED tests/a.py::test_three
ERROR tests/b.py - ImportError: no
FAILED tests/a.py::test_two - AssertionError
"""
    found = gpu_parts.tests(text)
    assert found["counts"] == {"passed": 1, "failed": 1, "skipped": 1, "error": 1}
    assert found["failures"] == ["FAILED tests/a.py::test_two", "ERROR tests/b.py"]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_a_part_is_written_and_resumed(tmp_path, capsys, monkeypatch):
    gpu_parts.main(job(tmp_path, "gathers"))
    path = tmp_path / "gathers.json"
    record = json.loads(path.read_text())
    (result,) = record["results"]
    assert {row["name"] for row in result["rows"]} >= {"copy", "jaxdrop", "x[permutation]"}
    assert set(result["rows"][0]["forms"]) == {"fwd", "fwd+bwd"}
    assert result["left_out"] == {}
    assert record["environment"]["jax"]
    assert "mixup" in gpu_day.result_tables(record)[0].markdown() + result["title"]
    assert "written" in capsys.readouterr().out

    monkeypatch.setattr(gpu_parts, "measured", lambda *arguments: pytest.fail("It was there."))
    gpu_parts.main(job(tmp_path, "gathers"))
    assert json.loads(path.read_text()) == record
