"""Coverage on exchangeable data, and sets against MAPIE and float64 loops."""

import functools
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores.sets.aps import APSConformityScore
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin

from jaxdrop import uncertainty
from tests.splits import band, loop_quantile, over_splits

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
CLASSES = 5
KEYS = jax.random.split(jax.random.key(0), 2)


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and a model of them that is too sure."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(count, CLASSES))
    labels = (special.softmax(logits, axis=-1).cumsum(-1) > rng.uniform(size=(count, 1))).argmax(-1)
    return np.float32(special.softmax(2 * logits, axis=-1)), labels


PROBS, LABELS = drawn(99, 1)
NEW, _ = drawn(60, 2)


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose features are its probabilities."""

    def fit(self, x, y):
        self.classes_ = np.arange(CLASSES)
        return self

    def predict_proba(self, x):
        return x

    def predict(self, x):
        return x.argmax(-1)


def loop_scores(probs, penalty=0.0, free=0.0, share=0.0) -> np.ndarray:
    """The score of each class: the cumulative probability, less a share of the class's."""
    scores = np.zeros(probs.shape)
    for n, p in enumerate(np.float64(probs)):
        for k in range(len(p)):
            rank = 1 + (p > p[k]).sum()
            scores[n, k] = p[p >= p[k]].sum() - share * p[k] + penalty * max(rank - free, 0)
    return scores


def test_lac_is_that_of_mapie():
    peer = SplitConformalClassifier(Given().fit(None, None), 0.8, conformity_score="lac", prefit=True)
    peer.conformalize(PROBS, LABELS)
    _, sets = peer.predict_set(NEW)
    for fit in (uncertainty.fit_lac, jax.jit(uncertainty.fit_lac)):
        np.testing.assert_array_equal(fit(PROBS, LABELS, level=0.8)(NEW), sets[..., 0])


def test_scores_of_aps_are_those_of_mapie():
    peer, _ = APSConformityScore.get_true_label_cumsum_proba(LABELS, PROBS, np.arange(CLASSES))
    fitted = uncertainty.fit_aps(PROBS, LABELS, level=0.7)
    np.testing.assert_allclose(1 + fitted.threshold, loop_quantile(peer[:, 0], 70), rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"penalty": 0.1, "free": 2}, {"penalty": 0.3, "free": 0.5}])
def test_raps_is_that_of_a_loop(options):
    fitted = uncertainty.fit_raps(PROBS, LABELS, level=0.7, **{"penalty": 0, "free": 0, **options})
    scores = loop_scores(PROBS, **options)[np.arange(99), LABELS]
    np.testing.assert_allclose(1 + fitted.threshold, loop_quantile(scores, 70), rtol=1e-5)
    all_scores = loop_scores(NEW, **options) - 1
    clear = np.abs(all_scores - float(fitted.threshold)) > 1e-5
    np.testing.assert_array_equal(
        np.asarray(fitted(NEW))[clear], (all_scores <= float(fitted.threshold))[clear]
    )


def test_random_scores_take_off_the_same_share_of_each_class():
    fitted = uncertainty.fit_aps(PROBS, LABELS, level=0.7, key=KEYS[0])
    share = np.asarray(jax.random.uniform(KEYS[0], (99, 1), jnp.float32))
    scores = loop_scores(PROBS) - share * PROBS
    np.testing.assert_allclose(
        1 + fitted.threshold, loop_quantile(scores[np.arange(99), LABELS], 70), rtol=1e-5
    )
    plain = uncertainty.fit_aps(PROBS, LABELS, level=0.7)
    assert fitted(NEW, key=KEYS[1]).sum() < plain(NEW).sum()


def exchangeable(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    normal, choice = jax.random.split(key)
    logits = 1.5 * jax.random.normal(normal, (count, CLASSES))
    return jax.nn.softmax(2 * logits), jax.random.categorical(choice, logits)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fit", "randomized"),
    [
        (uncertainty.fit_lac, False),
        (uncertainty.fit_aps, False),
        (uncertainty.fit_aps, True),
        (functools.partial(uncertainty.fit_raps, penalty=0.05, free=2), True),
    ],
    ids=["lac", "aps", "aps randomized", "raps randomized"],
)
def test_sets_cover_as_often_as_they_say(fit, randomized):
    """One new example for each of 10,000 fits to 19: covered with 16 / 20, or more with ties. The
    score of an APS that is not randomized has one tie, at 1, and is far from 0.8 of it here.
    """

    def covered(key):
        data, new, fitting, asking = jax.random.split(key, 4)
        options = ({"key": fitting}, {"key": asking}) if randomized else ({}, {})
        fitted = fit(*exchangeable(data, 19), level=0.8, **options[0])
        probs, labels = exchangeable(new, 1)
        return fitted(probs, **options[1])[0, labels[0]]

    share = jax.jit(jax.vmap(covered))(jax.random.split(jax.random.key(3), 10_000)).mean()
    assert abs(share - 0.8) <= 5 * np.sqrt(0.8 * 0.2 / 10_000)


