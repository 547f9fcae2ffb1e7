"""Every public function on every kind of mesh; that values are those of one device is in `test_modes`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxdrop
from jaxdrop import _meshes, uncertainty
from jaxdrop._types import PyTree
from tests.calls import CALLS, Call, is_key
from tests.calls.meshes import OF_FLAX, partition, placed
from tests.devices import make_mesh
from tests.normals import standard_normal

KEY = jax.random.key(0)
TRACED = {name: one for name, one in CALLS.items() if one.traced}
# Optax's line search and the evaluated numbers of a traced program do not vary over the mesh, as the
# docstrings say.
UNCHECKED = {"mc.moments", "uncertainty.fit_vector_scaling"}


def mesh_of(kind: AxisType) -> Mesh:
    return make_mesh((2, 2), ("a", "b"), (kind,) * 2)


def traced(one: Call, kind: AxisType) -> None:
    mesh = mesh_of(kind)
    with jax.set_mesh(mesh):
        jax.jit(one.run).trace(*placed(mesh, one.fresh()))


def mapped(one: Call, checked: bool) -> None:
    """Each device runs the call with its part of the examples."""

    def part(*args: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[None], one.run(*args))

    specs = jax.tree.map(lambda leaf: partition(leaf, None), one.args)
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        call = jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=P("a"), check_vma=checked)
        jax.eval_shape(call, *placed(mesh, one.fresh(), None))


def on_each(one: Call) -> None:
    """`pmap` of a stack of two calls."""

    def stack(leaf: jax.Array) -> jax.Array:
        return jax.random.split(leaf, 2) if is_key(leaf) else jnp.stack([leaf, leaf])

    jax.eval_shape(jax.pmap(one.run), *jax.tree.map(stack, one.fresh()))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACED)
def test_it_is_traced_on_every_mesh(name: str):
    one = TRACED[name]
    traced(one, AxisType.Auto)
    if name not in OF_FLAX:
        traced(one, AxisType.Explicit)
    mapped(one, checked=name not in UNCHECKED)
    if one.args and hasattr(jax, "pmap"):
        on_each(one)


def put(array: jax.Array, mesh: Mesh, *axes: str | None) -> jax.Array:
    return jax.device_put(array, jax.NamedSharding(mesh, P(*axes)))


@pytest.mark.slow
def test_results_are_sharded_as_their_examples():
    """Also where an axis that is summed over is sharded, and where examples are gathered."""
    x, kernel = jnp.ones((8, 4, 6)), jnp.arange(18.0).reshape(6, 3)
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        rows, weights = put(x, mesh, "a", None, "b"), put(kernel, mesh, "b", None)
        y = jaxdrop.shakeout(KEY, rows, weights, 0.5, constant=0.1)
        assert _meshes.partition(y) == P("a", None, None)
        y, _ = jaxdrop.variational_dropout(KEY, rows, put(kernel, mesh, "a", None), jnp.zeros(()))
        assert _meshes.partition(y) == P("a", None, None)
        seen = []
        y = jaxdrop.subset_depth(KEY, rows, 0.5, branch=lambda x: seen.append(_meshes.partition(x)) or x)
        assert _meshes.partition(y) == P("a", None, "b")
        jaxdrop.subset_depth(KEY, rows, 0.6, branch=lambda x: seen.append(_meshes.partition(x)) or x)
        assert seen == [P("a", None, "b"), P(None, None, "b")]  # three examples cannot be shared by two
    np.testing.assert_allclose(y, jaxdrop.subset_depth(KEY, x, 0.5, branch=lambda x: x))


def test_undirected_edges_whose_ends_are_on_every_device():
    ends = {"senders": jnp.arange(8) % 3, "receivers": jnp.arange(8) % 2}
    expected = jaxdrop.drop_edge(KEY, jnp.ones(8), 0.5, undirected=True, **ends)
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        weights = put(jnp.ones(8), mesh, "a")
        found = jaxdrop.drop_edge(KEY, weights, 0.5, undirected=True, **ends)
        assert _meshes.partition(found) == P("a")
    np.testing.assert_array_equal(found, expected)


def test_wrong_values_on_an_explicit_mesh_are_still_seen():
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        scores = put(jnp.full(8, jnp.nan), mesh, "a")
        with pytest.raises(ValueError, match="`scores_in` must not hold a NaN"):
            uncertainty.auroc(scores, scores)


def test_without_an_explicit_mesh_nothing_is_moved():
    x, kernel = jnp.ones((4, 6)), jnp.ones((6, 3))
    assert _meshes.of_product(x, kernel) is None
    assert _meshes.like(x, x) is x
    assert _meshes.on_automatic_axes(lambda x: x, x) is x


@pytest.mark.parametrize("jit", [False, True])
def test_a_product_of_rows_on_a_mesh_that_is_not_set(jit: bool):
    rows = NamedSharding(mesh_of(AxisType.Explicit), P("a", None))
    x, kernel = standard_normal(KEY, (8, 6)), jnp.ones((6, 3))
    call = functools.partial(jaxdrop.shakeout, KEY, rate=0.5, constant=0.1)
    found = (jax.jit(call) if jit else call)(jax.device_put(x, rows), kernel)
    np.testing.assert_allclose(found, call(x, kernel), rtol=1e-6)


@pytest.mark.slow
def test_a_weighted_quantile_on_a_mesh_that_is_not_set():
    scores, weights = standard_normal(KEY, (8,)), jnp.arange(8.0)
    given = jax.device_put((scores, weights), NamedSharding(mesh_of(AxisType.Explicit), P("a")))
    found, expected = (
        uncertainty.fit_weighted_quantile(*both, level=0.5)(both[1]) for both in (given, (scores, weights))
    )
    np.testing.assert_array_equal(found, expected)
    assert _meshes.partition(found) == P("a")


def test_a_call_where_some_axes_are_manual_and_others_explicit():
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        x = put(jnp.ones((4, 6)), mesh, "a", "b")
        run = jax.shard_map(
            lambda x: jaxdrop.dropout(jax.random.key(0), x, 0.3),
            mesh=mesh,
            in_specs=P(None, "b"),
            out_specs=P(None, "b"),
            axis_names={"b"},
        )
        assert jax.typeof(jax.jit(run)(x)).sharding.spec == P("a", "b")
