"""What all analyses use."""

import numpy as np

from jaxdrop import uncertainty
from jaxdrop._report import analyses


def test_rows_take_the_place_of_others():
    row = uncertainty.ReportRow
    report = uncertainty.Report("title", 3, (row("a", 1, 0, "", ""), row("b", 2, 0, "", "")))
    found = analyses.with_rows(report, [row("c", 3, 0, "", ""), row("a", 9, 0, "", "")])
    assert [(one.name, one.value) for one in found.rows] == [("a", 9), ("b", 2), ("c", 3)]


def test_the_noise_of_an_uncertainty():
    """Of a variance of 1 between examples, errors of 0.5 make a quarter."""
    doubt = np.tile([-1.0, 1.0], 50)
    empty = dict.fromkeys(("before", "after"))
    options = {"fitted": [], "coverages": [], "loss": doubt, "loss_name": "loss", "pictures": []}
    found = analyses.Analysis(**empty, doubts={"entropy": doubt}, doubt_error=np.full(100, 0.5), **options)
    np.testing.assert_allclose(found.noise_share, 0.25 * 99 / 100)


def test_the_fewest_held_out_examples():
    """The threshold of N scores is infinite below `level / (1 - level)`."""
    assert analyses.too_few_for_sets(9, 0.9) is None
    assert "a level of 0.9 needs 9 held-out examples, 8 are" in str(analyses.too_few_for_sets(8, 0.9))
    assert np.isinf(uncertainty.conformal_quantile(np.arange(8.0), level=0.9))
    assert np.isfinite(uncertainty.conformal_quantile(np.arange(9.0), level=0.9))
