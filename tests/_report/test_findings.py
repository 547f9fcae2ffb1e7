"""What every analysis uses."""

import numpy as np

from jaxdrop import uncertainty
from jaxdrop._report import findings


def test_rows_take_the_place_of_others():
    row = uncertainty.ReportRow
    report = uncertainty.Report("title", 3, (row("a", 1, 0, "", ""), row("b", 2, 0, "", "")))
    found = findings.with_rows(report, [row("c", 3, 0, "", ""), row("a", 9, 0, "", "")])
    assert [(one.name, one.value) for one in found.rows] == [("a", 9), ("b", 2), ("c", 3)]


def test_the_noise_of_an_uncertainty():
    """Of a variance of 1 between examples, errors of 0.5 make a quarter."""
    doubt = np.tile([-1.0, 1.0], 50)
    empty = dict.fromkeys(("before", "after"))
    options = {"fitted": [], "coverages": [], "loss": doubt, "loss_name": "loss", "pictures": []}
    found = findings.Analysis(**empty, doubts={"entropy": doubt}, doubt_error=np.full(100, 0.5), **options)
    np.testing.assert_allclose(found.noise_share, 0.25 * 99 / 100)


def test_the_fewest_held_out_examples():
    """The threshold of N scores is infinite below `level / (1 - level)`."""
    assert findings.too_few_for_sets(9, 0.9) is None
    assert "a level of 0.9 needs 9 held-out examples, 8 are" in str(findings.too_few_for_sets(8, 0.9))
    assert np.isinf(uncertainty.conformal_quantile(np.arange(8.0), level=0.9))
    assert np.isfinite(uncertainty.conformal_quantile(np.arange(9.0), level=0.9))


def test_a_fit_and_sets_each_where_there_are_enough_held_out_examples():
    def made(held, level):
        return findings.calibrated(
            held, level, lambda: ("Fitted.", 2.0, {"temperature": 2.0}), lambda: ["set"]
        )

    assert made(30, 0.9) == (["Fitted."], 2.0, {"temperature": 2.0}, ["set"])
    few = made(19, 0.9)
    assert (few.words, few.fitted, few.factor, few.coverages) == (findings.too_few(19), None, {}, [])
    no_sets = made(20, 0.99)
    assert (no_sets.fitted, no_sets.coverages) == (2.0, [])
    assert no_sets.words == ["Fitted.", findings.too_few_for_sets(20, 0.99)]
