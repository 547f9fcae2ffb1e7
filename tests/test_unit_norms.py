"""The norm of a unit's weights, and cosines between units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdrop import _unit_norms, penalties
from tests.devices import make_mesh
from tests.normals import standard_normal


def test_norm_against_numpy_with_a_gradient_of_zero_at_zero():
    w = jnp.array([[3.0, 0.0], [4.0, 0.0]])
    np.testing.assert_array_equal(_unit_norms.unit_norm(w, (0,)), [[5.0, 0.0]])
    grad = jax.grad(lambda w: _unit_norms.unit_norm(w, (0,)).sum())(w)
    np.testing.assert_allclose(grad, [[0.6, 0.0], [0.8, 0.0]], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-33, 1e-23, 1.0, 1e18, 1e30])
def test_squares_neither_overflow_nor_underflow(size):
    w = standard_normal(0, (50, 4)) * jnp.float32(size)
    wide = np.asarray(w, np.float64)
    norms = np.sqrt((wide**2).sum(0, keepdims=True))
    np.testing.assert_allclose(_unit_norms.unit_norm(w, (0,)), norms, rtol=1e-6)
    grad = jax.grad(lambda w: _unit_norms.unit_norm(w, (0,)).sum())(w)
    np.testing.assert_allclose(grad, wide / norms, rtol=1e-5)
    plain = jnp.sqrt(jnp.sum(w**2, 0, keepdims=True))
    if size == 1.0:  # bit for bit
        np.testing.assert_array_equal(_unit_norms.unit_norm(w, (0,)), plain)


@pytest.mark.parametrize("bad", [jnp.inf, -jnp.inf, jnp.nan])
def test_the_norm_of_what_is_not_finite(bad):
    w = jnp.array([[1.0, bad], [2.0, 3.0]])
    np.testing.assert_array_equal(_unit_norms.unit_norm(w, (0,)), [[np.float32(5**0.5), abs(bad)]])


@pytest.mark.parametrize(("size", "norm"), [(1e-37, 1e3), (1e30, 1e-10), (1.0, 0.0), (2.0, 1.0)])
def test_scaling_to_a_norm(size, norm):
    w = jnp.array([[3.0], [4.0]]) * jnp.float32(size)
    scaled = _unit_norms.scaled_to(w, _unit_norms.unit_norm(w, (0,)), jnp.float32(norm))
    np.testing.assert_allclose(scaled, np.array([[0.6], [0.8]]) * norm, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [(None, "a"), (None, None, "b"), ("b", "a"), (None, "a", "b")])
def test_cosines_between_units_on_several_devices(axes):
    """Of any explicit sharding, those of one device."""
    w = standard_normal(0, (2, 8, 6))
    mesh = make_mesh((4, 2), ("a", "b"), (AxisType.Explicit,) * 2)
    sharded = jax.device_put(w, NamedSharding(mesh, PartitionSpec(*axes)))

    def penalty(w):
        return sum(penalties.orthogonal({"kernel": w}, 1.0, unit_axis=axis) for axis in (-1, -2, (0, 2)))

    found, slopes = jax.jit(jax.value_and_grad(penalty))(sharded)
    np.testing.assert_allclose(penalty(sharded), found, rtol=1e-6)
    np.testing.assert_allclose(found, penalty(w), rtol=1e-6)
    np.testing.assert_allclose(slopes, jax.grad(penalty)(w), rtol=1e-4, atol=1e-7)
    assert slopes.sharding.is_equivalent_to(sharded.sharding, 3)


def test_a_unit_of_zeros_is_orthogonal_to_all():
    np.testing.assert_allclose(
        _unit_norms.cosines(jnp.array([[3.0, 1.0, 0.0], [4.0, 0.0, 0.0]]), (), (1,)),
        [[0, 0.6, 0], [0.6, 0, 0], [0, 0, 0]],
        rtol=1e-6,
    )
