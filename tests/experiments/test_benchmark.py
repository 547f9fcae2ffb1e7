"""The benchmark in its quick form: every figure is there; no time is asserted."""

import json
import sys

import jax
import numpy as np
import pytest

from experiments import cli, timing
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import peers, scores, scores_suite, tables

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["step", "mc", "compile"])
def test_quick(tmp_path, capsys, suite):
    benchmark.main(suite=suite, out=tmp_path, quick=True)
    folder = tmp_path / "benchmark-quick"
    metrics = json.loads((folder / f"{suite}.json").read_text())
    assert metrics["results"]
    for result in metrics["results"]:
        names = [row["name"] for row in result["rows"]]
        of_host = result["floor"] == "jitted vmap"
        assert {result["floor"], *(["mc.estimate"] if of_host else [peers.OURS, peers.FLAX])} <= set(names)
        for row in result["rows"]:
            for cell in row["forms"].values():
                assert cell["median_ms"] > 0
                low, high = cell["quartiles_ms"]
                assert low <= cell["median_ms"] <= high
        floor = next(row for row in result["rows"] if row["name"] == result["floor"])
        assert all(cell["times_floor"] == 1 for cell in floor["forms"].values())
        assert f"{result['title']}:" in (folder / f"{suite}.md").read_text()
    assert "x Flax" in capsys.readouterr().out
    assert (folder / f"{suite}.png").stat().st_size > 10_000
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{suite}.{kind}" for kind in ("json", "md", "png")
    ]


@pytest.mark.slow
def test_quick_operations(tmp_path):
    benchmark.main(suite="ops", out=tmp_path, quick=True)
    results = json.loads((tmp_path / "benchmark-quick" / "ops.json").read_text())["results"]
    for result in results:
        backward = set() if "in place" in result["title"] else {"fwd+bwd"}
        assert set(result["rows"][0]["forms"]) == {"fwd"} | backward
    kept = {row["name"]: row.get("kept_bytes") for row in results[0]["rows"]}
    assert kept["jaxdrop"] <= 20
    assert kept["flax"] >= 8 * 64


@pytest.mark.slow
def test_quick_family(tmp_path, capsys, monkeypatch):
    built = []
    interleave = timing.interleave

    def kept(programs: timing.Programs, *args, **options) -> dict:
        built.append(programs)
        return interleave(programs, *args, **options)

    monkeypatch.setattr(timing, "interleave", kept)
    benchmark.main(suite="family", out=tmp_path, quick=True)
    folder = tmp_path / "benchmark-quick"
    results = json.loads((folder / "family.json").read_text())["results"]
    assert {"drop_block", "zoneout", "drop_path", "spatial_dropout"} <= {
        row["name"] for result in results for row in result["rows"]
    }
    assert all(result["floor"] == "dropout" for result in results)
    assert "x Flax" not in capsys.readouterr().out
    assert (folder / "family.png").stat().st_size > 10_000
    assert len(built) == len(results)
    for result, programs in zip(results, built, strict=True):
        assert {result["floor"], "copy"} <= {name for name, _ in programs}
        for (name, form), program in programs.items():
            for leaf in jax.tree.leaves(program.call()):
                assert np.isfinite(np.asarray(leaf)).all() or name == "drop_key", (name, form)


@pytest.mark.slow
def test_quick_sweep(tmp_path, capsys):
    benchmark.main(suite="sweep", out=tmp_path, quick=True)
    folder = tmp_path / "benchmark-quick"
    (result,) = json.loads((folder / "sweep.json").read_text())["results"]
    assert result["rows"][0]["name"] == result["floor"] == "sweep, one program"
    for row in result["rows"]:
        cell = row["forms"]["steps"]
        assert tables.total_seconds(row) == cell["compile_s"] + cell["median_ms"] / 1e3 > 0
    assert "total s" in capsys.readouterr().out
    assert (folder / "sweep.png").stat().st_size > 10_000


@pytest.mark.slow
def test_quick_scores(tmp_path, monkeypatch):
    """Some groups, and one peer that is not installed."""
    names = ("scores of regression", "out-of-distribution scores")
    few = {name: dict(list(scores.GROUPS[name].items())[:2]) for name in names}
    monkeypatch.setattr(scores, "GROUPS", few)
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    benchmark.main(suite="scores", out=tmp_path, quick=True)
    folder = tmp_path / "benchmark-quick"
    results = json.loads((folder / "scores.json").read_text())["results"]
    assert [result["title"] for result in results] == list(names)
    regression, detection = ([row["name"] for row in result["rows"]] for result in results)
    assert set(regression) == {scores_suite.SORT, "gaussian_nll", "crps"}
    assert {"max_probability, SciPy", "max_logit, NumPy"} <= set(detection)
    text = (folder / "scores.md").read_text()
    assert "| max_logit |" in text
    assert "growth" in text
    assert (folder / "scores.png").stat().st_size > 10_000


def test_a_missing_device_leaves_nothing(tmp_path):
    if jax.default_backend() == "cpu":
        with pytest.raises(cli.BadInputError, match="`device` must be available to JAX, got gpu"):
            benchmark.main(out=tmp_path, device="gpu")
    assert not list(tmp_path.iterdir())
