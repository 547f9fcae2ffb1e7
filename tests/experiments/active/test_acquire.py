"""Each method chooses images without labels, and what it is named for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.active import acquire
from jaxdrop import uncertainty
from tests.normals import standard_normal

NUM = 3


def disagreement() -> jax.Array:
    """Samples `[4, 40, 3]` of a pool; the first ten are alike and the most disputed."""
    logits = 2 * standard_normal(0, (4, 40, 3))
    disputed = 8 * jax.nn.one_hot(jnp.array([0, 1, 0, 1]), 3)
    return jax.nn.softmax(logits.at[:, :10].set(disputed[:, None]))


@pytest.mark.parametrize("method", acquire.METHODS)
def test_labels_are_asked_for_once(method):
    free = jnp.arange(40) % 4 != 0
    chosen = np.asarray(acquire.METHODS[method](jax.random.key(1), disagreement(), free, NUM))
    assert len(set(chosen.tolist())) == NUM
    assert np.asarray(free)[chosen].all()


def test_chance_follows_the_key_alone():
    free, probs = jnp.ones(40, bool), disagreement()
    first, same, other = (
        acquire.METHODS[acquire.RANDOM](jax.random.key(i), p, free, NUM)
        for i, p in ((1, probs), (1, probs[::-1]), (2, probs))
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_the_others_take_the_highest_scores():
    probs, free = disagreement(), jnp.ones(40, bool)
    scores = {
        "max entropy": uncertainty.total_entropy,
        "variation ratio": uncertainty.variation_ratio,
        "BALD": uncertainty.mutual_information,
    }
    for method, score in scores.items():
        values = np.asarray(score(probs))
        chosen = np.asarray(acquire.METHODS[method](jax.random.key(1), probs, free, NUM))
        assert values[chosen].min() >= np.sort(values)[-NUM] - 1e-6


def test_batches_of_batch_bald_are_not_alike():
    probs, free = disagreement(), jnp.ones(40, bool)
    alike, apart = (
        np.asarray(acquire.METHODS[method](jax.random.key(1), probs, free, NUM))
        for method in ("BALD", "BatchBALD")
    )
    # Of ten that tell the same, all agree on one being asked for; only BALD asks for more.
    assert (alike < 10).sum() > 1
    assert (apart < 10).sum() == 1
