"""Loops within `shard_map`: eight devices give what one gives."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxdrop
from jaxdrop import _carries, mc, uncertainty
from jaxdrop._types import PyTree
from tests.devices import make_mesh
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
X = standard_normal(1, (64, 3))


def predict(key: jax.Array, x: jax.Array) -> jax.Array:
    return jaxdrop.dropout(key, x, 0.5)


def estimated(x: jax.Array, count: int | mc.Until = 8) -> PyTree:
    reducers = [mc.Moments(groups=4), mc.Categorical(groups=4), mc.Quantiles((0.5,))]
    return mc.estimate(predict, KEY, x, num_samples=count, reducers=reducers, chunk_size=3)[:2]


def accumulated(x: jax.Array) -> PyTree:
    state = mc.accumulate(predict, KEY, x, num_samples=8, reducers=mc.Moments(groups=4), chunk_size=4)
    return jnp.swapaxes(state.reduced["mean"], 0, 1)


def temperature(x: jax.Array) -> jax.Array:
    return uncertainty.fit_temperature(x, jnp.arange(len(x)) % 3).temperature[None]


def chosen(x: jax.Array, configurations: int = 1024) -> uncertainty.Selection:
    probs = jax.nn.softmax(x.reshape(2, -1, 3))
    return uncertainty.batch_bald(KEY, probs, 3, num_configurations=configurations)


CALLS = {
    "accumulate": accumulated,
    "batch_bald": chosen,
    "batch_bald by draws": lambda x: chosen(x, 3),
    "estimate": estimated,
    "fit_temperature": temperature,
    "until": lambda x: estimated(x, mc.Until(0.5, 12, every=8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_eight_devices_give_what_one_gives(name: str):
    mesh = make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("data")
    call: Callable[[jax.Array], PyTree] = CALLS[name]
    found = jax.jit(jax.shard_map(call, mesh=mesh, in_specs=spec, out_specs=spec))(X)
    parts = [jax.jit(call)(part) for part in jnp.split(X, 8)]
    expected = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def test_elsewhere_a_carry_is_left_alone():
    carry = {"a": 1, "b": jnp.ones(2)}
    assert _carries.varying(lambda _: pytest.fail("the body was traced"), carry) is carry
