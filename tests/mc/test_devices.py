"""Meshes with any axes: results of one device, stated shardings, weights that stay sharded."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import jaxdrop
from jaxdrop import mc
from jaxdrop.mc import _devices
from tests.devices import make_mesh
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
X = standard_normal(1, (8, 6))
KEYS = jax.random.split(jax.random.key(2))
WEIGHTS = standard_normal(KEYS[0], (6, 16)), standard_normal(KEYS[1], (16, 4))


def net(weights: tuple, key: jax.Array, x: jax.Array) -> jax.Array:
    return jaxdrop.dropout(key, jax.nn.relu(x @ weights[0]), 0.5) @ weights[1]


def predictor(weights: tuple = WEIGHTS) -> jax.tree_util.Partial:
    return jax.tree_util.Partial(net, weights)


def users_mesh(kind: AxisType = AxisType.Auto) -> Mesh:
    return make_mesh((2, 2, 2), ("data", "fsdp", "model"), axis_types=(kind,) * 3)


def put(mesh: Mesh, array: jax.Array, *axes: str | None) -> jax.Array:
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*axes)))


def close(a, b) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b)


def leading(array: jax.Array, count: int) -> tuple:
    return (*array.sharding.spec, None, None, None)[:count]


SPECS = [
    (PartitionSpec("data", "fsdp"), 8, ("data", "fsdp")),
    (PartitionSpec("data", "fsdp"), 7, (None, "fsdp")),
    (PartitionSpec(None, ("data", "fsdp")), 8, (None, ("data", "fsdp"))),
    (PartitionSpec(("data", "fsdp")), 8, (("data", "fsdp"), None)),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize(("spec", "count", "expected"), SPECS)
def test_any_axes_give_what_one_device_gives(
    spec: PartitionSpec, count: int, expected: tuple, kind: AxisType
):
    mesh = users_mesh(kind)
    weights = put(mesh, WEIGHTS[0], "fsdp", "model"), put(mesh, WEIGHTS[1], None, "model")
    options = {"num_samples": count, "mesh": mesh, "spec": spec}
    samples = mc.sample(predictor(weights), KEY, X, **options)
    close(samples, mc.sample(predictor(), KEY, X, num_samples=count))
    assert leading(samples, 2) == expected
    if kind == AxisType.Auto:
        assert samples.sharding.spec[2] == "model"  # the compiler's own
    found = mc.estimate(predictor(weights), KEY, X, **options, reducers=mc.Categorical())
    close(found, mc.estimate(predictor(), KEY, X, num_samples=count, reducers=mc.Categorical()))
    for leaf in jax.tree.leaves((found.value, found.standard_error)):
        assert leading(leaf, 1) == expected[1:]


def test_sharded_weights_are_not_gathered():
    mesh = users_mesh()
    weights = put(mesh, WEIGHTS[0], None, "model"), put(mesh, WEIGHTS[1], "model", None)

    @jax.jit
    def run(weights: tuple, x: jax.Array) -> jax.Array:
        options = {"num_samples": 8, "mesh": mesh, "spec": PartitionSpec("data", "fsdp")}
        return mc.sample(predictor(weights), KEY, x, **options)

    text = run.lower(weights, put(mesh, X, "fsdp")).compile().as_text()
    assert "all-reduce(" in text
    assert not re.findall(r"(all-gather|all-to-all|collective-permute)\(", text)


def test_a_named_axis_beside_one_of_the_users():
    mesh = make_mesh((4, 2), ("batch", "model"))
    weights = put(mesh, WEIGHTS[0], None, "model"), put(mesh, WEIGHTS[1], "model")
    samples = mc.sample(predictor(weights), KEY, X, num_samples=4, mesh=mesh)
    close(samples, mc.sample(predictor(), KEY, X, num_samples=4))
    assert leading(samples, 2) == (None, "batch")


@pytest.mark.slow
def test_data_sets():
    options = {"batch_size": 4, "num_samples": 8, "reducers": mc.Moments()}
    spec = PartitionSpec("data", ("fsdp", "model"))
    x = np.asarray(X)
    found = mc.estimate_dataset(predictor(), KEY, x, **options, mesh=users_mesh(), spec=spec)
    close(found, mc.estimate_dataset(predictor(), KEY, x, **options))


@pytest.mark.slow
def test_a_state_on_one_mesh_continues_on_another():
    options = {"reducers": mc.Moments(), "mesh": users_mesh()}
    part = mc.accumulate(predictor(), KEY, X, num_samples=8, spec=PartitionSpec("data", "fsdp"), **options)
    spec = PartitionSpec("model", "data")
    whole = mc.accumulate(predictor(), KEY, X, num_samples=20, spec=spec, state=part, **options)
    alone = mc.estimate(predictor(), KEY, X, num_samples=20, reducers=mc.Moments())
    close(mc.finish(mc.Moments(), whole), alone)


BAD = [
    ({"mesh": None}, ValueError, "`spec` must be given with a `mesh`, got .*data.* alone"),
    ({"spec": None}, ValueError, "or `spec` must name the axes to use, got data, fsdp, model."),
    ({"spec": ("data",)}, TypeError, "`spec` must be a `jax.sharding.PartitionSpec`, got a tuple."),
    ({"mesh": jax.devices()}, TypeError, "`mesh` must be a `jax.sharding.Mesh`, got a list."),
    ({"spec": PartitionSpec("tensor")}, ValueError, r"`spec` must name axes of `mesh` \(data, fsdp, model\)"),
    ({"spec": PartitionSpec(None, None, "data")}, ValueError, "`spec` must have at most two entries"),
    (
        {"x": X[:5], "spec": PartitionSpec(None, "fsdp")},
        ValueError,
        r"multiple of 2 examples.*\(fsdp\), got 5",
    ),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD)
def test_bad_input(wrong: dict, error: type, message: str):
    options = {"x": X, "num_samples": 2, "mesh": users_mesh(), "spec": PartitionSpec("data")}
    with pytest.raises(error, match=message):
        mc.sample(predictor(), KEY, **(options | wrong))


def test_layouts():
    mesh = users_mesh()
    layout = _devices.make_layout(mesh, PartitionSpec(("data", "model"), None), 8)
    assert layout == (mesh, ("data", "model"), ())
    assert layout.shards(layout.samples) == 4
    assert layout.shards(layout.batch) == 1
    assert _devices.make_layout(None, None, 8) is None


def test_arrays_of_examples_are_sharded_over_them():
    layout = _devices.make_layout(users_mesh(), PartitionSpec(None, ("data", "fsdp")), 8)
    rows, number = _devices.shard_examples((jnp.ones((8, 3)), jnp.ones(())), layout, 8)
    assert leading(rows, 1) == (("data", "fsdp"),)
    assert number.sharding.is_fully_replicated