def test_too_few_examples_give_all_classes():
    probs, labels = PROBS[:8], LABELS[:8]
    assert uncertainty.fit_lac(probs, labels, level=0.9)(NEW).all()
    assert uncertainty.fit_aps(probs, labels, level=0.9)(NEW).all()


def test_lac_keeps_the_digits_of_small_probabilities():
    probs = jnp.array([[1.0, 3e-9, 1e-9]] * 19)
    fitted = uncertainty.fit_lac(probs, jnp.ones(19, int), level=0.9)
    np.testing.assert_array_equal(fitted(probs[0]), [True, True, False])


def test_fits_pass_through_jit():
    fitted = uncertainty.fit_aps(PROBS, LABELS, level=0.9, key=KEYS[0])
    applied = jax.jit(lambda fitted, probs, key: fitted(probs, key=key))(fitted, NEW, KEYS[1])
    np.testing.assert_array_equal(applied, fitted(NEW, key=KEYS[1]))
    at = jax.jit(lambda level: uncertainty.fit_lac(PROBS, LABELS, level=level).threshold)(0.9)
    assert at == uncertainty.fit_lac(PROBS, LABELS, level=0.9).threshold


def test_traced_labels_out_of_range_break_nothing():
    fitted = jax.jit(uncertainty.fit_lac)(PROBS, jnp.full(99, CLASSES), level=0.9)
    assert fitted(NEW).shape == NEW.shape


@pytest.mark.slow
def test_a_mask_leaves_examples_out():
    where = RNG.uniform(size=99) < 0.7
    probs, labels = np.where(where[:, None], PROBS, np.nan), np.where(where, LABELS, -100)
    for fit in (uncertainty.fit_lac, uncertainty.fit_aps):
        found = jax.jit(fit)(probs, labels, level=0.8, where=where)
        expected = fit(PROBS[where], LABELS[where], level=0.8)
        np.testing.assert_allclose(found.threshold, expected.threshold, rtol=1e-6)


@pytest.mark.parametrize("fit", [uncertainty.fit_lac, uncertainty.fit_aps])
def test_a_traced_label_out_of_range_gives_full_sets(fit):
    labels = LABELS.copy()
    labels[0] = 255
    fitted = jax.jit(fit)(PROBS, labels, level=0.8)
    assert np.isnan(fitted.threshold)
    assert fitted(NEW).all()


def confident(count: int, saturated: bool) -> tuple[np.ndarray, np.ndarray]:
    """A model that is right 19 times in 20, with probabilities that sum to 1 in float32 after the first."""
    rng = np.random.default_rng(5)
    probs = np.full((count, CLASSES), 0.0 if saturated else 1e-12)
    probs[:, 1:] *= rng.uniform(0.5, 1, (count, CLASSES - 1))
    probs[:, 0] = 1 - probs[:, 1:].sum(-1)
    return np.float32(probs), np.where(rng.uniform(size=count) < 0.95, 0, rng.integers(1, CLASSES, count))


