"""The axes of a unit's weights, and their norm."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import _unit_norms


@pytest.mark.parametrize(
    ("unit_axis", "expected"), [(-1, (0, 1, 2)), (2, (0, 1, 3)), ((-2, -1), (0, 1)), ((0, 1, 2, 3), ())]
)
def test_axes(unit_axis, expected):
    assert _unit_norms.axes_of_unit(jnp.ones((2, 3, 4, 5)), unit_axis) == expected


def test_an_axis_that_is_not_there():
    with pytest.raises(
        ValueError, match=re.escape("`unit_axis` must lie in [-1, 0] for an array of rank 1, got -2.")
    ):
        _unit_norms.axes_of_unit(jnp.ones(3), -2)


def test_norm_against_numpy_with_a_gradient_of_zero_at_zero():
    w = jnp.array([[3.0, 0.0], [4.0, 0.0]])
    np.testing.assert_array_equal(_unit_norms.unit_norm(w, (0,)), [[5.0, 0.0]])
    grad = jax.grad(lambda w: _unit_norms.unit_norm(w, (0,)).sum())(w)
    np.testing.assert_allclose(grad, [[0.6, 0.0], [0.8, 0.0]], rtol=1e-6)
