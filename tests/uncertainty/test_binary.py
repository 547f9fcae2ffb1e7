"""Scores of binary probabilities against scikit-learn, and against those of two classes."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
PROBS = RNG.uniform(size=400).astype(np.float32)
LABELS = (RNG.uniform(size=400) < PROBS**2).astype(int)
SCORES = [uncertainty.binary_nll, uncertainty.binary_brier]


def test_scores_are_those_of_scikit_learn():
    for labels in (LABELS, LABELS.astype(bool)):
        nll, brier = (jax.jit(score)(PROBS, labels) for score in SCORES)
        np.testing.assert_allclose(nll.mean(), log_loss(LABELS, PROBS), rtol=1e-5)
        np.testing.assert_allclose(brier.mean(), brier_score_loss(LABELS, PROBS), rtol=1e-5)
    pairs = np.stack([1 - PROBS, PROBS], axis=-1)
    np.testing.assert_allclose(nll, uncertainty.nll(pairs, LABELS), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(2 * brier, uncertainty.brier(pairs, LABELS), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("mode", "strategy"), [("equal_width", "uniform"), ("equal_mass", "quantile")])
def test_reliability_is_that_of_scikit_learn(mode, strategy):
    found = uncertainty.binary_reliability(PROBS.reshape(20, 20), LABELS.reshape(20, 20), bins=10, mode=mode)
    share, mean = calibration_curve(LABELS, PROBS, n_bins=10, strategy=strategy)
    np.testing.assert_allclose(found.accuracy, share, rtol=1e-5)
    np.testing.assert_allclose(found.confidence, mean, rtol=1e-5)
    expected = np.dot(np.abs(share - mean), found.count) / 400
    np.testing.assert_allclose(uncertainty.binary_ece(PROBS, LABELS, bins=10, mode=mode), expected, rtol=1e-4)


@pytest.mark.slow
def test_the_error_of_two_classes_is_that_of_one():
    pairs = np.stack([1 - PROBS, PROBS], axis=-1)
    expected = uncertainty.classwise_ece(pairs, LABELS, bins=1)
    np.testing.assert_allclose(uncertainty.binary_ece(PROBS, LABELS, bins=1), expected, rtol=1e-4)


def test_probabilities_of_0_and_1_have_their_gradients():
    probs, labels = jnp.array([0.0, 1.0, 1.0]), jnp.array([0, 1, 0])
    np.testing.assert_array_equal(uncertainty.binary_nll(probs, labels), [0, 0, np.inf])
    grad = jax.grad(lambda probs: uncertainty.binary_nll(probs, labels[:2]).sum())(probs[:2])
    np.testing.assert_array_equal(grad, [1, -1])


@pytest.mark.slow
def test_a_mask_leaves_labels_out():
    where = RNG.uniform(size=400) < 0.6
    probs, labels = np.where(where, PROBS, np.nan), np.where(where, LABELS, -100)
    for score in SCORES:
        found = jax.jit(score)(probs, labels, where=where)
        np.testing.assert_allclose(found[where], score(PROBS[where], LABELS[where]), rtol=1e-6)
        assert np.isnan(found[~where]).all()
        grad = jax.grad(lambda p, score=score: jnp.mean(score(p, labels, where=where), where=where))(PROBS)
        assert np.isfinite(grad).all()
    found = uncertainty.binary_ece(probs, labels, where=where)
    np.testing.assert_allclose(found, uncertainty.binary_ece(PROBS[where], LABELS[where]), rtol=1e-5)
    assert np.isnan(jax.jit(uncertainty.binary_ece)(PROBS, labels))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: uncertainty.binary_nll([0.5], [2]), ValueError, "`labels` must lie in [0, 1], got 2."),
        (lambda: uncertainty.binary_brier([1.5], [1]), ValueError, "`probs` must lie in [0, 1], got 1.5."),
        (
            lambda: uncertainty.binary_ece(PROBS, LABELS[:3]),
            ValueError,
            "`labels` must have the shape of `probs`, (400,), got (3,).",
        ),
        (lambda: uncertainty.binary_nll([0.5], [1.0]), TypeError, "`labels` must be an array of integers"),
        (
            lambda: uncertainty.nll(PROBS, LABELS),
            ValueError,
            "`probs` must have one axis more than `labels`, of classes (`binary_nll` and `binary_ece` take "
            "one probability per label), got shape (400,) of both.",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_wide_values_are_read_before_the_cast():
    with pytest.raises(ValueError, match=re.escape("`labels` must lie in [0, 1], got 4.29497e+09.")):
        uncertainty.binary_nll(np.array([0.25, 0.75]), np.array([2**32, 2**32 + 1]))
    probs = np.array([1 - 1e-12, 1 - 1e-12, 1e-50, 1e-50, 0.0])
    found = uncertainty.binary_nll(probs, np.array([0, 1, 1, 0, 1]))
    np.testing.assert_allclose(found, [27.63, 1e-12, 115.13, 0, np.inf], rtol=1e-3)
