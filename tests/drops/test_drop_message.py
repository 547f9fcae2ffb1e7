"""Drop message: dropout of the message matrix, not of the features."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop

KEY = jax.random.key(32)


def test_each_edge_has_its_own_mask_and_sums_keep_their_mean():
    """A node with 2000 neighbors sends each another mask; their sum is that of 2000 messages."""
    x, senders = jnp.array([[1.0, -2.0, 3.0, 4.0]]), jnp.zeros(2000, int)
    messages = jaxdrop.drop_message(KEY, x[senders], 0.25)
    assert len(np.unique(np.asarray(messages) != 0, axis=0)) == 16
    total = jax.ops.segment_sum(messages, senders, 1)
    assert (np.abs(total - 2000 * x) < 5 * np.abs(x) * np.sqrt(2000 * 0.25 / 0.75)).all()
    np.testing.assert_array_equal(messages, jaxdrop.dropout(KEY, x[senders], 0.25))


def test_a_rate_per_edge_and_edge_weights():
    rates = jnp.array([[0.0], [1.0], [0.0]])
    y = jaxdrop.drop_message(KEY, jnp.ones((3, 5)), rates)
    np.testing.assert_array_equal(y, jnp.broadcast_to(1 - rates, (3, 5)))
    with pytest.raises(ValueError, match=re.escape("`messages` must be of shape [E, F], got (3,).")):
        jaxdrop.drop_message(KEY, jnp.ones(3), 0.5)
