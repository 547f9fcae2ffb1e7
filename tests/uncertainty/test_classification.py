"""Scores against scikit-learn, calibration errors against scikit-learn, MAPIE and float64 loops."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapie.metrics.calibration import expected_calibration_error
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.full(4, 0.5), size=300).astype(np.float32)
LABELS = np.array([RNG.choice(4, p=np.float64(p) / np.float64(p).sum()) for p in PROBS])
PAIRED = np.stack([1 - PROBS[:, 0], PROBS[:, 0]], axis=-1)
HITS = (LABELS == 0).astype(int)
MODES = ["equal_width", "equal_mass"]


def calibration_error(confidence: np.ndarray, hits: np.ndarray, bins: int, mode: str) -> float:
    """A loop in float64 over bins `(low, high]`, of width or of rank."""
    if mode == "equal_width":
        index = np.clip(np.ceil(confidence.astype(np.float64) * bins) - 1, 0, bins - 1)
    else:
        rank = np.array([(confidence < c).sum() for c in confidence])
        index = rank * bins // len(confidence)
    gaps = [abs(confidence[index == i].mean(dtype=np.float64) - hits[index == i].mean()) for i in set(index)]
    return float(np.dot(gaps, [(index == i).sum() for i in set(index)]) / len(hits))


def test_scores_are_those_of_scikit_learn():
    for jit in (lambda f: f, jax.jit):
        nll, brier = jit(uncertainty.nll)(PROBS, LABELS), jit(uncertainty.brier)(PROBS, LABELS)
        np.testing.assert_allclose(nll.mean(), log_loss(LABELS, PROBS), rtol=1e-5)
        full = brier_score_loss(LABELS, PROBS, labels=range(4), scale_by_half=False)
        np.testing.assert_allclose(brier.mean(), full, rtol=1e-5)
        accuracy = jit(uncertainty.accuracy)(PROBS, LABELS)
        np.testing.assert_allclose(accuracy.mean(), accuracy_score(LABELS, PROBS.argmax(-1)), rtol=1e-6)


def test_scores_of_any_axes():
    probs, labels = PROBS.reshape(10, 30, 4), LABELS.reshape(10, 30)
    for of in (uncertainty.nll, uncertainty.brier, uncertainty.accuracy):
        np.testing.assert_allclose(of(probs, labels).reshape(-1), of(PROBS, LABELS), rtol=1e-6)
    np.testing.assert_allclose(uncertainty.ece(probs, labels), uncertainty.ece(PROBS, LABELS), rtol=1e-6)


def test_probabilities_of_0_and_1():
    probs, labels = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([0, 1])
    np.testing.assert_array_equal(uncertainty.nll(probs, labels), [0, np.inf])
    np.testing.assert_array_equal(uncertainty.brier(probs, labels), [0, 2])
    right = jax.grad(lambda probs: uncertainty.nll(probs, labels[:1]).sum())(probs[:1])
    np.testing.assert_array_equal(right, [[-1, 0]])
    assert np.isfinite(jax.grad(lambda probs: uncertainty.brier(probs, labels).sum())(probs)).all()


def test_traced_labels_out_of_range():
    probs = jnp.full((3, 2), 0.5)
    labels = jnp.array([0, 2, -1])
    np.testing.assert_array_equal(np.isnan(jax.jit(uncertainty.nll)(probs, labels)), [False, True, True])
    np.testing.assert_array_equal(np.isnan(jax.jit(uncertainty.brier)(probs, labels)), [False, True, True])
    np.testing.assert_array_equal(jax.jit(uncertainty.accuracy)(probs, labels), [1, np.nan, np.nan])
    for score in (uncertainty.ece, uncertainty.classwise_ece):
        assert np.isnan(jax.jit(score)(probs, labels))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_is_that_of_a_loop(mode, bins):
    expected = calibration_error(PROBS.max(-1), PROBS.argmax(-1) == LABELS, bins, mode)
    np.testing.assert_allclose(uncertainty.ece(PROBS, LABELS, bins=bins, mode=mode), expected, rtol=1e-4)
    each = [calibration_error(PROBS[:, k], k == LABELS, bins, mode) for k in range(4)]
    result = uncertainty.classwise_ece(PROBS, LABELS, bins=bins, mode=mode)
    np.testing.assert_allclose(result, np.mean(each), rtol=1e-4)


@pytest.mark.parametrize(("mode", "strategy"), [("equal_width", "uniform"), ("equal_mass", "quantile")])
def test_reliability_is_that_of_scikit_learn(mode, strategy):
    """Of two classes, where the one of interest is always the likelier."""
    confidence = 0.5 + PAIRED[:, 1].astype(np.float64) / 2
    probs = jnp.stack([1 - confidence, confidence], axis=-1)
    found = uncertainty.reliability(probs, HITS, bins=10, mode=mode)
    filled = np.asarray(found.count) > 0
    accuracy, mean = calibration_curve(HITS, confidence, n_bins=10, strategy=strategy)
    np.testing.assert_allclose(np.asarray(found.accuracy)[filled], accuracy, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(found.confidence)[filled], mean, rtol=1e-5)
    assert found.count.sum() == len(HITS)
    assert found.count.dtype == jnp.int32


def test_ece_is_that_of_mapie():
    """Which counts the edges of bins, one more than there are bins. Its quantiles put the least
    confident example in a separate bin, and are not compared.
    """
    confidence, hits = PROBS.max(-1), (PROBS.argmax(-1) == LABELS).astype(int)
    expected = expected_calibration_error(hits, confidence, num_bins=16, split_strategy="uniform")
    np.testing.assert_allclose(uncertainty.ece(PROBS, LABELS), expected, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_equal_confidences_stay_together(mode):
    """So the order of the examples has no part in it."""
    probs = jnp.asarray(np.repeat(PROBS[:7], [1, 40, 3, 9, 20, 2, 25], axis=0))
    labels = RNG.integers(0, 4, len(probs))
    order = RNG.permutation(len(probs))
    first = uncertainty.reliability(probs, labels, bins=6, mode=mode)
    again = uncertainty.reliability(probs[order], labels[order], bins=6, mode=mode)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), first, again)


@pytest.mark.slow
def test_ends_of_bins():
    """0 is in the first bin, an edge in the bin that it ends, 1 in the last."""
    confidence = jnp.array([0.5, 0.6, 0.7, 1.0])
    probs = jnp.stack([confidence, 1 - confidence], axis=-1)
    found = uncertainty.reliability(probs, jnp.zeros(4, int), bins=10)
    np.testing.assert_array_equal(found.count, [0, 0, 0, 0, 1, 1, 1, 0, 0, 1])
    zero = uncertainty.classwise_ece(jnp.array([[1.0, 0.0]]), jnp.array([0]), bins=3)
    assert zero == 0


def test_a_million_examples_in_one_bin_lose_no_digits():
    confidence = np.full(1_000_000, 0.97, np.float32)
    probs = np.stack([confidence, 1 - confidence], axis=-1)
    labels = (np.arange(len(probs)) % 10 == 0).astype(np.int32)
    found = jax.jit(uncertainty.reliability)(probs, labels)
    np.testing.assert_allclose(found.confidence[-1], 0.97, rtol=5e-6)
    np.testing.assert_allclose(jax.jit(uncertainty.ece)(probs, labels), 0.07, rtol=5e-5)


def test_calibrated_predictions_have_a_small_error():
    """The mean gap of a bin of n is about sqrt(2 / pi * p (1 - p) / n) by chance alone."""
    assert uncertainty.ece(PROBS, LABELS, bins=5) < 5 * np.sqrt(0.25 / 60)
    np.testing.assert_allclose(uncertainty.ece(jnp.array([[1.0, 0.0]]), jnp.array([1])), 1)


IGNORED = RNG.uniform(size=300) < 0.4
GAPPED = np.where(IGNORED, 255, LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nll", "brier", "accuracy"])
def test_a_mask_leaves_labels_out(name: str):
    """The scores are NaN there, and their gradients 0."""
    score, where = getattr(uncertainty, name), ~IGNORED
    probs = np.where(where[:, None], PROBS, [1, 0, 0, np.nan])
    for found in (score(probs, GAPPED, where=where), jax.jit(score)(probs, GAPPED, where=where)):
        np.testing.assert_allclose(found[where], score(PROBS, LABELS)[where], rtol=1e-6)
        assert np.isnan(found[IGNORED]).all()
    assert np.isnan(jax.jit(score)(PROBS, GAPPED)[IGNORED]).all()
    loss = jax.grad(lambda probs: jnp.mean(score(probs, GAPPED, where=where), where=where))
    grad = loss(np.where(where[:, None], PROBS, np.eye(4)[1]).astype(np.float32))
    assert np.isfinite(grad).all()
    assert (grad[IGNORED] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_mask_leaves_labels_out_of_the_bins(mode: str):
    for score in (uncertainty.ece, uncertainty.classwise_ece):
        expected = score(PROBS[~IGNORED], LABELS[~IGNORED], bins=7, mode=mode)
        found = jax.jit(score, static_argnames=("bins", "mode"))(
            PROBS, GAPPED, bins=7, mode=mode, where=~IGNORED
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_a_mask_may_broadcast_and_be_of_lists():
    probs, labels = PROBS.reshape(100, 3, 4), LABELS.reshape(100, 3)
    where = [True, False, True]
    expected = uncertainty.ece(probs[:, [0, 2]], labels[:, [0, 2]])
    np.testing.assert_allclose(uncertainty.ece(probs, labels, where=where), expected, rtol=1e-5)
    assert np.isnan(uncertainty.ece(probs, labels, where=[False] * 3))


def test_the_likeliest_class_is_found_before_the_cast():
    probs = np.array([[0.5 - 1e-9, 0.5 + 1e-9], [0.5 + 1e-9, 0.5 - 1e-9]])
    np.testing.assert_array_equal(uncertainty.accuracy(probs, np.array([1, 0])), [1, 1])
    np.testing.assert_array_equal(uncertainty.reliability(probs, np.array([1, 0]), bins=1).accuracy, [1])
    np.testing.assert_array_equal(uncertainty.variation_ratio(probs[:1, None]), [0])


def test_bins_of_equal_mass_rank_before_the_cast():
    top = 1 - 1e-10 * np.arange(1.0, 11)
    found = uncertainty.reliability(
        np.stack([top, 1 - top], -1), np.zeros(10, int), bins=5, mode="equal_mass"
    )
    np.testing.assert_array_equal(found.count, [2] * 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.nll(PROBS, LABELS[:5]),
            ValueError,
            "`labels` must have the shape of `probs` without its last axis, (300,), got (5,).",
        ),
        (lambda: uncertainty.nll(PROBS[:1], [4]), ValueError, "`labels` must lie in [0, 3], got 4."),
        (lambda: uncertainty.brier(PROBS[:1], [-1]), ValueError, "`labels` must lie in [0, 3], got -1."),
        (
            lambda: uncertainty.nll(PROBS[:1], [1.0]),
            TypeError,
            "`labels` must be an array of integers, got float32.",
        ),
        (
            lambda: uncertainty.ece(PROBS[:0], LABELS[:0]),
            ValueError,
            "`probs` must not be empty, got shape (0, 4).",
        ),
        (lambda: uncertainty.brier(2 * PROBS[:1], [1]), ValueError, "`probs` must"),
        (lambda: uncertainty.ece(PROBS, LABELS, bins=0), ValueError, "`bins` must be at least 1, got 0."),
        (
            lambda: uncertainty.ece(PROBS, LABELS, mode="other"),
            ValueError,
            "`mode` must be one of 'equal_width', 'equal_mass', got 'other'.",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_labels_beyond_32_bits_are_out_of_range():
    """JAX would take the low half of them, here 1."""
    labels = np.array([0, 2**32 + 1], np.int64)
    with pytest.raises(ValueError, match=r"`labels` must lie in \[0, 1\], got 4\.29497e\+09"):
        uncertainty.nll(jnp.full((2, 2), 0.5), labels)


def test_labels_of_a_narrow_dtype():
    """An 8-bit label knows no 256, nor a signed one 128."""
    for dtype, classes in ((np.uint8, 256), (np.int8, 128)):
        p = np.random.default_rng(0).dirichlet(np.ones(classes), 5)
        y = np.array([0, 7, 100, 127, classes - 1])
        for score in (uncertainty.nll, uncertainty.brier, uncertainty.accuracy):
            np.testing.assert_array_equal(score(p, y.astype(dtype)), score(p, y))
