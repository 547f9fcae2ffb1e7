"""Against scikit-learn with and without ties, and against the mean over all orders of ties."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
INSIDE = RNG.normal(size=150).astype(np.float32)
OUTSIDE = RNG.normal(1, size=90).astype(np.float32)
SCORES = {
    "distinct": (INSIDE, OUTSIDE),
    "tied": (INSIDE.round(), OUTSIDE.round()),
    "constant": (np.ones(150), np.ones(90)),
    "apart": (INSIDE, OUTSIDE + 100),
    "infinite": (np.where(INSIDE > 1, np.inf, INSIDE), np.where(OUTSIDE > 1, np.inf, OUTSIDE)),
}


def joined(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores = np.concatenate([inside, outside]).astype(np.float64)
    return np.repeat([0, 1], [len(inside), len(outside)]), np.nan_to_num(scores, posinf=1e9)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORES)
def test_auroc_is_that_of_scikit_learn(name):
    inside, outside = SCORES[name]
    expected = roc_auc_score(*joined(inside, outside))
    for jit in (lambda f: f, jax.jit):
        np.testing.assert_allclose(jit(uncertainty.auroc)(inside, outside), expected, rtol=1e-5)
        np.testing.assert_allclose(jit(uncertainty.auroc)(outside, inside), 1 - expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORES)
def test_aupr_is_that_of_scikit_learn(name):
    inside, outside = SCORES[name]
    expected = average_precision_score(*joined(inside, outside))
    for jit in (lambda f: f, jax.jit):
        np.testing.assert_allclose(jit(uncertainty.aupr)(inside, outside), expected, rtol=1e-5)


@pytest.mark.parametrize("name", SCORES)
def test_fpr95_is_that_of_scikit_learn(name):
    """There the positive ones are those inside, and a low uncertainty says so."""
    inside, outside = SCORES[name]
    labels, scores = joined(inside, outside)
    passed, kept, _ = roc_curve(1 - labels, -scores, drop_intermediate=False)
    expected = passed[np.argmax(kept >= 0.95)]
    for jit in (lambda f: f, jax.jit):
        np.testing.assert_allclose(jit(uncertainty.fpr95)(inside, outside), expected, rtol=1e-5)


def test_exactly_95_percent():
    """Of 20 the 19 smallest pass."""
    inside = jnp.arange(20.0)
    assert uncertainty.fpr95(inside, jnp.array([18.0, 18.5])) == 0.5
    assert uncertainty.fpr95(jnp.array([1.0]), jnp.array([2.0])) == 0
    assert uncertainty.fpr95(jnp.array([1.0]), jnp.array([1.0])) == 1


def test_risk_coverage_by_hand():
    certainty, loss = RNG.permutation(50), RNG.uniform(size=50)
    found = jax.jit(uncertainty.risk_coverage)(certainty, loss)
    kept = [loss[np.argsort(certainty)[: i + 1]].mean() for i in range(50)]
    np.testing.assert_allclose(found.risk, kept, rtol=1e-5)
    np.testing.assert_allclose(found.coverage, np.arange(1, 51) / 50, rtol=1e-6)
    np.testing.assert_allclose(uncertainty.aurc(certainty, loss), np.mean(kept), rtol=1e-5)


def test_ties_count_with_the_mean_over_their_orders():
    doubt, loss = np.array([1.0, 0.0, 1.0, 1.0, 2.0]), np.array([1.0, 0.0, 0.0, 1.0, 0.5])
    curves = []
    for order in itertools.permutations(range(5)):
        if (np.diff(doubt[list(order)]) >= 0).all():
            curves.append(np.cumsum(loss[list(order)]) / np.arange(1, 6))
    assert len(curves) == 6
    np.testing.assert_allclose(
        uncertainty.risk_coverage(doubt, loss).risk, np.mean(curves, axis=0), rtol=1e-6
    )


@pytest.mark.slow
def test_ties_of_a_million():
    """Sums in float32 that neither lose late terms nor cancel."""
    loss = np.random.default_rng(1).exponential(size=1_000_000).astype(np.float32)
    alike = uncertainty.aurc(np.zeros(len(loss), np.float32), loss)
    np.testing.assert_allclose(alike, loss.mean(dtype=np.float64), rtol=1e-5)
    few = (np.arange(len(loss)) // 100_000).astype(np.float32)
    groups = loss.astype(np.float64).reshape(10, -1)
    risks = np.cumsum(np.repeat(groups.mean(1), 100_000)) / np.arange(1, 1_000_001)
    np.testing.assert_allclose(uncertainty.risk_coverage(few, loss).risk, risks, rtol=2e-5)


def test_an_infinite_loss():
    risk = uncertainty.risk_coverage(jnp.array([1.0, 2.0, 2.0, 3.0]), jnp.array([1.0, np.inf, 2.0, 3.0])).risk
    np.testing.assert_array_equal(risk, [1, np.inf, np.inf, np.inf])


def test_the_order_of_the_examples_has_no_part_in_it():
    doubt, loss = INSIDE.round(), RNG.integers(0, 2, 150)
    order = RNG.permutation(150)
    first, again = uncertainty.aurc(doubt, loss), uncertainty.aurc(doubt[order], loss[order])
    np.testing.assert_allclose(first, again, rtol=1e-5)
    np.testing.assert_allclose(uncertainty.aurc(np.zeros(150), loss), loss.mean(), rtol=1e-5)


def test_the_best_order_is_that_of_the_losses():
    loss = jnp.asarray(RNG.uniform(size=150), jnp.float32)
    assert uncertainty.aurc(loss, loss) < uncertainty.aurc(INSIDE, loss) < uncertainty.aurc(-loss, loss)


def test_gradient_in_the_losses():
    """The most certain one counts at every coverage: (1 + 1/2 + 1/3) / 3."""
    grad = jax.grad(uncertainty.aurc, 1)(jnp.array([0.1, 0.2, 0.3]), jnp.ones(3))
    np.testing.assert_allclose(grad, [11 / 18, 5 / 18, 2 / 18], rtol=1e-5)


def test_booleans_and_half_precision():
    assert uncertainty.aurc(INSIDE, INSIDE > 0).dtype == jnp.float32
    half = jnp.asarray(INSIDE, jnp.bfloat16)
    expected = roc_auc_score(*joined(np.asarray(half, np.float32), OUTSIDE))
    np.testing.assert_allclose(uncertainty.auroc(half, OUTSIDE), expected, rtol=1e-5)


def close_to_one(count: int) -> np.ndarray:
    """Doubts of -confidence that float32 cannot tell apart."""
    return -(1 - 1e-10 * RNG.permutation(count))


def test_float64_is_ranked_before_the_cast():
    inside, outside = np.split(close_to_one(240), [150])
    labels, scores = np.repeat([0, 1], [150, 90]), np.concatenate([inside, outside])
    np.testing.assert_allclose(uncertainty.auroc(inside, outside), roc_auc_score(labels, scores), rtol=1e-5)
    np.testing.assert_allclose(
        uncertainty.auroc(list(inside), outside), roc_auc_score(labels, scores), rtol=1e-5
    )
    passed, kept, _ = roc_curve(1 - labels, -scores, drop_intermediate=False)
    np.testing.assert_allclose(uncertainty.fpr95(inside, outside), passed[np.argmax(kept >= 0.95)], rtol=1e-5)
    loss = RNG.uniform(size=150)
    expected = np.mean(np.cumsum(loss[np.argsort(inside)]) / np.arange(1, 151))
    np.testing.assert_allclose(uncertainty.aurc(inside, loss), expected, rtol=1e-5)


def test_large_integers_are_not_cast():
    inside, outside = jnp.array([2**24, 2**24 + 3]), jnp.array([2**24 + 1])
    assert uncertainty.auroc(inside, outside) == jax.jit(uncertainty.auroc)(inside, outside) == 0.5
    assert uncertainty.auroc(np.array([2**60]), np.array([2**60 + 1])) == 1


@pytest.mark.slow
def test_a_mask_leaves_examples_out():
    where_in, where_out = RNG.uniform(size=150) < 0.6, RNG.uniform(size=90) < 0.6
    inside, outside = INSIDE.round(1), OUTSIDE.round(1)
    scores = np.where(where_in, inside, np.nan), np.where(where_out, outside, np.nan)
    for score in (uncertainty.auroc, uncertainty.aupr, uncertainty.fpr95):
        found = jax.jit(score)(*scores, where_in=where_in, where_out=where_out)
        np.testing.assert_allclose(found, score(inside[where_in], outside[where_out]), rtol=1e-5)
        assert np.isnan(jax.jit(score)(*scores))
    loss = np.where(where_in, INSIDE > 0, np.nan)
    expected = uncertainty.risk_coverage(inside[where_in], loss[where_in])
    found = jax.jit(uncertainty.risk_coverage)(scores[0], loss, where=where_in)
    count = where_in.sum()
    np.testing.assert_allclose(found.risk[:count], expected.risk, rtol=1e-5)
    np.testing.assert_allclose(found.coverage[:count], expected.coverage, rtol=1e-5)
    np.testing.assert_allclose(found.risk[count:], expected.risk[-1], rtol=1e-5)
    area = uncertainty.aurc(scores[0], loss, where=where_in)
    np.testing.assert_allclose(area, expected.risk.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.auroc(INSIDE[:0], OUTSIDE),
            ValueError,
            "`scores_in` must not be empty, got shape (0,).",
        ),
        (
            lambda: uncertainty.auroc(INSIDE, [np.nan]),
            ValueError,
            "`scores_out` must not hold a NaN, got one.",
        ),
        (
            lambda: uncertainty.fpr95(INSIDE, 1.0),
            ValueError,
            "`scores_out` must have one axis, got shape ().",
        ),
        (
            lambda: uncertainty.aurc(INSIDE, OUTSIDE),
            ValueError,
            "`loss` must have the shape of `uncertainty`, (150,), got (90,).",
        ),
        (lambda: uncertainty.auroc("a", OUTSIDE), TypeError, "`scores_in` must be a real number"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("inside", [jnp.array([0.1, 0.2], jnp.bfloat16), np.float16([0.1, 0.2])])
def test_half_precision_and_integers(inside):
    assert uncertainty.auroc(inside, np.array([1, 2])) == 1
    assert uncertainty.fpr95(inside, np.array([1, 2])) == 0
