"""Tables, and files that are whole or not there."""

import datetime
import importlib.metadata
import json
import os
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments import report
from experiments.means import Mean


def test_a_table_fits_eighty_columns(monkeypatch, capsys):
    console = report.cli.rich.console.Console(width=80)
    monkeypatch.setattr(report.cli, "console", console)
    row = ["Gaussian dropout", "rate\u00a00.1, L2\u00a00.001", *["12.34±0.56"] * 3, "12.3±0.5", "-12.34±0.56"]
    header = ["method", "chosen", "test", "train", "gap", "zero", "vs none", "verdict"]
    report.Table("title", header, [[*row, "unclear"]], "caption").print()
    text = capsys.readouterr().out
    assert text.count("12.34±0.56") == 4
    assert all(word in text for word in ("Gaussian", "unclear", "verdict", "caption"))
    assert max(map(len, text.splitlines())) <= 80


def test_headings_of_numbers_are_in_lines(monkeypatch, capsys):
    monkeypatch.setattr(report.cli, "console", report.cli.rich.console.Console(width=80))
    header = ["", *(f"{name}, weight scaling" for name in ("ReLU", "tanh", "SELU", "GELU"))]
    report.Table("title", header, [["deviation", *["12.34±0.56"] * 4]]).print()
    text = capsys.readouterr().out
    assert text.count("12.34±0.56") == 4
    assert text.count("scaling") == 4


def test_markdown_table():
    table = report.Table("title", ["a", "b"], [["x", "1"]])
    text = "| a | b |\n| --- | ---: |\n| x | 1 |\n"
    assert report.markdown([table]) == text
    assert report.markdown([table, table]) == f"title:\n\n{text}\ntitle:\n\n{text}"


def test_a_mean_is_written_with_its_error(tmp_path):
    report.write_json(tmp_path / "a.json", {"rows": [{"x": Mean(1.0, 0.5)}], "pair": (1, 2)})
    content = json.loads((tmp_path / "a.json").read_text())
    assert content == {"rows": [{"x": 1.0, "x_error": 0.5}], "pair": [1, 2]}


def test_publish_writes_the_metrics_last(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(report, "write_bytes", lambda path, _: written.append(path.name))
    table = report.Table("title", ["a", "b"], [["x", "1"]])
    report.publish(tmp_path, [table], {"a": plt.figure()}, {}, started=0.0, about={"missing": []})
    assert written == ["a.png", "table.md", "run.json", "metrics.json"]


def test_files_are_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "new" / "metrics.json"
    report.write_json(path, {"a": jnp.arange(2), "b": np.float32(1.5)})
    assert json.loads(path.read_text()) == {"a": [0, 1], "b": 1.5}
    report.write_json(tmp_path / "b.json", {"a": float("nan"), "b": np.array([1.0, np.inf])})
    assert (tmp_path / "b.json").read_text().count("null") == 2
    with pytest.raises(ValueError, match="Circular"):
        report.write_json(path, object())
    assert json.loads(path.read_text())["b"] == 1.5

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        report.write_text(path, "other")
    assert json.loads(path.read_text())["b"] == 1.5
    assert [p.name for p in path.parent.iterdir()] == ["metrics.json"]


def test_figures(tmp_path):
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    report.write_figure(tmp_path / "a.png", figure)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_environment_tells_how_to_run_it_again():
    found = report.environment()
    assert datetime.datetime.fromisoformat(found["date"]).tzinfo is not None
    assert found["command"].startswith("python -")
    assert shlex.split(found["command"])[1:] == sys.orig_argv[1:]
    assert found["jaxdrop"] == importlib.metadata.version("jaxdrop")
    assert {"jax", "flax", "python"} <= set(found)
    assert (found["devices"], found["hosts"]) == (jax.device_count(), 1)
    assert found["memory_gib"] > 0
    assert f"{os.cpu_count()} cores" in found["machine"]


def test_the_commit_is_that_of_the_own_checkout(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=b")
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    monkeypatch.setattr(report, "_ROOT", tmp_path)
    nothing = {"commit": None, "changed": None}
    assert report.commit() == nothing
    git("init")
    assert report.commit() == nothing  # without a commit
    (tmp_path / "a").write_text("1")
    git("add", ".")
    git("commit", "-m", "a")
    found = report.commit()
    assert len(found["commit"]) == 40
    assert found["changed"] is False
    (tmp_path / "a").write_text("2")
    assert report.commit() == found | {"changed": True}
    assert report.environment()["commit"] != found["commit"]  # that of the start
    (tmp_path / "inner").mkdir()
    monkeypatch.setattr(report, "_ROOT", tmp_path / "inner")
    assert report.commit() == nothing
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))  # as in a hook
    assert report.commit() == nothing
    monkeypatch.setattr(report, "_ROOT", tmp_path)
    monkeypatch.setenv("PATH", "")
    assert report.commit() == nothing


def test_results_in_a_bucket_are_whole_objects(bucket):
    report.write_json(bucket / "new" / "a.json", {"a": 1})
    report.write_json(bucket / "new" / "a.json", {"a": 2})
    assert json.loads((bucket / "new" / "a.json").read_text()) == {"a": 2}
    assert [path.name for path in (bucket / "new").iterdir()] == ["a.json"]


def test_the_environment_names_the_device_in_use_and_what_is_installed():
    environment = report.environment(("pytest", "no-such-package"))
    assert environment["device"] == jax.devices()[0].device_kind
    assert "pytest" in environment
    assert "no-such-package" not in environment
