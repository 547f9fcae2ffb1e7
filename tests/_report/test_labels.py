"""Scores, temperature and sets of one label per example, against scikit-learn."""

import jax
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss, roc_auc_score

from jaxdrop._report import kinds, labels
from jaxdrop._report.kinds import Labels

KIND = kinds.Kind("logits", 4)


def examples(seed, n):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n).astype(np.int32)
    logits = 3 * (np.eye(4)[y] + rng.normal(size=(n, 4)))
    logs = np.log(softmax(logits, -1)).astype(np.float32)
    total = -(np.exp(logs) * logs).sum(-1)
    zeros = np.zeros(n, np.float32)
    return Labels(logs, total, total * rng.random(n).astype(np.float32), zeros, zeros), y


def analyzed(held, scored, **options):
    options = {"level": 0.9, "bins": 10, "key": jax.random.key(0)} | options
    return labels.analyze(KIND, *held, *scored, **options)


@pytest.fixture(scope="module")
def both():
    return examples(0, 300), examples(1, 400)


@pytest.mark.slow
def test_scores_before_and_after(both):
    held, (found, y) = both
    result = analyzed(held, both[1])
    probs = softmax(found.logs.astype(np.float64), -1)
    assert result.before["nll"].value == pytest.approx(log_loss(y, probs, labels=range(4)), rel=1e-4)
    assert result.before["accuracy"].value == pytest.approx((probs.argmax(-1) == y).mean())
    wrong = probs.argmax(-1) != y
    area = roc_auc_score(wrong, found.information)
    assert result.before["error_auroc_mutual_information"].value == pytest.approx(area, abs=1e-5)
    grid = np.exp(np.linspace(-1, 3, 2000))
    nlls = [labels.losses(held[0].logs / t, held[1]).mean() for t in grid]
    assert result.factor["temperature"] == pytest.approx(grid[np.argmin(nlls)], rel=5e-3)
    after = softmax(found.logs.astype(np.float64) / result.factor["temperature"], -1)
    assert result.after["nll"].value == pytest.approx(log_loss(y, after, labels=range(4)), rel=1e-3)
    assert result.after["nll"].value < result.before["nll"].value
    for one in result.coverages:
        # The fit of 300 examples spreads, too.
        assert abs(one.coverage[0] - 0.9) < 5 * np.hypot(one.coverage[1], np.sqrt(0.09 / 300))
    assert [topic for topic, _ in result.pictures] == ["calibration", "uncertainty", "sets"]
    np.testing.assert_allclose(result.loss, labels.losses(found.logs, y))


@pytest.mark.slow
def test_too_few_held_out_examples(both):
    few = Labels(*(part[:8] for part in both[0][0])), both[0][1][:8]
    result = analyzed(few, both[1])
    assert result.after is None
    assert not result.coverages
    assert "8 examples are held out, and a fit needs 20" in result.fitted[0]
    some = Labels(*(part[:50] for part in both[0][0])), both[0][1][:50]
    result = analyzed(some, both[1], level=0.99)
    assert result.after is not None
    assert "a level of 0.99 needs 99 held-out examples, 50 are" in result.fitted[1]


@pytest.mark.slow
def test_no_temperature_where_all_is_right(both):
    """It would be 0, and infinitely sure of the next mistake."""
    found, y = both[0]
    right = found.logs.argmax(-1) == y
    held = Labels(*(part[right] for part in found)), y[right]
    result = analyzed(held, both[1])
    assert (result.after, result.factor) == (None, {})
    assert result.fitted[0].startswith(f"No temperature was fitted: all {right.sum()} held-out examples are")
    assert len(result.coverages) == 2


def test_a_probability_that_float32_cannot_hold_has_a_finite_loss():
    logs = np.array([[0.0, -200.0]], np.float32)
    np.testing.assert_allclose(labels.losses(logs, np.array([1])), [200.0])
