"""Every part in its quick form, and what the command refuses."""

import json
import re

import numpy as np
import pytest

from experiments.rates import __main__ as job
from experiments.rates import average, rate, size

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

ROWS = {
    "rate": ("rates", len(rate.QUICK_RATES), len(rate.QUICK_RATES)),
    "size": ("sizes", len(size.QUICK_SIZES), len(size.QUICK_SIZES)),
    # Those shown: 1, 2, 5, 10, the last, and weight scaling.
    "average": ("samples", average.QUICK_COUNTS[0], 6),
}


@pytest.mark.parametrize("part", job.PARTS)
def test_quick_writes_every_result(part, tmp_path):
    job.main(part=part, out=tmp_path, quick=True)
    folder = tmp_path / "rates" / f"{part}-quick"
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "run.json", "table.md", f"{part}.png"}
    metrics = json.loads((folder / "metrics.json").read_text())
    name, rows, shown = ROWS[part]
    assert len(metrics[name]) == rows
    assert 0 < metrics[name][0]["test" if part != "size" else "without"] < 0.9
    table, claims = (folder / "table.md").read_text().split("\n\n")
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "noise"}, "`part` must be one of rate, size, average, all, got noise."),
        ({"seeds": 0}, "`seeds` must be at least 1, got 0."),
        ({"seed": -1}, "`seed` must be at least 0, got -1."),
        ({"scale": 0.0}, "`scale` must lie in (0, 1], got 0.0."),
        ({"scale": 2.0}, "`scale` must lie in (0, 1], got 2.0."),
        ({"scale": float("nan")}, "`scale` must lie in (0, 1], got nan."),
    ],
)
def test_bad_options_leave_nothing(options, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        job.main(out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_missing_data_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="looked for"):
        job.main(data_dir=tmp_path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
