"""Curves of risk and of detection, and histograms, against NumPy and scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from jaxdrop import plots, uncertainty
from jaxdrop.plots import _axes, detection
from tests.plots.axes import axes, legend

RNG = np.random.default_rng(0)
IN, OUT = RNG.normal(size=300), RNG.normal(size=200).round(1) + 1


def band(ax, i: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, lower and upper ends of a filled band."""
    vertices = ax.collections[i].get_paths()[0].vertices
    count = (len(vertices) - 3) // 2
    return vertices[1 : count + 1, 0], vertices[1 : count + 1, 1], vertices[-2 : -count - 2 : -1, 1]


def test_the_curve_of_risk_is_the_mean_of_the_most_certain():
    doubt, wrong = RNG.normal(size=400), RNG.random(400) < 0.3
    ax = axes()
    assert plots.risk_coverage_curve(wrong, doubt, label="mine", ax=ax) is ax
    coverage, risk = ax.lines[0].get_data()
    kept = np.arange(20, 401)
    np.testing.assert_allclose(coverage, kept / 400)
    np.testing.assert_allclose(risk, np.cumsum(wrong[np.argsort(doubt)])[kept - 1] / kept)
    np.testing.assert_allclose(
        risk, uncertainty.risk_coverage(doubt, wrong.astype(float)).risk[19:], rtol=1e-5
    )
    x, below, above = band(ax)
    np.testing.assert_allclose(x, coverage)
    # With all examples kept no threshold is estimated.
    np.testing.assert_allclose((below[-1], above[-1]), _axes.wilson(risk[-1], 400))
    assert legend(ax) == [f"mine: AURC {_axes.told(uncertainty.aurc_with_error(doubt, wrong))}"]
    assert ax.get_ylabel().startswith("error rate")
    assert ax.get_ylim()[0] == 0


def test_ties_count_with_their_mean_and_losses_may_be_of_any_size():
    loss = np.array([1.0, 3.0, 5.0, 7.0])
    ax = plots.risk_coverage_curve(loss, np.array([0, 0, 1, 1]), ax=axes())
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [2, 2, 10 / 3, 4])
    _, below, above = band(ax)
    np.testing.assert_allclose((above - below)[-1] / 2, loss.std(ddof=1) / 2)
    assert ax.get_ylabel().startswith("mean error")


def test_the_area_of_losses_with_a_large_offset_keeps_its_digits():
    loss, uncertainty = RNG.random(100), RNG.random(100)
    ranked = loss[np.argsort(uncertainty)]
    area = (np.cumsum(ranked) / np.arange(1, 101)).mean()
    text = legend(plots.risk_coverage_curve(1e9 + loss, uncertainty, ax=axes()))[0]
    found, error = (float(number) for number in text.removeprefix("AURC ").split(" ± "))
    np.testing.assert_allclose(found - 1e9, area, atol=1e-3)
    assert error < 0.1


def test_the_axis_starts_where_the_risk_rises():
    wrong = np.arange(400) >= 300
    ax = plots.risk_coverage_curve(wrong, np.arange(400), ax=axes())
    left, right = ax.get_xlim()
    # The risk is a twentieth of 1 / 4 where 1 / 80 of those that are kept are wrong.
    np.testing.assert_allclose((left, right), (304 / 400, 1))
    plots.risk_coverage_curve(wrong, np.arange(400) % 100, ax=ax)
    assert ax.get_xlim() == (0, 1)


def test_the_band_of_risk_is_the_spread_over_test_sets():
    risks, errors = [], []
    for _ in range(300):
        doubt = RNG.random(1000)
        coverage, risk, below, above = detection._risks(1.0 * (RNG.random(1000) < 0.5 * doubt**2), doubt)
        at = np.searchsorted(coverage, [0.2, 0.5, 1.0])
        risks.append(risk[at])
        errors.append((above - below)[at] / 2)
    # The standard deviation of 300 has a relative standard error of 4 %.
    np.testing.assert_allclose(np.mean(errors, 0), np.std(risks, 0), rtol=0.25)


@pytest.mark.slow
def test_the_roc_is_that_of_scikit_learn():
    ax = axes()
    assert plots.roc_curve(IN, OUT, label="mine", ax=ax) is ax
    alarms, hits, _ = metrics.roc_curve(np.arange(500) >= 300, np.append(IN, OUT), drop_intermediate=False)
    np.testing.assert_allclose(ax.lines[1].get_data(), [alarms, hits], atol=1e-12)
    assert legend(ax) == ["chance", f"mine: AUROC {_axes.told(uncertainty.auroc_with_error(IN, OUT))}"]
    many = RNG.normal(size=20_000)
    thin = plots.roc_curve(many, many + 1, ax=axes()).lines[1].get_xydata()
    assert len(thin) <= 1000
    assert (thin[0].tolist(), thin[-1].tolist()) == ([0, 0], [1, 1])
    area = metrics.roc_auc_score(np.arange(40_000) >= 20_000, np.append(many, many + 1))
    assert abs(np.trapezoid(*thin.T[::-1]) - area) < 1e-3


def test_infinite_scores_have_a_place_in_the_roc():
    ax = plots.roc_curve(np.array([0.0, np.inf]), np.array([np.inf, np.inf]), ax=axes())
    assert ax.lines[1].get_xydata().tolist() == [[0, 0], [0.5, 1], [1, 1]]


@pytest.mark.slow
def test_histograms_share_their_bins():
    sets = {"one": OUT, "two": OUT[:50] + 1}
    ax = plots.score_histograms(IN, sets, bins=7, name="entropy (nats)", ax=axes())
    edges = np.histogram_bin_edges(np.concatenate([IN, *sets.values()]), 7)
    fill, inside, around, one, _, two, _ = (patch.get_data() for patch in ax.patches)
    for data, scores in ((fill, IN), (inside, IN), (one, OUT), (two, sets["two"])):
        np.testing.assert_allclose(data.values, np.histogram(scores, edges)[0] / len(scores))
        np.testing.assert_array_equal(data.edges, edges)
    below, above = _axes.wilson(inside.values, 300)
    np.testing.assert_allclose((around.baseline, around.values), (below, above))
    texts = [f"{key}: AUROC {_axes.told(uncertainty.auroc_with_error(IN, of))}" for key, of in sets.items()]
    assert legend(ax) == ["in distribution", *texts]
    assert ax.get_xlabel() == "entropy (nats)"


def test_what_is_refused():
    with pytest.raises(
        ValueError, match=r"`uncertainty` must have the shape of `errors`, \(3,\), got \(2,\)"
    ):
        plots.risk_coverage_curve(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="`errors` must be finite, got inf"):
        plots.risk_coverage_curve(np.full(3, np.inf), np.zeros(3))
    with pytest.raises(ValueError, match="`in_scores` must not hold a NaN"):
        plots.roc_curve(np.full(3, np.nan), OUT)
    with pytest.raises(ValueError, match="`out_scores` must be finite, got inf"):
        plots.score_histograms(IN, np.full(3, np.inf))
    with pytest.raises(ValueError, match="`out_scores` must hold at least one set, got none"):
        plots.score_histograms(IN, {})
    with pytest.raises(ValueError, match="`bins` must be at least 1, got 0"):
        plots.score_histograms(IN, OUT, bins=0)
