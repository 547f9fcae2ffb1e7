"""Attention dropout: every weight its own decision, unless shared."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(19)


def test_batch_and_heads_have_their_own_decisions():
    weights = jax.nn.softmax(standard_normal(KEY, (4, 3, 16, 16)))
    y = jaxdrop.attention_dropout(KEY, weights, 0.25)
    masks = np.asarray(y != 0).reshape(12, -1)
    assert len({mask.tobytes() for mask in masks}) == 12
    np.testing.assert_array_equal(y, jaxdrop.dropout(KEY, weights, 0.25))
    # Rows sum to one in the mean.
    sums = np.asarray(y.sum(-1)).ravel()
    assert abs(sums.mean() - 1) < 5 * sums.std() / np.sqrt(sums.size)


def test_shared_as_flax_shares_them():
    y = jaxdrop.attention_dropout(KEY, jnp.ones((4, 3, 16, 16)), 0.25, broadcast_dims=(0, 1))
    assert (y == y[:1, :1]).all()