@pytest.mark.parametrize("saturated", [False, True])
def test_sets_of_a_confident_model_are_small_without_a_key(saturated: bool):
    """All cumulative probabilities round to 1; the score of a class is what comes after it."""
    probs, labels = confident(500, saturated)
    sets = uncertainty.fit_aps(probs, labels, level=0.9)(probs)
    assert sets.sum(-1).mean() <= 1.1
    assert sets[np.arange(500), labels].mean() >= 0.85


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.fit_lac(PROBS, LABELS, level=1.0),
            ValueError,
            "`level` must lie in (0, 1), got 1.",
        ),
        (
            lambda: uncertainty.fit_lac(PROBS, LABELS, level=0),
            ValueError,
            "`level` must lie in (0, 1), got 0.",
        ),
        (lambda: uncertainty.fit_lac(PROBS, LABELS, level=[0.5]), ValueError, "`level` must be a scalar"),
        (
            lambda: uncertainty.fit_lac(PROBS[0], LABELS[0], level=0.5),
            ValueError,
            "`probs` must be of shape [N, K]",
        ),
        (
            lambda: uncertainty.fit_aps(PROBS, LABELS[:1], level=0.5),
            ValueError,
            "`labels` must have the shape",
        ),
        (
            lambda: uncertainty.fit_aps(PROBS[:0], LABELS[:0], level=0.5),
            ValueError,
            "`probs` must not be empty",
        ),
        (
            lambda: uncertainty.fit_raps(PROBS, LABELS, level=0.5, penalty=-1.0),
            ValueError,
            "`penalty` must be finite and at least 0, got -1.",
        ),
        (
            lambda: uncertainty.fit_aps(PROBS, LABELS, level=0.5, key=KEYS[0])(NEW),
            ValueError,
            "`key` must be given, as it was for the fit, got None.",
        ),
        (
            lambda: uncertainty.fit_aps(PROBS, LABELS, level=0.5)(NEW, key=KEYS[0]),
            ValueError,
            "`key` must be None, as it was for the fit, got",
        ),
        (
            lambda: uncertainty.fit_lac(PROBS, LABELS, level=0.5, groups=LABELS),
            ValueError,
            "`num_groups` must be given, as `groups` is, got None.",
        ),
        (
            lambda: uncertainty.fit_lac(PROBS, LABELS, level=0.5, by_class=True, weights=PROBS[:, 0]),
            ValueError,
            "`weights` must be None with `by_class`, got an array.",
        ),
        (
            lambda: uncertainty.fit_lac(PROBS, LABELS, level=0.5, by_class=True, num_groups=2),
            ValueError,
            "`num_groups` must be None with `by_class`, got 2.",
        ),
        (
            lambda: uncertainty.LAC(jnp.zeros(3))(NEW),
            ValueError,
            "`threshold` must broadcast to shape (60, 5), got (3,).",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_aps_takes_one_key():
    probs, labels = np.full((5, 2), 0.5), np.zeros(5, int)
    with pytest.raises(ValueError, match="`key` must be one PRNG key"):
        uncertainty.fit_aps(probs, labels, level=0.5, key=jax.random.split(jax.random.key(0)))


def test_each_class_has_the_threshold_of_its_examples():
    """A class of too few examples is in all sets."""
    labels = np.where(np.arange(99) < 3, 4, LABELS % 4)
    for fit in (uncertainty.fit_lac, uncertainty.fit_aps):
        found = jax.jit(functools.partial(fit, level=0.8, by_class=True))(PROBS, labels)
        expected = [fit(PROBS, labels, level=0.8, where=labels == k).threshold for k in range(CLASSES)]
        np.testing.assert_array_equal(found.threshold, expected)
        assert np.isinf(expected[4])
        sets = found(NEW)
        assert sets[:, 4].all()
        each = [fit(PROBS, labels, level=0.8, where=labels == k)(NEW)[:, k] for k in range(CLASSES)]
        np.testing.assert_array_equal(sets, np.stack(each, axis=-1))


def test_groups_and_weights_of_examples():
    """Each group has the sets of a fit to it, and weights of 0 and 1 are a mask."""
    groups, where = np.arange(99) % 3, RNG.uniform(size=99) < 0.8
    some, new = where & (groups == 1), np.ones(60, int)
    options = {"labels": LABELS, "level": 0.8}

    @jax.jit
    def sets(probs: jax.Array) -> list[tuple[jax.Array, ...]]:
        def each(fit: Callable[..., Callable[..., jax.Array]]) -> tuple[jax.Array, ...]:
            grouped = fit(probs, **options, groups=groups, num_groups=3, where=where)
            weighted = fit(probs, **options, weights=some.astype(np.float32))
            masked = fit(probs, **options, where=some)
            return grouped(NEW, groups=new), weighted(NEW, weights=new), masked(NEW)

        return [each(fit) for fit in (uncertainty.fit_lac, uncertainty.fit_aps)]

    for grouped, weighted, expected in sets(PROBS):
        np.testing.assert_array_equal(grouped, expected)
        np.testing.assert_array_equal(weighted, expected)


def test_classes_cover_where_one_threshold_fails():
    """Class 0 is rare and hard: its own threshold covers it."""

    def one(key: jax.Array) -> jax.Array:
        labels = jnp.where(jnp.arange(200) < 30, 0, 1 + jnp.arange(200) % 2)
        scale = jnp.where(labels == 0, 0.3, 3.0)[:, None] * jax.nn.one_hot(labels, 3)
        old, new = jax.nn.softmax(scale[None] + jax.random.normal(key, (2, 200, 3)))
        own, common = (uncertainty.fit_lac(old, labels, level=0.8, by_class=by) for by in (True, False))
        return jnp.stack([own(new), common(new)])[:, :30, 0].mean(1)

    found = over_splits(one, 2)
    mean, error = band(0.8, 30, 30)
    assert abs(found[:, 0].mean() - mean) <= error
    assert found[:, 1].mean() < 0.8 - error
