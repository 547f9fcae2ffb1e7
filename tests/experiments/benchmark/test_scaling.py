"""Fits of cost by size to known times, and the suite in its quick form; no time is asserted."""

import json

import jax
import numpy as np
import pytest

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import scaling

SIZES = 2.0 ** np.arange(12)


def result(times: np.ndarray) -> dict:
    forms = {f"{int(n):,}": {"median_ms": 1e3 * t} for n, t in zip(SIZES, times, strict=True)}
    return {"title": scaling.COMPILE, "rows": [{"name": "none", "forms": forms}]}


def test_a_fixed_cost_and_a_cost_per_unit_are_found():
    fit = scaling.fitted(SIZES, 3 + 0.5 * SIZES)
    assert fit.fixed == pytest.approx(3)
    assert fit.unit == pytest.approx(0.5)
    assert (fit.low, fit.high) == pytest.approx((1, 1))
    assert fit.exponent < 1
    assert scaling.table(result(1e-6 * (3 + 0.5 * SIZES))).body == [
        ["none", "3 µs", "500 ns", f"{fit.exponent:.3f}±{fit.error:.3f}", "1.00 to 1.00", "yes"]
    ]


def test_a_square_is_not_linear():
    fit = scaling.fitted(SIZES, 2 * SIZES**2)
    assert fit.exponent == pytest.approx(2)
    assert fit.error == pytest.approx(0, abs=1e-6)
    assert scaling.table(result(2e-6 * SIZES**2)).body[0][-1] == "no"


@pytest.mark.parametrize("jump", [0.1, 10])
def test_a_jump_of_the_cost_per_unit_is_not_linear(jump):
    """Both ends are linear, as within and beyond a cache."""
    times = SIZES * np.where(SIZES < 100, 1, jump)
    assert scaling.table(result(1e-6 * times)).body[0][-1] == "no"


@pytest.mark.slow
def test_quick(tmp_path, monkeypatch, compiled_in_haste):
    """A group that is timed in rounds, and the compile times."""
    few = ("mc.estimate_dataset", "none")
    groups = {title: group for title, group in scaling.GROUPS.items() if group.floor in few}
    monkeypatch.setattr(scaling, "GROUPS", groups)
    benchmark.main(suite="scaling", out=tmp_path, quick=True)
    folder = tmp_path / "benchmark-quick"
    results = json.loads((folder / "scaling.json").read_text())["results"]
    assert [one["title"] for one in results] == list(groups)
    for one in results:
        group = groups[one["title"]]
        assert one["rows"][0]["name"] == group.floor
        for row in one["rows"]:
            sizes, seconds = scaling.curve(row)
            assert tuple(sizes) == group.quick
            assert (seconds > 0).all()
    assert "| exponent |" in (folder / "scaling.md").read_text()
    assert (folder / "scaling.png").stat().st_size > 10_000


@pytest.mark.slow
def test_scores_in_jit_are_those_of_concrete_arrays(compiled_in_haste):
    n, widths = 200, scaling.QUICK_WIDTHS
    concrete, traced = scaling._scores(widths, n), scaling._traced_scores(widths, n)
    for name in ("isotonic_regression", "auroc", "aupr", "aurc"):
        found = [jax.tree.map(np.asarray, programs[name].call()) for programs in (concrete, traced)]
        np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6, err_msg=name)
