"""BatchBALD against the sum over all labels in float64, and against BALD."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.full(3, 0.4), size=(6, 8))  # [T, B, K]


def joint_information(probs: np.ndarray, indices) -> float:
    """The mutual information of the labels of some examples and the samples, summed over all labels."""
    samples, _, classes = probs.shape
    joint = np.array(
        [
            np.prod([probs[:, i, label] for i, label in zip(indices, labels, strict=True)], axis=0)
            for labels in itertools.product(range(classes), repeat=len(indices))
        ]
    )
    return special.entr(joint.mean(1)).sum() - special.entr(joint).sum() / samples


def greedy(probs: np.ndarray, num: int) -> tuple[list[int], list[float]]:
    indices, scores = [], []
    for _ in range(num):
        left = [i for i in range(probs.shape[1]) if i not in indices]
        each = [joint_information(probs, [*indices, i]) for i in left]
        indices.append(left[int(np.argmax(each))])
        scores.append(max(each))
    return indices, scores


def test_bald_and_max_entropy_are_the_parts_of_the_entropy():
    information, entropy = uncertainty.bald(PROBS), uncertainty.max_entropy(PROBS)
    np.testing.assert_allclose(
        information, [joint_information(PROBS, [i]) for i in range(8)], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(entropy, special.entr(PROBS.mean(0)).sum(-1), rtol=1e-5)


def test_top():
    scores = jnp.array([0.5, 2.0, 0.5, jnp.inf, -jnp.inf])
    best = jax.jit(uncertainty.top, static_argnums=1)(scores, 4)
    np.testing.assert_array_equal(best.indices, [3, 1, 0, 2])
    np.testing.assert_array_equal(best.scores, [np.inf, 2, 0.5, 0.5])


def test_batch_bald_of_one_is_bald():
    one, best = uncertainty.batch_bald(KEY, PROBS, 1), uncertainty.top(uncertainty.bald(PROBS), 1)
    np.testing.assert_array_equal(one.indices, best.indices)
    np.testing.assert_allclose(one.scores, best.scores, rtol=1e-5)


def test_batch_bald_is_the_greedy_sum_over_all_labels():
    indices, scores = greedy(PROBS, 4)
    found = uncertainty.batch_bald(KEY, PROBS, 4)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("num_configurations", [1, 5, 20_000])
def test_drawn_configurations_tend_to_the_sum(num_configurations):
    """Whatever was chosen, the score is that of the choice; the gain of a step is a mean of values
    in [0, log 3], so its standard error is below log(3) / 2 / sqrt(C).
    """
    probs = np.repeat(PROBS, 2, axis=0)
    found = uncertainty.batch_bald(KEY, probs[:, :5], 5, num_configurations=num_configurations)
    assert sorted(np.asarray(found.indices)) == [0, 1, 2, 3, 4]
    expected = [joint_information(probs, np.asarray(found.indices[: i + 1])) for i in range(5)]
    error = np.sqrt(5) * np.log(3) / 2 / np.sqrt(max(num_configurations, 12))
    np.testing.assert_allclose(found.scores, expected, atol=5 * error)
    assert (np.diff(found.scores) >= 0).all()


@pytest.mark.slow
def test_drawn_configurations_are_close_where_the_sum_was_not_taken():
    """The same pool with and without the draw: two of three labels drawn."""
    drawn = uncertainty.batch_bald(KEY, PROBS, 3, num_configurations=2)
    few = uncertainty.batch_bald(KEY, np.repeat(PROBS, 300, axis=0), 3, num_configurations=2)
    exact = uncertainty.batch_bald(KEY, PROBS, 3)
    assert drawn.indices[0] == few.indices[0] == exact.indices[0]
    np.testing.assert_array_equal(few.indices, exact.indices)
    np.testing.assert_allclose(few.scores, exact.scores, atol=5 * np.sqrt(3) * np.log(3) / 2 / np.sqrt(1800))


def test_batch_bald_does_not_take_the_same_twice():
    """Three examples that say the same of the parameters: one is enough."""
    same = np.repeat(PROBS[:, :1], 3, axis=1)
    probs = np.concatenate([same, PROBS[:, 1:4]], axis=1)
    sure = np.zeros((6, 1, 3))
    sure[np.arange(6), 0, np.arange(6) % 3] = 1
    found = uncertainty.batch_bald(KEY, np.concatenate([sure, sure, probs], axis=1), 2)
    assert found.indices[0] == 0
    assert found.indices[1] != 1
    np.testing.assert_allclose(found.scores[0], np.log(3), rtol=1e-6)


@pytest.mark.parametrize("num_configurations", [4, 1024])
def test_probabilities_of_0_and_1(num_configurations):
    """Labels that identify the sample have all the information, log T."""
    probs = np.eye(2)[[[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]]]
    found = uncertainty.batch_bald(KEY, probs, 3, num_configurations=num_configurations)
    np.testing.assert_array_equal(found.indices, [0, 1, 2])
    np.testing.assert_allclose(found.scores, [np.log(2), np.log(4), np.log(4)], rtol=1e-5)


def test_a_long_batch_does_not_underflow():
    """Fifty labels: their joint probability is below the smallest float."""
    probs = RNG.dirichlet(np.full(10, 5.0), size=(4, 60))
    found = uncertainty.batch_bald(KEY, probs, 60, num_configurations=64)
    assert np.isfinite(found.scores).all()
    assert len(set(np.asarray(found.indices).tolist())) == 60
    assert found.scores[-1] <= np.log(4) + 1e-3


@pytest.mark.slow
def test_batch_bald_under_jit_and_with_key_reuse_checked():
    with jax.debug_key_reuse(True):
        found = uncertainty.batch_bald(jax.random.key(5), PROBS, 4, num_configurations=9)
    run = jax.jit(lambda key, probs: uncertainty.batch_bald(key, probs, 4, num_configurations=9))
    np.testing.assert_array_equal(run(jax.random.key(5), PROBS).indices, found.indices)


def test_top_ranks_float64_before_the_cast():
    scores = 1 - 1e-10 * np.array([3.0, 1.0, 2.0, 0.0])
    np.testing.assert_array_equal(uncertainty.top(scores, 3).indices, [3, 1, 2])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.batch_bald(KEY, PROBS, 9),
            ValueError,
            "`num` must be at most 8 (the size of the pool), got 9.",
        ),
        (lambda: uncertainty.batch_bald(KEY, PROBS, 0), ValueError, "`num` must be at least 1, got 0."),
        (
            lambda: uncertainty.batch_bald(KEY, PROBS[0], 1),
            ValueError,
            "`probs` must be of shape [T, B, K], got (8, 3).",
        ),
        (lambda: uncertainty.batch_bald(KEY, PROBS[:, :0], 1), ValueError, "`probs` must not be empty"),
        (lambda: uncertainty.batch_bald(KEY, 2 * PROBS, 1), ValueError, "`probs` must"),
        (
            lambda: uncertainty.batch_bald(KEY, PROBS, 1, num_configurations=0),
            ValueError,
            "`num_configurations` must be at least 1, got 0.",
        ),
        (lambda: uncertainty.top(np.ones(3), 1.0), TypeError, "`num` must be an integer, got 1.0."),
        (lambda: uncertainty.top([np.nan], 1), ValueError, "`scores` must not hold a NaN, got one."),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_batch_bald_takes_a_key_even_where_it_draws_nothing():
    with pytest.raises(TypeError, match="`key` must be a PRNG key"):
        uncertainty.batch_bald(3, PROBS, 2)  # pyright: ignore[reportArgumentType]
