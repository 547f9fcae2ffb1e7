"""Values that torchmetrics 1.x prints in the examples of its calibration errors, to four digits."""

import numpy as np
import pytest

from jaxdrop import uncertainty

PROBS = np.array([[0.25, 0.20, 0.55], [0.55, 0.05, 0.40], [0.10, 0.30, 0.60], [0.90, 0.05, 0.05]])
LABELS = np.array([0, 1, 2, 0])
BINARY, TARGETS = np.array([0.25, 0.25, 0.55, 0.75, 0.75]), np.array([0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("diagram", "ece", "expected"),
    [
        (
            lambda: uncertainty.reliability(PROBS, LABELS, bins=3),
            lambda: uncertainty.ece(PROBS, LABELS, bins=3),
            {"l1": 0.2, "l2": 0.2082, "max": 0.2333},
        ),
        (
            lambda: uncertainty.binary_reliability(BINARY, TARGETS, bins=2),
            lambda: uncertainty.binary_ece(BINARY, TARGETS, bins=2),
            {"l1": 0.29, "l2": 0.2918, "max": 0.3167},
        ),
    ],
    ids=["multiclass", "binary"],
)
def test_calibration_errors_of_the_examples(diagram, ece, expected):
    found = diagram()
    gap = np.abs(np.asarray(found.confidence) - np.asarray(found.accuracy))
    share = np.asarray(found.count) / np.sum(found.count)
    norms = {"l1": ece(), "l2": np.sqrt(np.sum(share * gap**2)), "max": gap.max()}
    for norm, value in norms.items():
        np.testing.assert_allclose(value, expected[norm], atol=5e-5, err_msg=norm)
