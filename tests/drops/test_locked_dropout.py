"""Locked dropout: the same at every step, another for every example and feature."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(15)


@pytest.mark.parametrize("time_axis", [0, 1, -2])
def test_one_mask_for_all_steps(time_axis):
    y = jaxdrop.locked_dropout(KEY, jnp.ones((40, 30, 20)), 0.25, time_axis=time_axis)
    first = y.take(jnp.array([0]), axis=time_axis)
    assert (y == first).all()
    dropped = np.asarray(first == 0)
    assert abs(dropped.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / dropped.size)


def test_it_is_dropout_with_broadcast_dims():
    x = standard_normal(KEY, (4, 7, 6))
    np.testing.assert_array_equal(
        jaxdrop.locked_dropout(KEY, x, 0.3), jaxdrop.dropout(KEY, x, 0.3, broadcast_dims=(1,))
    )
    with pytest.raises(
        ValueError, match=re.escape("`time_axis` must lie in [-3, 2] for an array of rank 3, got 3.")
    ):
        jaxdrop.locked_dropout(KEY, x, 0.3, time_axis=3)
