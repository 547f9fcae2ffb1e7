"""Entropies against scipy in float64, their properties, and their values at probabilities of 0 and 1."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

PROBS = np.random.default_rng(0).dirichlet(np.full(4, 0.3), size=(7, 5))  # [T, B, K]
SURE = jnp.array([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]])
ENTROPIES = [
    uncertainty.entropy,
    uncertainty.total_entropy,
    uncertainty.expected_entropy,
    uncertainty.mutual_information,
]


def test_entropies_are_those_of_scipy():
    np.testing.assert_allclose(uncertainty.entropy(PROBS), stats.entropy(PROBS, axis=-1), rtol=1e-5)
    total, expected = stats.entropy(PROBS.mean(0), axis=-1), stats.entropy(PROBS, axis=-1).mean(0)
    np.testing.assert_allclose(uncertainty.total_entropy(PROBS), total, rtol=1e-5)
    np.testing.assert_allclose(uncertainty.expected_entropy(PROBS), expected, rtol=1e-5)
    np.testing.assert_allclose(uncertainty.mutual_information(PROBS), total - expected, rtol=1e-5, atol=1e-6)


def test_under_jit_and_vmap():
    for of in [*ENTROPIES, uncertainty.variation_ratio]:
        probs = jnp.asarray(PROBS)
        np.testing.assert_allclose(jax.jit(of)(probs), of(probs), rtol=1e-5, atol=1e-6)
        if of is not uncertainty.entropy:
            np.testing.assert_allclose(jax.vmap(of, 1)(probs), of(probs), rtol=1e-5, atol=1e-6)


def test_variation_ratio_counts_votes():
    votes = PROBS.argmax(-1)
    expected = [1 - np.bincount(of).max() / len(of) for of in votes.T]
    np.testing.assert_allclose(uncertainty.variation_ratio(PROBS), expected, rtol=1e-6)


@pytest.mark.slow
def test_sure_samples():
    """All that is uncertain is which sample is right: log 3 - 2/3 log 2 nats, all of it epistemic."""
    between = np.log(3) - 2 / 3 * np.log(2)
    np.testing.assert_allclose(uncertainty.total_entropy(SURE), [between], rtol=1e-6)
    np.testing.assert_allclose(uncertainty.mutual_information(SURE), [between], rtol=1e-6)
    assert uncertainty.expected_entropy(SURE) == 0
    np.testing.assert_allclose(uncertainty.variation_ratio(SURE), [1 / 3], rtol=1e-6)
    for of in ENTROPIES:
        assert np.isfinite(jax.grad(lambda probs, of=of: of(probs).sum())(SURE)).all()


@pytest.mark.slow
def test_gradients_through_a_softmax_that_is_sure():
    logits = jnp.array([[[1000.0, 0.0]], [[0.0, 1.0]]])
    for of in ENTROPIES:
        grad = jax.grad(lambda logits, of=of: of(jax.nn.softmax(logits)).sum())(logits)
        assert np.isfinite(grad).all()


@pytest.mark.parametrize(("spread", "rtol"), [(1.0, 1e-5), (0.1, 1e-5), (1e-3, 1e-3), (1e-4, 1e-2)])
def test_a_small_mutual_information_has_its_digits(spread: float, rtol: float):
    """Of logits that are apart by so much, against float64; rounding of the given costs 1e-7 / spread."""
    logits = spread * np.random.default_rng(1).normal(size=(50, 6, 5)) + np.linspace(0, 4, 5)
    probs = np.asarray(jax.nn.softmax(jnp.asarray(logits, jnp.float32))).astype(np.float64)
    probs = probs / probs.sum(-1, keepdims=True)
    expected = np.mean(np.sum(probs * np.log(probs / probs.mean(0)), -1), 0)
    np.testing.assert_allclose(
        uncertainty.mutual_information(jnp.asarray(probs, jnp.float32)), expected, rtol
    )


def test_equal_samples_have_no_mutual_information():
    probs = jnp.broadcast_to(jnp.asarray(PROBS[0]), PROBS.shape)
    information = uncertainty.mutual_information(probs)
    assert (information >= 0).all()
    np.testing.assert_allclose(information, 0, atol=1e-6)
    assert (uncertainty.variation_ratio(probs) == 0).all()


def test_decompose_variance_is_that_of_the_mixture():
    means, variances = np.random.default_rng(1).normal(size=(2, 6, 5, 2))
    variances = variances**2
    parts = uncertainty.decompose_variance(means, variances)
    second_moment = (variances + means**2).mean(0)
    np.testing.assert_allclose(
        parts.aleatoric + parts.epistemic, second_moment - means.mean(0) ** 2, rtol=1e-4
    )
    np.testing.assert_allclose(parts.aleatoric, variances.mean(0), rtol=1e-6)
    constant = jax.jit(uncertainty.decompose_variance)(means, 0.25)
    np.testing.assert_allclose(constant.aleatoric, np.full((5, 2), 0.25))
    np.testing.assert_allclose(constant.epistemic, parts.epistemic, rtol=1e-6)


def test_half_precision_is_widened():
    probs = jnp.full((2, 1, 4), 0.25, jnp.bfloat16)
    assert uncertainty.total_entropy(probs).dtype == jnp.float32
    parts = uncertainty.decompose_variance(probs, probs)
    assert parts.aleatoric.dtype == parts.epistemic.dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.total_entropy(jnp.array([0.5, 0.5])),
            ValueError,
            "`probs` must be of shape [T, ..., K]",
        ),
        (
            lambda: uncertainty.entropy(jnp.ones((2, 0))),
            ValueError,
            "`probs` must not be empty, got shape (2, 0).",
        ),
        (lambda: uncertainty.total_entropy(jnp.ones((3, 0, 2))), ValueError, "`probs` must not be empty"),
        (lambda: uncertainty.entropy(jnp.array([0.5, 0.4])), ValueError, "to within 0.001, got 0.9."),
        (
            lambda: uncertainty.entropy(jnp.array([1.5, -0.5])),
            ValueError,
            "`probs` must lie in [0, 1], got 1.5.",
        ),
        (
            lambda: uncertainty.entropy(jnp.array([jnp.nan, 1])),
            ValueError,
            "`probs` must lie in [0, 1], got nan.",
        ),
        (lambda: uncertainty.entropy(jnp.array([1, 0])), TypeError, "`probs` must be a floating-point array"),
        (
            lambda: uncertainty.decompose_variance(jnp.ones(2), -jnp.ones(2)),
            ValueError,
            "`variances` must be at least 0, got -1.",
        ),
        (
            lambda: uncertainty.decompose_variance(jnp.ones((2, 3)), jnp.ones((2, 4))),
            ValueError,
            "`variances` must broadcast to shape (2, 3), got (2, 4).",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_traced_values_that_are_not_probabilities_break_nothing():
    for of in ENTROPIES:
        found = jax.jit(of)(jnp.full((2, 1, 3), 0.7))
        assert np.isfinite(found).all()
