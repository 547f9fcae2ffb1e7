"""Sums of penalties."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _sums


def test_sums_and_their_gradients():
    w = jnp.array([1.0, -2.0, 0.0])
    assert (_sums.absolute(w), _sums.squares(w)) == (3, 5)
    np.testing.assert_array_equal(jax.grad(_sums.absolute)(w), [1, -1, 0])
    assert _sums.total([]) == 0
    assert _sums.total(iter([w[0], w[1]])) == -1
