"""Samples that know their number: the same in any chunks, counted, and refused where they do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from tests.devices import make_mesh

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
X = jnp.ones((4, 3))
ROWS = jnp.arange(1.0, 6.0)


def balanced(key: jax.Array, t: jax.Array, x: jax.Array) -> jax.Array:
    """A design over six samples: each feature is kept in half of them, as the key of the call orders it."""
    orders = jax.vmap(lambda key: jax.random.permutation(key, 6))(jax.random.split(key, 3))
    return jnp.where(orders[:, t][None] < 3, 2 * x, 0)


def test_a_design_is_the_same_in_any_chunks_and_on_devices():
    predict = mc.Indexed(balanced, max_samples=6)
    expected = mc.sample(predict, KEY, X, num_samples=6)
    np.testing.assert_array_equal(expected.mean(0), X)
    mesh = make_mesh((2, 2), ("samples", "batch"))
    for options in ({"chunk_size": 4, "shared": True}, {"mesh": mesh, "chunk_size": 2}):
        np.testing.assert_array_equal(mc.sample(predict, KEY, X, num_samples=6, **options), expected)


def test_rows_are_dealt_in_turn_and_counts_are_checked():
    predict = mc.Indexed(lambda row, key, t, x: row * x + t, ROWS, max_samples=8)
    found = mc.sample(predict, KEY, X, num_samples=8, chunk_size=3)[:, 0, 0]
    np.testing.assert_array_equal(found, np.arange(8) % 5 + 1 + np.arange(8))
    with pytest.raises(ValueError, match=r"`num_samples` must be at most 8, the samples or members .* got 9"):
        mc.sample(predict, KEY, X, num_samples=9)
    options = {"reducers": mc.Moments()}
    with pytest.raises(ValueError, match=r"`num_samples` must be at most 2 from sample 6 on, .* got 3"):
        mc.accumulate(predict, KEY, X, num_samples=3, first=6, **options)
    with pytest.raises(ValueError, match=r"`max_samples` must be at most 8, .* got 20"):
        mc.estimate(predict, KEY, X, num_samples=mc.Until(0.1, 20), **options)
    part = mc.accumulate(predict, KEY, X, num_samples=2, first=5, **options)
    with pytest.raises(ValueError, match=r"`num_samples` must be at most 3 from sample 5 on, .* got 4"):
        mc.accumulate(predict, KEY, X, num_samples=4, state=part, **options)
    more = jax.jit(lambda state: mc.accumulate(predict, KEY, X, num_samples=4, state=state, **options))(part)
    assert int(more.count) == 3  # of a traced state the error is not known, so the samples end


def test_what_does_not_fit_is_refused():
    predict = mc.Indexed(balanced)
    with pytest.raises(TypeError, match=r"`predict` must be given as it is to a function of `jaxdrop.mc`"):
        predict(KEY, X)
    with pytest.raises(ValueError, match=r"`rows` must hold arrays that share one non-empty leading axis"):
        mc.sample(mc.Indexed(lambda row, key, t, x: x, (ROWS, ROWS[:2])), KEY, X, num_samples=2)
    with pytest.raises(ValueError, match=r"`max_samples` must be at least 1"):
        mc.sample(mc.Indexed(balanced, max_samples=0), KEY, X, num_samples=2)
    with pytest.raises(ValueError, match=r"`predict` must return outputs that depend on its key"):
        mc.sample(mc.Indexed(lambda key, t, x: x), KEY, X, num_samples=2)
