"""Scores of pixels: sums over examples, and errors over data sets of whole examples."""

import jax
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import jaccard_score, log_loss, roc_auc_score

from jaxdrop import mc
from jaxdrop._report import kinds, parts

KIND = kinds.Kind("logits", 3, False, (4, 5), ignore=255)


def images(seed, n, spread=1.0):
    """Logits and labels of images that are hard or easy as a whole."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, (n, 4, 5)).astype(np.int32)
    hard = rng.normal(size=(n, 1, 1, 1)) * spread + 1
    logits = hard * np.eye(3)[y] + rng.normal(size=(n, 4, 5, 3))
    y[rng.random(y.shape) < 0.1] = 255
    y[:, 0, 0] = 1
    return logits.astype(np.float32), y


def estimate_of(logits):
    logs = np.log(softmax(logits, -1))
    total = -(np.exp(logs) * logs).sum(-1)
    value = {"log_mean": logs, "total_entropy": total, "mutual_information": total / 2}
    return mc.Estimate(value, {name: 0 * value[name] for name in value}, 32)


def scores_of(logits, y):
    rows = np.arange(len(y))
    sums = parts._sums(KIND, estimate_of(logits), y, rows, 10)
    return sums, {name: float(value) for name, value in parts._score(sums).items()}


def test_scores_are_those_of_all_pixels_that_count():
    logits, y = images(0, 40)
    _, found = scores_of(logits, y)
    known = y != 255
    probs, labels = softmax(logits.astype(np.float64), -1)[known], y[known]
    guess = probs.argmax(-1)
    assert found["accuracy"] == pytest.approx((guess == labels).mean(), rel=1e-5)
    assert found["nll"] == pytest.approx(log_loss(labels, probs, labels=[0, 1, 2]), rel=1e-5)
    assert found["brier"] == pytest.approx(((probs - np.eye(3)[labels]) ** 2).sum(-1).mean(), rel=1e-5)
    assert found["mean_iou"] == pytest.approx(jaccard_score(labels, guess, average="macro"), rel=1e-5)
    entropy = -(probs * np.log(probs)).sum(-1)
    assert found["total_entropy"] == pytest.approx(entropy.mean(), rel=1e-5)
    area = roc_auc_score(guess != labels, entropy)
    assert found["error_auroc_total_entropy"] == pytest.approx(area, abs=2e-3)  # 200 steps
    place, confidence, hits = np.ceil(probs.max(-1) * 10), probs.max(-1), guess == labels
    bins = [place == number for number in np.unique(place)]
    gaps = [chosen.mean() * abs(hits[chosen].mean() - confidence[chosen].mean()) for chosen in bins]
    assert found["ece"] == pytest.approx(sum(gaps), rel=1e-4)


@pytest.mark.slow
def test_standard_errors_are_the_spread_over_data_sets():
    """Of images that are hard or easy as a whole, the error of so many independent pixels is too small."""
    found = [scores_of(*images(seed, 60, 2.0))[1] for seed in range(100)]
    sums, _ = scores_of(*images(1000, 60, 2.0))
    report = parts._report(KIND, sums, jax.random.key(0))
    for name in ("accuracy", "nll", "ece", "mean_iou", "error_auroc_total_entropy"):
        spread = np.std([scores[name] for scores in found], ddof=1)
        # 100 data sets: 7 %; 60 images and 200 resamples: 12 % and 5 %.
        assert spread / 1.7 < report[name].standard_error < 1.7 * spread, name
    number, accuracy = sums["count"].sum(), report["accuracy"].value
    naive = np.sqrt(accuracy * (1 - accuracy) / number)
    assert report["accuracy"].standard_error > 2 * naive


@pytest.mark.slow
def test_sets_miss_a_bounded_share_and_fits_use_the_held_out_part():
    logits, y = images(2, 200)
    scaled = estimate_of(3 * logits)
    held, scored = np.arange(0, 200, 2), np.arange(1, 200, 2)

    def analyzed(y):
        return parts.analyze(
            KIND, scaled, y, held, scored,
            held_estimate=scaled, held_targets=y, level=0.8, bins=10, key=jax.random.key(0),
        )  # fmt: skip

    found = analyzed(y)
    assert found.after["nll"].value < found.before["nll"].value
    assert found.after["ece"].value < found.before["ece"].value
    assert "mutual_information" not in [row.name for row in found.after.rows]
    (sets,) = found.coverages
    assert abs(sets.coverage[0] - 0.8) < 5 * np.hypot(sets.coverage[1], sets.coverage[1])
    other = np.where(np.isin(np.arange(200), held)[:, None, None], (y + 1) % 3, y)
    changed = analyzed(np.where(y == 255, 255, other))
    assert changed.before == found.before
    assert changed.factor != found.factor


@pytest.mark.slow
def test_no_temperature_where_all_is_right():
    logits, y = images(3, 60)
    right = estimate_of(logits), np.where(y == 255, 255, logits.argmax(-1))
    held, scored = np.arange(30), np.arange(30, 60)
    found = parts.analyze(
        KIND, right[0], y, held, scored,
        held_estimate=right[0], held_targets=right[1], level=0.8, bins=10, key=jax.random.key(0),
    )  # fmt: skip
    assert (found.after, found.factor) == (None, {})
    assert "held-out labels of 30 examples are predicted right" in found.fitted[0]
    assert len(found.coverages) == 1


def test_losses_are_means_of_the_parts_that_count():
    found = kinds.read_labels(KIND, estimate_of(images(0, 6)[0]), slice(None))
    y = images(0, 6)[1]
    each = -np.take_along_axis(found.logs, np.where(y == 255, 0, y)[..., None], -1)[..., 0]
    expected = [each[i][y[i] != 255].mean() for i in range(6)]
    np.testing.assert_allclose(parts.losses(found, y, 255), expected, rtol=1e-5)
