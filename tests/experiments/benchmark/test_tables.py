"""Figures and table of one contest."""

import pytest

from experiments import timing
from experiments.benchmark import tables


def test_the_figures_of_a_contest(monkeypatch):
    """Times of 2 and 1 ms, and the memory of attention."""
    programs = {
        (name, "fwd"): timing.Program(lambda: None, temporary_bytes=5_000_000) for name in ("none", "flax")
    }
    times = {("none", "fwd"): [1.0, 1.0], ("flax", "fwd"): [2.0, 2.0]}
    monkeypatch.setattr(timing, "interleave", lambda *args, **options: times)
    result = tables.measure(timing.Contest("attention of all", "none", lambda: programs, rounds=1), 2, 0.0)
    assert result["rounds"] == 1
    cell = result["rows"][1]["forms"]["fwd"]
    assert cell["times_floor"] == pytest.approx(2)
    assert result["rows"][0]["forms"]["fwd"]["speed_of_flax"] == pytest.approx(2)
    table = tables.table(result)
    assert table.header == ["", "fwd ms", "±%", "/none", "x Flax", "MB"]
    assert table.body[1] == ["flax", "2", "0", "2.00", "1.00", "5"]
    assert tables.three_digits(1234.5) == "1234"
    assert tables.three_digits(0.12345) == "0.123"


def test_a_sweep_compiles_and_runs():
    row = {"forms": {"steps": {"compile_s": 1.5, "median_ms": 500.0}}}
    assert tables.total_seconds(row) == 2
