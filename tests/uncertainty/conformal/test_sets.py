"""Coverage on exchangeable data, and sets against MAPIE and float64 loops."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores.sets.aps import APSConformityScore
from mapie.regression import ConformalizedQuantileRegressor
from scipy import special, stats
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from jaxdrop import uncertainty

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


class Column(RegressorMixin, BaseEstimator):
    """A regressor whose prediction is one of its features."""

    def __init__(self, column=0):
        self.column = column

    def fit(self, x, y):
        self.fitted_ = True
        return self

    def predict(self, x):
        return x[:, self.column]


def loop_scores(probs, penalty=0.0, free=0.0, share=0.0) -> np.ndarray:
    """The score of each class: the cumulative probability, less a share of the class's."""
    scores = np.zeros(probs.shape)
    for n, p in enumerate(np.float64(probs)):
        for k in range(len(p)):
            rank = 1 + (p > p[k]).sum()
            scores[n, k] = p[p >= p[k]].sum() - share * p[k] + penalty * max(rank - free, 0)
    return scores


def loop_quantile(scores: np.ndarray, percent: int) -> float:
    rank = -(-(len(scores) + 1) * percent // 100)
    return np.sort(scores)[rank - 1] if rank <= len(scores) else np.inf


@pytest.mark.parametrize("percent", [1, 7, 10, 29, 55, 57, 90, 95, 99])
@pytest.mark.parametrize("count", [9, 19, 99, 999])
def test_the_rank_of_the_quantile_is_exact(percent, count):
    scores = RNG.permutation(count) + 1.0
    expected = loop_quantile(scores, percent)
    assert uncertainty.conformal_quantile(scores, percent / 100) == expected


@pytest.mark.parametrize(("percent", "rank"), [(10, 100_001), (90, 900_001)])
def test_the_rank_among_a_million_is_not_rounded_down(percent: int, rank: int):
    assert uncertainty.conformal_quantile(jnp.arange(1.0, 1e6 + 1), percent / 100) == rank


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_a_level_of_half_precision_has_a_rank_of_its_own(dtype):
    level = jnp.asarray(0.9, dtype)
    expected = np.ceil(5000 * float(level))
    assert uncertainty.conformal_quantile(np.arange(1.0, 5000), level) == expected


def test_the_quantile_under_jit_and_of_several_columns():
    scores = RNG.normal(size=(19, 3)).astype(np.float32)
    expected = [uncertainty.conformal_quantile(column, 0.9) for column in scores.T]
    np.testing.assert_array_equal(jax.jit(uncertainty.conformal_quantile)(scores, 0.9), expected)
    assert uncertainty.conformal_quantile([1.0], 0.9) == np.inf


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


def test_cqr_is_that_of_mapie():
    y = RNG.normal(size=99)
    x = np.stack([RNG.normal(-0.5, 0.3, 99), RNG.normal(0.5, 0.3, 99)], axis=-1)
    x = np.concatenate([x, x.mean(-1, keepdims=True)], axis=-1)
    columns = [Column(column).fit(None, None) for column in range(3)]
    peer = ConformalizedQuantileRegressor(columns, 0.8, prefit=True)
    peer.conformalize(x, y)
    _, expected = peer.predict_interval(x, symmetric_correction=True)
    lower, upper = uncertainty.fit_cqr(x[:, 0], x[:, 1], y, level=0.8)(x[:, 0], x[:, 1])
    np.testing.assert_allclose(np.stack([lower, upper], axis=-1), expected[..., 0], rtol=1e-4, atol=1e-5)


def test_cqr_of_several_outputs_has_a_margin_for_each():
    lower, y = RNG.normal(size=(2, 50, 3))
    margin = jax.jit(uncertainty.fit_cqr)(lower, lower + 1, y, level=0.9).margin
    expected = [
        uncertainty.fit_cqr(lower[:, i], lower[:, i] + 1, y[:, i], level=0.9).margin for i in range(3)
    ]
    np.testing.assert_allclose(margin, expected, rtol=1e-6)


def exchangeable(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    normal, choice = jax.random.split(key)
    logits = 1.5 * jax.random.normal(normal, (count, CLASSES))
    return jax.nn.softmax(2 * logits), jax.random.categorical(choice, logits)


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


def test_intervals_cover_as_often_as_they_say():
    """Whatever the intervals were: here half as wide as they should be."""

    def covered(key):
        y = jax.random.normal(key, (20,))
        half = jnp.full(20, 0.5 * stats.norm.ppf(0.95))
        cqr = uncertainty.fit_cqr(-half[1:], half[1:], y[1:], level=0.9)
        lower, upper = cqr(-half[:1], half[:1])
        return uncertainty.coverage(lower, upper, y[:1])

    share = jax.jit(jax.vmap(covered))(jax.random.split(jax.random.key(4), 10_000)).mean()
    assert abs(share - 0.9) <= 5 * np.sqrt(0.9 * 0.1 / 10_000)


def test_too_few_examples_give_all_classes_and_the_whole_line():
    probs, labels = PROBS[:8], LABELS[:8]
    assert uncertainty.fit_lac(probs, labels, level=0.9)(NEW).all()
    assert uncertainty.fit_aps(probs, labels, level=0.9)(NEW).all()
    lower, upper = uncertainty.fit_cqr(jnp.zeros(8), jnp.ones(8), jnp.ones(8), level=0.9)(
        jnp.zeros(2), jnp.ones(2)
    )
    assert (lower == -jnp.inf).all()
    assert (upper == jnp.inf).all()
    assert uncertainty.coverage(lower, upper, jnp.zeros(2)) == 1


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


def test_traced_levels_and_labels_out_of_range_break_nothing():
    threshold = jax.jit(lambda level: uncertainty.conformal_quantile(jnp.arange(5.0), level))
    assert threshold(2.0) == np.inf
    assert threshold(-1.0) == 0
    fitted = jax.jit(uncertainty.fit_lac)(PROBS, jnp.full(99, CLASSES), level=0.9)
    assert fitted(NEW).shape == NEW.shape


def test_a_mask_leaves_examples_out():
    where = RNG.uniform(size=99) < 0.7
    probs, labels = np.where(where[:, None], PROBS, np.nan), np.where(where, LABELS, -100)
    for fit in (uncertainty.fit_lac, uncertainty.fit_aps):
        found = jax.jit(fit)(probs, labels, level=0.8, where=where)
        expected = fit(PROBS[where], LABELS[where], level=0.8)
        np.testing.assert_allclose(found.threshold, expected.threshold, rtol=1e-6)
    y = np.where(where, PROBS[:, 0], np.nan)
    found = uncertainty.fit_cqr(y - 1, y - 0.5, y, level=0.8, where=where)
    np.testing.assert_allclose(found.margin, 0.5, rtol=1e-5)
    scores, mask = RNG.normal(size=(19, 3)).astype(np.float32), RNG.uniform(size=(19, 3)) < 0.7
    expected = [uncertainty.conformal_quantile(scores[mask[:, i], i], 0.6) for i in range(3)]
    np.testing.assert_array_equal(uncertainty.conformal_quantile(scores, 0.6, where=mask), expected)


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


def test_a_quantile_is_not_rounded_below_a_score():
    scores = 1e8 + np.arange(1.0, 20)
    quantile = uncertainty.conformal_quantile(scores, 0.9)
    assert float(quantile) >= scores[17]
    assert int(uncertainty.conformal_quantile(jnp.array([2**24 + 1]), 0.5)) >= 2**24 + 1


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
            lambda: uncertainty.fit_cqr([np.inf], [1.0], [0.0], level=0.5),
            ValueError,
            "`lower` must be finite, got inf.",
        ),
        (
            lambda: uncertainty.fit_cqr([0.0], [1.0, 2.0], [0.0], level=0.5),
            ValueError,
            "`upper` must have the shape of `lower`, (1,), got (2,).",
        ),
        (lambda: uncertainty.conformal_quantile([], 0.5), ValueError, "`scores` must not be empty"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_cqr_of_several_outputs():
    lower = np.random.default_rng(3).normal(size=(50, 2)).astype(np.float32)
    fitted = uncertainty.fit_cqr(lower, lower + 1, lower + 0.5, level=0.9)
    down, up = fitted(lower, lower + 1)
    margin = np.asarray(fitted.margin, np.float64)
    for end, exact, outward in ((down, lower - margin, -1), (up, np.float64(lower + 1) + margin, 1)):
        assert (outward * (np.float64(end) - exact) >= 0).all()
        np.testing.assert_allclose(end, exact, rtol=2e-7)
    with pytest.raises(ValueError, match=r"`margin` must broadcast to shape \(4, 3\), got \(2,\)"):
        fitted(np.zeros((4, 3)), np.ones((4, 3)))


def test_aps_takes_one_key():
    probs, labels = np.full((5, 2), 0.5), np.zeros(5, int)
    with pytest.raises(ValueError, match="`key` must be one PRNG key"):
        uncertainty.fit_aps(probs, labels, level=0.5, key=jax.random.split(jax.random.key(0)))


def test_cqr_of_a_large_offset_covers():
    y = 1e6 + np.random.default_rng(0).random(999)
    ends = np.full(999, 1e6)
    cqr = uncertainty.fit_cqr(ends, ends, y, level=0.9)
    assert 0 <= np.float64(cqr.margin) - np.sort(y - 1e6)[899] <= 1e-7
    for given in (ends, ends.astype(np.float32)):
        for call in (cqr, lambda *both: jax.jit(lambda fitted, both: fitted(*both))(cqr, both)):
            assert uncertainty.coverage(*call(given, given), y).mean() >= 0.9
    lower, upper = jax.jit(lambda cqr: cqr(ends + 0.01, ends + 0.01))(cqr)
    assert (np.float64(lower) <= 1e6 + 0.01 - np.float64(cqr.margin)).all()
    assert (np.float64(upper) >= 1e6 + 0.01 + np.float64(cqr.margin)).all()
