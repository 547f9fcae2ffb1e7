"""Every part in its quick form, and what the command refuses."""

import json

import numpy as np
import pytest

from experiments.rates import __main__ as job
from experiments.rates import average, rate, size

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_in_haste")]

ROWS = {
    "rate": ("rates", len(rate.QUICK_RATES), len(rate.QUICK_RATES)),
    "size": ("sizes", len(size.QUICK_SIZES), len(size.QUICK_SIZES)),
    # Those shown: 1, 2, 5, 10, the last, and weight scaling.
    "average": ("samples", average.QUICK_COUNTS[0], 6),
}


@pytest.mark.parametrize("part", job.PARTS)
def test_quick_writes_every_result(part, tmp_path):
    job.main(part=part, out=tmp_path, devices=2, quick=True)
    folder = tmp_path / "rates" / f"{part}-quick"
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "run.json", "table.md", f"{part}.png"}
    metrics = json.loads((folder / "metrics.json").read_text())
    name, rows, shown = ROWS[part]
    assert len(metrics[name]) == rows
    assert 0 < metrics[name][0]["test" if part != "size" else "without"] < 0.9
    _, table, _, claims = (folder / "table.md").read_text().split("\n\n")
    assert len(table.splitlines()) == 2 + shown
    assert len(claims.splitlines()) == 2 + len(metrics["claims"])
    assert np.shape(metrics["curves"])[2] == metrics["seeds"] == job.FEW
    assert set(json.loads((folder / "run.json").read_text())) == {"seconds", "environment"}


def test_a_second_run_gives_the_same_bytes(tmp_path):
    written = []
    for name in ("a", "b"):
        job.main(part="rate", out=tmp_path / name, seeds=1, quick=True)
        written.append((tmp_path / name / "rates" / "rate-quick" / "metrics.json").read_bytes())
    assert written[0] == written[1]
    # One seed has no standard error.
    assert json.loads(written[0])["rates"][0]["test_error"] is None
