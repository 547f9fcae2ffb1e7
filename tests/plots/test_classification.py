"""The reliability diagram shows bins, intervals and errors that NumPy and scikit-learn compute too."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from jaxdrop import plots, uncertainty
from jaxdrop.plots import _axes
from tests.plots.axes import axes, bars, legend

RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.ones(3), 400)
LABELS = np.array([RNG.choice(3, p=p) for p in PROBS])


def check(ax, probs: np.ndarray, hits: np.ndarray, bins: int, i: int = 0) -> None:
    """Points and bars are those of scikit-learn's bins and Wilson's intervals, steps those of a histogram."""
    share, confidence = calibration_curve(hits, probs, n_bins=bins)
    x, y, below, above = bars(ax, i)
    np.testing.assert_allclose(x, confidence, rtol=1e-5)
    np.testing.assert_allclose(y, share, rtol=1e-5)
    count = np.histogram(probs, np.linspace(0, 1, bins + 1))[0]
    ends = _axes.wilson(share, count[count > 0])
    np.testing.assert_allclose([below, above], ends, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ax.patches[i].get_data().values, count / len(probs))


def test_of_the_likeliest_class_and_of_two_series():
    ax = axes()
    assert plots.reliability_diagram(PROBS, LABELS, bins=5, label="one", ax=ax) is ax
    confidence, hits = PROBS.max(-1), PROBS.argmax(-1) == LABELS
    check(ax, confidence, hits, 5)
    assert (ax.get_xlabel(), ax.get_xlim(), ax.get_ylim()) == ("confidence", (-0.02, 1.02), (-0.02, 1.02))
    plots.reliability_diagram(PROBS[::-1], LABELS, bins=5, label="two", ax=ax)
    check(ax, confidence[::-1], PROBS[::-1].argmax(-1) == LABELS, 5, 1)
    scores = [uncertainty.ece_with_error(p, LABELS, bins=5) for p in (PROBS, PROBS[::-1])]
    texts = [f"{name}: ECE {_axes.told(of)}" for name, of in zip(("one", "two"), scores, strict=True)]
    assert legend(ax) == ["calibrated", *texts]
    colors = {bar.lines[0].get_color() for bar in ax.containers}
    assert colors == set(plots.PALETTE[:2])


@pytest.mark.slow
def test_of_a_class_and_of_binary_probabilities():
    ax = plots.reliability_diagram(PROBS, LABELS, bins=6, cls=2, ax=axes())
    check(ax, PROBS[:, 2], LABELS == 2, 6)
    assert ax.get_xlabel() == "probability of class 2"
    true = plots.reliability_diagram(PROBS, LABELS, bins=6, cls=True, ax=axes())
    assert true.get_xlabel() == "probability of class 1"
    binary = plots.reliability_diagram(PROBS[:, 2].reshape(20, 20), (LABELS == 2).reshape(20, 20), bins=6)
    assert bars(binary) == bars(ax)
    assert binary.get_ylabel().startswith("frequency of the positive class")
    # The gap of each bin, and the error of that of two classes, which is the same.
    two = np.stack([1 - PROBS[:, 2], PROBS[:, 2]], -1)
    score = uncertainty.finish(uncertainty.tally_classwise_ece(two, (LABELS == 2).astype(int), bins=6))
    value = float(uncertainty.binary_ece(PROBS[:, 2], LABELS == 2, bins=6))
    assert legend(ax)[1] == legend(binary)[1]
    assert legend(ax)[1].startswith(f"ECE {value:.3f}"[:-1])
    assert legend(ax)[1].endswith(_axes.told(score).split(" ± ")[1])


def test_a_bin_whose_examples_are_all_right_is_not_certain():
    ax = plots.reliability_diagram(np.full(4, 0.9), np.ones(4, int), ax=axes())
    _, (accuracy,), (below,), (above,) = bars(ax)
    assert (accuracy, above) == (1, 1)
    np.testing.assert_allclose(below, 4 / 5)


def test_what_is_refused():
    for wrong, message in (
        ({"cls": 3}, "`cls` must be one of 0, 1, 2, got 3"),
        ({"bins": 0}, "`bins` must be at least 1, got 0"),
        ({"labels": LABELS + 1}, r"`labels` must lie in \[0, 2\], got 3"),
        ({"labels": LABELS[:3]}, r"`labels` must have the shape of `probs` without its last axis"),
        ({"probs": PROBS * 2}, "`probs` must lie in"),
        ({"probs": PROBS[:, 0], "labels": LABELS == 0, "cls": 1}, "`cls` must be None for binary"),
        ({"probs": np.full((400, 3), np.nan)}, "`probs` must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.reliability_diagram(**({"probs": PROBS, "labels": LABELS} | wrong))
    with pytest.raises(TypeError, match="`cls` must be an integer"):
        plots.reliability_diagram(PROBS, LABELS, cls=1.5)
