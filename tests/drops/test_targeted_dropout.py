"""Targeted dropout: who is a candidate, and how often it goes."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxdrop
from tests.devices import make_mesh
from tests.normals import standard_normal

KEY = jax.random.key(25)
W = standard_normal(KEY, (40, 30))


def test_rate_one_prunes_the_least_weights_of_each_unit():
    y = np.asarray(jaxdrop.targeted_dropout(KEY, W, 1.0, fraction=0.25))
    order = np.argsort(np.abs(W), axis=0)
    expected = np.array(W)
    np.put_along_axis(expected, order[:10], 0.0, axis=0)
    np.testing.assert_array_equal(y, expected)


def test_candidates_go_at_the_rate_and_others_never():
    pruned = np.asarray(jaxdrop.targeted_dropout(KEY, W, 1.0, fraction=0.5)) == 0
    run = jax.vmap(lambda key: jaxdrop.targeted_dropout(key, W, 0.3, fraction=0.5))
    y = np.asarray(run(jax.random.split(KEY, 50)))
    assert (y[:, ~pruned] == np.asarray(W)[~pruned]).all()
    gone = (y[:, pruned] == 0).mean()
    assert abs(gone - 0.3) < 5 * np.sqrt(0.3 * 0.7 / (50 * pruned.sum()))


def test_whole_units_by_their_norm():
    y = np.asarray(jaxdrop.targeted_dropout(KEY, W, 1.0, fraction=0.2, unit=True))
    least = np.argsort(np.linalg.norm(W, axis=0))[:6]
    assert (y[:, least] == 0).all()
    np.testing.assert_array_equal(np.delete(y, least, 1), np.delete(np.asarray(W), least, 1))


def test_kernels_of_convolutions_and_equal_weights():
    kernel = W.reshape(4, 5, 2, 30)
    y = jaxdrop.targeted_dropout(KEY, kernel, 1.0, fraction=0.25)
    np.testing.assert_array_equal(y.reshape(40, 30), jaxdrop.targeted_dropout(KEY, W, 1.0, fraction=0.25))
    equal = jnp.ones((4, 4))
    np.testing.assert_array_equal(jaxdrop.targeted_dropout(KEY, equal, 1.0, fraction=0.5), equal)


def test_what_is_dropped_has_no_gradient():
    grad = jax.grad(lambda w: jaxdrop.targeted_dropout(KEY, w, 0.5, fraction=0.5).sum())(W)
    np.testing.assert_array_equal(grad, jaxdrop.targeted_dropout(KEY, W, 0.5, fraction=0.5) != 0)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [False, True])
def test_it_is_the_same_in_every_setting(unit: bool):
    """Compiled or not, with no promotion of ranks, and of columns that lie on several devices."""

    def prune(w):
        return jaxdrop.targeted_dropout(KEY, w, 1.0, fraction=0.25, unit=unit)

    w = W[:, :16]
    expected = prune(w)
    with jax.disable_jit():
        np.testing.assert_array_equal(prune(w), expected)
    with jax.numpy_rank_promotion("raise"):
        np.testing.assert_array_equal(jax.jit(prune)(w), expected)
    mesh = make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        for spec in (P(None, "b"), P("a"), P("a", "b")):
            y = jax.jit(prune)(jax.device_put(w, NamedSharding(mesh, spec)))
            np.testing.assert_array_equal(y, expected)
    mesh = make_mesh((2,), ("b",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(prune, mesh=mesh, in_specs=P(None, "b"), out_specs=P(None, "b"))(w)
    halves = [prune(half) for half in jnp.split(w, 2, axis=1)]
    np.testing.assert_array_equal(mapped, jnp.concatenate(halves, axis=1))


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("axes", [(None, "a"), ("b", "a"), (None, "a", "b")])
def test_kernels_that_lie_on_several_devices_by_their_inputs(axes, unit):
    def prune(w):
        return jaxdrop.targeted_dropout(KEY, w, 0.5, fraction=0.25, unit=unit)

    w = W[:, :16].reshape(2, -1, 16)
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)
    sharded = jax.device_put(w, NamedSharding(mesh, P(*axes)))
    np.testing.assert_array_equal(jax.jit(prune)(sharded), prune(w))
    slopes = jax.jit(jax.grad(lambda w: (prune(w) ** 2).sum()))(sharded)
    np.testing.assert_array_equal(slopes, 2 * prune(w))


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_units_whose_squares_are_no_float32(size):
    w = jnp.array([[3.0, 1.0, 2.0], [4.0, 1.0, 2.0]]) * jnp.float32(size)
    pruned = jaxdrop.targeted_dropout(KEY, w, 1.0, fraction=0.4, unit=True)
    np.testing.assert_array_equal(pruned, w.at[:, 1].set(0))


@pytest.mark.parametrize(
    ("error", "kernel", "fraction", "message"),
    [
        (ValueError, W, 1.5, "`fraction` must lie in [0, 1], got 1.5."),
        (TypeError, W, jnp.array([0.5]), "`fraction` must be a number known when tracing"),
        (ValueError, W[0], 0.5, "`kernel` must be of shape [..., O], got (30,)."),
    ],
)
def test_bad_input(error, kernel, fraction, message):
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.targeted_dropout(KEY, kernel, 0.5, fraction=fraction)
