"""Scores of logits and of neighbors, against float64 and scikit-learn."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn.neighbors import NearestNeighbors

from jaxdrop import uncertainty
from jaxdrop.uncertainty import ood

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
LOGITS = np.float32(5 * RNG.normal(size=(60, 4)))
WHERE = RNG.uniform(size=60) < 0.6
LOGIT_SCORES = (uncertainty.max_probability, uncertainty.max_logit, uncertainty.energy)
BANK = np.float32(RNG.normal(size=(300, 8)) * RNG.uniform(0.1, 9, size=(300, 1)))
NEW = np.float32(RNG.normal(size=(50, 8)))


@pytest.mark.slow
def test_scores_of_logits_are_those_of_float64():
    wide = np.float64(LOGITS)
    others = np.sort(special.softmax(wide, -1), -1)[:, :-1].sum(-1)
    np.testing.assert_allclose(jax.jit(uncertainty.max_probability)(LOGITS), others, rtol=1e-5)
    np.testing.assert_allclose(uncertainty.max_logit(LOGITS), -wide.max(-1))
    expected = -3 * special.logsumexp(wide / 3, axis=-1)
    np.testing.assert_allclose(uncertainty.energy(LOGITS, temperature=3.0), expected, rtol=1e-5)
    # Of Monte-Carlo samples: the logarithm of the mean probabilities.
    mean = special.softmax(wide.reshape(6, 10, 4), -1).mean(0)
    found = uncertainty.max_probability(np.float32(np.log(mean)))
    np.testing.assert_allclose(found, 1 - mean.max(-1), rtol=1e-4)


def test_scores_of_logits_are_higher_where_the_model_knows_less():
    for score in LOGIT_SCORES:
        known = score(jnp.array([[8.0, 0.0, 0.0], [0.0, 9.0, -jnp.inf]]))
        unknown = score(jnp.array([[0.5, 0.0, 0.1], [0.1, 0.3, 0.2]]))
        assert known.max() < unknown.min()


def test_masked_logits_may_hold_anything():
    logits = np.where(WHERE[:, None], LOGITS, np.nan)
    for score in LOGIT_SCORES:
        expected = np.where(WHERE, score(LOGITS), np.nan)
        np.testing.assert_allclose(score(logits, where=WHERE), expected, rtol=1e-6)


def test_traced_logits_that_are_not_valid_give_nan():
    logits = jnp.array([[1.0, 3.0], [jnp.inf, 0.0], [-jnp.inf, -jnp.inf], [jnp.nan, 0.0]])
    for found in jax.jit(lambda logits: [score(logits) for score in LOGIT_SCORES])(logits):
        np.testing.assert_array_equal(jnp.isnan(found), [False, True, True, True])
    # By itself, a compiled energy of NaNs was minus infinity.
    assert jnp.isnan(jax.jit(uncertainty.energy)(jnp.array([[1.0, jnp.nan, 2.0], [0.0, 1.0, 3.0]]))[0])


def test_no_example_has_no_score():
    for score in LOGIT_SCORES:
        assert np.isnan(score(LOGITS, where=np.zeros(60, bool))).all()


def test_probabilities_in_half_precision_are_refused():
    probs = special.softmax(np.repeat(LOGITS, 9, axis=1) / 5, axis=-1)
    for score in LOGIT_SCORES:
        with pytest.raises(ValueError, match="`logits` must be logits"):
            score(jnp.asarray(probs, jnp.bfloat16))
    with pytest.raises(ValueError, match="`logits` must not be normalized"):
        uncertainty.energy(jnp.asarray(np.log(probs), jnp.bfloat16))


def test_distances_to_neighbors_are_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(ood, "_AT_A_TIME", 900)  # blocks of three
    wide = [np.float64(x) / np.linalg.norm(np.float64(x), axis=-1, keepdims=True) for x in (BANK, NEW)]
    distances = NearestNeighbors(n_neighbors=300).fit(wide[0]).kneighbors(wide[1])[0]
    for k in (7, 300):
        found = uncertainty.knn_distance(NEW.reshape(5, 10, 8), BANK, k)
        np.testing.assert_allclose(found.reshape(-1), distances[:, k - 1], rtol=1e-5)


@pytest.mark.slow
def test_distances_of_close_neighbors_are_precise():
    """From inner products in float32 they would be wrong in the first digit, or 0."""
    near = NEW[:1] + np.float32(1e-4) * np.eye(8, dtype=np.float32)
    bank = np.concatenate([BANK, near])
    wide = [np.float64(x) / np.linalg.norm(np.float64(x), axis=-1, keepdims=True) for x in (bank, NEW[:1])]
    expected = np.sort(np.linalg.norm(wide[0] - wide[1], axis=-1))
    for k in (1, 8):
        np.testing.assert_allclose(uncertainty.knn_distance(NEW[:1], bank, k), expected[k - 1], rtol=5e-3)
    assert uncertainty.knn_distance(1e30 * NEW[:1], 1e-30 * NEW, 1) < 1e-6


def test_a_mask_leaves_neighbors_out():
    where = RNG.uniform(size=300) < 0.5
    expected = uncertainty.knn_distance(NEW, BANK[where], 3)
    bank = np.where(where[:, None], BANK, np.nan)
    for fun in (uncertainty.knn_distance, jax.jit(uncertainty.knn_distance, static_argnums=2)):
        np.testing.assert_allclose(fun(NEW, bank, 3, where=where), expected, rtol=1e-6)
    # Fewer than k; vectors of 0.
    assert np.isnan(fun(NEW, BANK, 3, where=np.arange(300) < 2)).all()
    new = NEW * (np.arange(50) > 0)[:, None]
    np.testing.assert_array_equal(np.isnan(fun(new, BANK, 3, where=where)), np.arange(50) == 0)
    assert np.isnan(
        fun(NEW, BANK * ~(np.arange(300) == np.flatnonzero(where)[0])[:, None], 3, where=where)
    ).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.max_logit(special.softmax(LOGITS, -1)),
            ValueError,
            "`logits` must be logits (the logarithms of probabilities are), got probabilities.",
        ),
        (
            lambda: uncertainty.energy(special.log_softmax(LOGITS, -1)),
            ValueError,
            "`logits` must not be normalized, got log probabilities, whose energy is 0.",
        ),
        (
            lambda: uncertainty.energy(LOGITS, temperature=0.0),
            ValueError,
            "`temperature` must be above 0, got 0.",
        ),
        (
            lambda: uncertainty.max_probability(np.float32([[1.0, np.inf]])),
            ValueError,
            "`logits` must have a finite maximum in each example, got inf.",
        ),
        (
            lambda: uncertainty.max_logit(LOGITS[:, :1]),
            ValueError,
            "`logits` must have at least 2 classes along the last axis (for one logit z, stack 0 and z)",
        ),
        (
            lambda: uncertainty.knn_distance(NEW, BANK, 301),
            ValueError,
            "`k` must be at most 300 (the examples of `bank`), got 301.",
        ),
        (
            lambda: uncertainty.knn_distance(NEW[:, :7], BANK, 1),
            ValueError,
            "`features` must have 8 along the last axis, got 7.",
        ),
        (
            lambda: uncertainty.knn_distance(0 * NEW, BANK, 1),
            ValueError,
            "`features` must not hold vectors of 0, which have no direction, got one.",
        ),
        (lambda: uncertainty.knn_distance(NEW, NEW[0], 1), ValueError, "`bank` must be of shape [N, D]"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
