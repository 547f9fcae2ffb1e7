"""The figures of the functions are those of their times."""

import pytest

from experiments.benchmark import scores, scores_suite


def test_figures():
    """Ten times as many rows take 20 times as long: a growth of 1.3."""

    def row(name: str, *times: float) -> dict:
        forms = zip(("1,000", "100,000", "1,000,000"), times, strict=False)
        return {"name": name, "forms": {form: {"median_ms": time} for form, time in forms}}

    rows = [row(scores_suite.SORT, 1, 1, 1), row("max_logit", 1, 10, 200), row("max_logit, NumPy", 1, 20, 50)]
    rows += [row(name, 1.0, 1.0, 1.0) for name in scores.GROUPS["out-of-distribution scores"]]
    rows[3:] = [one for one in rows[3:] if one["name"] not in ("max_logit", "knn_distance")]
    rows.append(row("knn_distance", 1, 10))
    result = {"title": "out-of-distribution scores", "rows": rows}
    found = {one["name"]: one for one in scores_suite.figures(result)}
    assert found["max_logit"]["growth"] == pytest.approx(1.301, abs=1e-3)
    assert found["max_logit"]["over"] == 4
    assert found["energy"]["over"] is None
    assert found["knn_distance"]["growth"] == pytest.approx(0.5)
    expected = ["max_logit", "1", "10", "200", "1.30", "NumPy", "4.00"]
    assert expected in scores_suite.table(result).body
