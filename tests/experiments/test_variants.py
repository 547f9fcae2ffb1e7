"""Every part in its quick form, and what the command refuses."""

import json

import numpy as np
import pytest

from experiments.variants import __main__ as job
from experiments.variants import images, selu, text, transformer

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

METHODS = {
    "selu": [f"{name}, {by}" for by in ("SGD", "Adam") for name in ("ReLU + dropout", "ReLU + dropout, He")],
    "images": list(images.METHODS),
    "text": list(text.METHODS),
    "transformer": transformer.METHODS,
}


@pytest.mark.slow
@pytest.mark.parametrize("part", job.PARTS)
def test_quick_writes_every_result(part, tmp_path):
    job.main(part=part, out=tmp_path, quick=True)
    folder = tmp_path / "variants" / f"{part}-quick"
    names = {"metrics.json", "run.json", "table.md", "comparison.png", "learning_curves.png"}
    assert {path.name for path in folder.iterdir()} == names
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = {row["method"]: row for row in metrics["methods"]}
    assert set(METHODS[part]) <= set(rows)
    assert len((folder / "table.md").read_text().splitlines()) == 2 + len(rows)
    for row in rows.values():
        assert len(row["test_by_seed"]) == 2
        difference = np.subtract(row["test_by_seed"], rows[row["baseline"]]["test_by_seed"])
        np.testing.assert_allclose(row["difference"], difference.mean(), atol=1e-12)
        np.testing.assert_allclose(row["difference_error"], difference.std(ddof=1) / 2**0.5, atol=1e-12)
        assert row["valid"] == pytest.approx(min(tried["valid"] for tried in row["tried"]))
        assert row["setting"] in [tried["setting"] for tried in row["tried"]]
        assert row["best_valid"] <= row["valid"] + 1e-6
        assert (row["verdict"] == "-") == (row["method"] == row["baseline"])
    assert metrics["published"] == {}
    assert ("memory" in metrics) == (part == "transformer")


def test_the_published_figures_have_their_methods():
    made = job.make("selu", None, 0, 2, quick=True)
    assert set(selu.PUBLISHED) <= {method.name for program in made.programs for method in program.methods}


@pytest.mark.parametrize("part", job.PARTS)
def test_a_baseline_stands_before_what_is_compared_with_it(part):
    seen = set()
    programs = job.make(part, None, 0, 2, quick=True).programs
    for method in (method for program in programs for method in program.methods):
        assert method.baseline in seen | {method.name}
        seen.add(method.name)
