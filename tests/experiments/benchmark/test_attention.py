"""The suite of attention in its quick form: every figure is there; no time is asserted."""

import json

import pytest

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import attention, peers


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_quick(tmp_path, capsys):
    benchmark.main(suite="attention", out=tmp_path, quick=True)
    folder = tmp_path / "benchmark-quick"
    *contests, kept = json.loads((folder / "attention.json").read_text())["results"]
    for result in contests:
        assert result["floor"] == attention.DENSE
        assert {peers.OURS, peers.FLAX, peers.NONE, attention.DENSE} == {
            row["name"] for row in result["rows"]
        }
        assert set(result["rows"][0]["forms"]) == {"fwd", "fwd+bwd"}
    assert set(kept["memory"]) == set(attention.STYLES) - {attention.KERNEL}
    assert "T = 64" in capsys.readouterr().out
    assert (folder / "attention.png").stat().st_size > 10_000
