"""Standard errors against those of the bootstrap, and the spread over many simulated data sets."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
LOSS = RNG.exponential(size=80)
DOUBT = (LOSS + RNG.normal(size=80)).round(1)
WHERE = RNG.uniform(size=80) < 0.7
SETS = 200


def classified(key: jax.Array, sharper: float) -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(key)
    logits = 2 * jax.random.normal(keys[0], (600, 3))
    return jax.nn.softmax(sharper * logits), jax.random.categorical(keys[1], logits)


@pytest.mark.slow
def test_the_error_of_a_mean():
    found = uncertainty.mean_with_error(LOSS)
    np.testing.assert_allclose(found, (LOSS.mean(), LOSS.std(ddof=1) / np.sqrt(80)), rtol=1e-5)
    masked = np.where(WHERE, LOSS, np.nan)
    some = uncertainty.mean_with_error(LOSS[WHERE])
    np.testing.assert_allclose(uncertainty.mean_with_error(masked, where=WHERE), some, rtol=1e-5)
    assert np.isnan(uncertainty.mean_with_error(LOSS[:1]).standard_error)
    # A million values far from 0.
    many = 1e3 + RNG.normal(size=1_000_000).astype(np.float32)
    np.testing.assert_allclose(uncertainty.mean_with_error(many).standard_error, 1e-3, rtol=0.01)


@pytest.mark.slow
def test_masks_leave_examples_out():
    some = uncertainty.aurc_with_error(DOUBT[WHERE], LOSS[WHERE])
    np.testing.assert_allclose(some.value, uncertainty.aurc(DOUBT[WHERE], LOSS[WHERE]), rtol=1e-5)
    masked = np.where(WHERE, DOUBT, np.nan), np.where(WHERE, LOSS, np.nan)
    found = jax.jit(uncertainty.aurc_with_error)(*masked, where=WHERE)
    np.testing.assert_allclose(found, some, rtol=1e-5)
    probs, labels = map(np.asarray, classified(KEY, 2.0))
    where = RNG.uniform(size=600) < 0.7
    some = uncertainty.ece_with_error(probs[where], labels[where])
    np.testing.assert_allclose(some.value, uncertainty.ece(probs[where], labels[where]))
    masked = np.where(where[:, None], probs, np.nan), np.where(where, labels, 255)
    found = uncertainty.ece_with_error(*masked, where=where)
    np.testing.assert_allclose(found, some, rtol=1e-4)


@pytest.mark.slow
def test_errors_are_the_spread_over_many_data_sets():
    """The spread of 200 is known to 5 %. ECE of a calibrated model has up to a quarter more, as stated."""

    def of_all(key: jax.Array) -> dict[str, uncertainty.Score]:
        keys = jax.random.split(key, 3)
        doubt = jnp.round(jax.random.normal(keys[0], (300,)), 1)
        loss = (jax.random.uniform(keys[1], (300,)) < jax.nn.sigmoid(doubt - 1)).astype(float)
        sharp, calibrated = classified(keys[2], 2.0), classified(keys[2], 1.0)
        return {
            "aurc": uncertainty.aurc_with_error(doubt, loss),
            "ece": uncertainty.ece_with_error(*sharp),
            "ece of equal mass": uncertainty.ece_with_error(*sharp, mode="equal_mass"),
            "ece, calibrated": uncertainty.ece_with_error(*calibrated),
        }

    for name, found in jax.jit(jax.vmap(of_all))(jax.random.split(KEY, SETS)).items():
        spread, stated = np.std(found.value, ddof=1), np.sqrt(np.mean(found.standard_error**2))
        uncertain = 5 * np.hypot(1 / np.sqrt(2 * SETS), np.std(found.standard_error) / stated / np.sqrt(SETS))
        excess = 0.25 if name == "ece, calibrated" else 0
        assert abs(stated / spread - 1 - excess) < uncertain, name


@pytest.mark.slow
def test_the_bootstrap_is_close_to_the_formulas():
    """Of 200 resamples, 5 %; several scores of one key, and pairs that stay together."""

    def scores(doubt: jax.Array, loss: jax.Array) -> dict[str, jax.Array]:
        return {"mean": loss.mean(), "aurc": uncertainty.aurc(doubt, loss), "same": jnp.mean(loss - loss)}

    found = uncertainty.bootstrap(KEY, scores, DOUBT, LOSS, paired=True)
    expected = {
        "mean": uncertainty.mean_with_error(LOSS),
        "aurc": uncertainty.aurc_with_error(DOUBT, LOSS),
    }
    for name, score in expected.items():
        np.testing.assert_allclose(found.value[name], score.value, rtol=1e-5)
        np.testing.assert_allclose(found.standard_error[name], score.standard_error, rtol=5 / np.sqrt(400))
    assert found.standard_error["same"] == 0
    again = uncertainty.bootstrap(KEY, scores, DOUBT, LOSS, paired=True)
    np.testing.assert_array_equal(again.standard_error["aurc"], found.standard_error["aurc"])


@pytest.mark.slow
def test_the_bootstrap_of_two_sets_resamples_each_by_itself():
    """Sets of one size too; a tree of arrays stays together."""
    inside, outside = DOUBT, DOUBT + 1

    def auroc(inside: tuple[jax.Array, jax.Array], outside: jax.Array) -> jax.Array:
        return uncertainty.auroc(inside[0] + 0 * inside[1], outside)

    found = uncertainty.bootstrap(KEY, auroc, (inside, LOSS), outside, paired=False)
    expected = uncertainty.auroc_with_error(inside, outside)
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-5)
    np.testing.assert_allclose(found.standard_error, expected.standard_error, rtol=5 / np.sqrt(400))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.bootstrap(KEY, uncertainty.auroc, DOUBT, LOSS[:9], paired=True),
            ValueError,
            "`arrays` must share a first axis of examples (`paired=False` is for sets of different "
            "examples), got shapes (80,), (9,).",
        ),
        (
            lambda: uncertainty.bootstrap(KEY, jnp.mean, 1.0, paired=False),
            ValueError,
            "each of `arrays` must share a first axis of examples, got shapes ().",
        ),
        (lambda: uncertainty.bootstrap(KEY, jnp.mean, paired=True), ValueError, "a first axis of examples"),
        (
            lambda: uncertainty.bootstrap(KEY, jnp.mean, LOSS, paired=True, num_resamples=1),
            ValueError,
            "`num_resamples` must be at least 2, got 1.",
        ),
        (
            lambda: uncertainty.bootstrap(KEY, uncertainty.auroc, DOUBT * np.nan, LOSS, paired=False),
            ValueError,
            "`scores_in` must not hold a NaN",
        ),
        (lambda: uncertainty.mean_with_error(np.ones((2, 2))), ValueError, "`values` must have one axis"),
        (
            lambda: uncertainty.bootstrap(0, jnp.mean, LOSS, paired=True),
            TypeError,
            "`key` must be a PRNG key",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
