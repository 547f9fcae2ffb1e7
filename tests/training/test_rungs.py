"""The parts of a tuner's program: the order of settings, rows of sharded states, the key of a score."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdrop.training import TrainState, _rungs, choose, grid
from tests.devices import make_mesh


def test_settings_are_ordered_as_by_choose():
    """Rates of errors have many ties, which sums in float32 would break."""
    scores = np.random.default_rng(0).integers(0, 20, (200, 3)).astype(np.float32) / 60
    scores[7, 0], scores[11, 2] = np.nan, np.inf
    narrow = np.argsort(scores.mean(1), kind="stable")
    choice = choose(grid(rate=np.arange(200), seed=[0, 1, 2]), scores.ravel())
    order = np.asarray(jax.jit(_rungs._order)(jnp.asarray(scores)))
    np.testing.assert_array_equal(choice.rank[::3][order], np.arange(200))
    assert (narrow != order).any()


def test_rows_stay_sharded_where_their_number_allows_it():
    mesh = make_mesh((2,), ("runs",), (AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.arange(12.0).reshape(4, 3), NamedSharding(mesh, PartitionSpec("runs")))
        for places, spec in (([1, 3], PartitionSpec("runs", None)), ([3], PartitionSpec(None, None))):
            found = jax.jit(_rungs.rows)({"x": x}, np.array(places))["x"]
            assert jax.typeof(found).sharding.spec == spec
            np.testing.assert_array_equal(found, np.asarray(x)[places])


def test_the_key_of_a_score_is_that_of_no_step():
    key = jax.random.key(0)
    state = TrainState(jnp.int32(5), key, jnp.ones(2), ())
    found = _rungs._score(lambda state, key, valid: jax.random.uniform(key) + valid, state, jnp.float32(1))
    assert found == 1 + jax.random.uniform(jax.random.fold_in(key, np.uint32(2**32 - 1 - 5)))
    broken = state._replace(params={"a": jnp.ones(2), "b": jnp.array([1, jnp.inf]), "count": jnp.arange(2)})
    assert np.isnan(_rungs._score(lambda *_: 0, broken, ()))
