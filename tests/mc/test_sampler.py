"""Samples: which they are, however they are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxdrop
from jaxdrop import mc
from tests.devices import make_mesh
from tests.mc import nets

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
PREDICT, X = nets.bound(), nets.inputs()


def test_sample_t_is_that_of_fold_in():
    samples = mc.sample(PREDICT, KEY, X, num_samples=5)
    assert samples.shape == (5, nets.BATCH, nets.CLASSES)
    for t in range(5):
        np.testing.assert_allclose(samples[t], PREDICT(jax.random.fold_in(KEY, t), X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 7, 32])
def test_the_size_of_the_chunks_makes_no_difference(chunk: int):
    def mask(key, x):
        return jaxdrop.dropout(key, x, 0.5)

    whole = mc.sample(mask, KEY, X, num_samples=40)
    np.testing.assert_array_equal(mc.sample(mask, KEY, X, num_samples=40, chunk_size=chunk), whole)
    assert len(np.unique(whole, axis=0)) == 40


def test_shared_is_one_function_of_all_inputs():
    same = jnp.broadcast_to(X[:1], X.shape)
    spread = np.ptp(mc.sample(PREDICT, KEY, same, num_samples=4), axis=1)
    assert (spread > 0).any()
    shared = mc.sample(PREDICT, KEY, same, num_samples=4, shared=True)
    np.testing.assert_allclose(np.ptp(shared, axis=1), 0, atol=1e-6)
    # And of other batches: the third row alone equals the third row of the batch.
    alone = mc.sample(PREDICT, KEY, X[2:3], num_samples=4, shared=True)
    np.testing.assert_allclose(
        mc.sample(PREDICT, KEY, X, num_samples=4, shared=True)[:, 2:3], alone, rtol=1e-5
    )


def test_trees_of_inputs_and_outputs():
    def predict(key, x):
        y = jaxdrop.dropout(key, x["a"], 0.5)
        return {"y": y, "count": jnp.full(len(x["b"]), 3)}

    samples = mc.sample(predict, KEY, {"a": X, "b": X[:, 0]}, num_samples=6, chunk_size=4)
    assert {name: leaf.shape for name, leaf in samples.items()} == {"y": (6, *X.shape), "count": (6, len(X))}


def test_new_weights_are_no_new_program():
    traces = []

    def predict(weight, key, x):
        traces.append(None)
        return jaxdrop.dropout(key, x, 0.5) @ weight

    def run(scale: float):
        weight = scale * jnp.ones((nets.INPUTS, 2))
        return mc.sample(jax.tree_util.Partial(predict, weight), KEY, X, num_samples=3)

    first, before = run(1.0), len(traces)
    np.testing.assert_allclose(run(2.0), 2 * first, rtol=1e-6)
    assert len(traces) == before


def test_numbers_that_are_equal_are_not_of_one_type():
    def run(number):
        predict = jax.tree_util.Partial(lambda a, key, x: jnp.zeros(len(x), int) + a, number)
        return mc.sample(predict, KEY, X, num_samples=2, allow_deterministic=True).dtype

    assert run(1) == jnp.int32
    assert run(1.0) == jnp.float32


def test_it_has_gradients_and_goes_under_jit_and_vmap():
    def loss(scale, key):
        return mc.sample(lambda key, x: scale * jaxdrop.dropout(key, x, 0.5), key, X, num_samples=4).sum()

    keys = jax.random.split(KEY, 3)
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(loss), (None, 0)))(2.0, keys)
    np.testing.assert_allclose(values, 2 * gradients, rtol=1e-5)


@pytest.mark.parametrize("axes", [{"samples": 8}, {"batch": 8}, {"samples": 4, "batch": 2}])
def test_eight_devices_give_what_one_gives(axes: dict):
    mesh = make_mesh(tuple(axes.values()), tuple(axes))

    def mask(key, x):
        return jaxdrop.dropout(key, x, 0.5)

    one = mc.sample(mask, KEY, X, num_samples=12)
    np.testing.assert_array_equal(mc.sample(mask, KEY, X, num_samples=12, mesh=mesh), one)


def test_an_explicit_and_an_automatic_axis():
    mesh = make_mesh((4, 2), ("samples", "batch"), axis_types=(AxisType.Explicit, AxisType.Auto))
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec()))
    one = mc.sample(PREDICT, KEY, X, num_samples=8)
    np.testing.assert_allclose(
        mc.sample(PREDICT, KEY, x, num_samples=8, mesh=mesh), one, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("count", [8, 10])
@pytest.mark.parametrize("given", [True, False])
def test_explicit_axes(count: int, given: bool):
    mesh = make_mesh((4, 2), ("samples", "batch"), axis_types=(AxisType.Explicit,) * 2)
    one = mc.sample(PREDICT, KEY, X, num_samples=count)
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("batch")))
        found = mc.sample(PREDICT, KEY, x, num_samples=count, mesh=mesh if given else None)
    spec = (("samples" if count == 8 else None), "batch", None) if given else (None, None, None)
    assert tuple(jax.typeof(found).sharding.spec) == spec
    np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-6)


BAD = [
    ({"num_samples": 0}, ValueError, "`num_samples` must be at least 1, got 0."),
    ({"num_samples": 2.5}, TypeError, "`num_samples` must be an integer, got 2.5."),
    ({"chunk_size": 0}, ValueError, "`chunk_size` must be at least 1, got 0."),
    (
        {"x": X[:0]},
        ValueError,
        r"`x` must hold arrays that share one non-empty leading axis, got shapes \(0, 6\)\.",
    ),
    ({"x": ()}, ValueError, "non-empty leading axis, got no arrays."),
    ({"predict": lambda key, x: x[0]}, ValueError, r"got \(6,\) for a batch of 8."),
    (
        {"predict": lambda key, x: PREDICT(key, x).squeeze(), "shared": True},
        ValueError,
        r"one row per example, got \(3,\) for a batch of 1.",
    ),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD)
def test_bad_input(wrong: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        mc.sample(**({"predict": PREDICT, "key": KEY, "x": X, "num_samples": 2} | wrong))


def test_bad_meshes():
    with pytest.raises(
        ValueError, match=r"`mesh` must have an axis named 'samples' or 'batch', or .* got data"
    ):
        mc.sample(PREDICT, KEY, X, num_samples=2, mesh=make_mesh((8,), ("data",)))
    with pytest.raises(ValueError, match="`x` must have a multiple of 8 examples"):
        mc.sample(PREDICT, KEY, X[:5], num_samples=2, mesh=make_mesh((8,), ("batch",)))


@pytest.mark.parametrize("shared", [False, True])
def test_a_predictor_that_ignores_its_key_is_refused(shared: bool):
    def predict(key, x):
        return jaxdrop.dropout(key, x, 0.0)

    with pytest.raises(ValueError, match="`predict` must return outputs that depend on its key, got none"):
        mc.sample(predict, KEY, X, num_samples=2, shared=shared)
    options = {"num_samples": 2, "shared": shared}
    samples = mc.sample(predict, KEY, X, **options, allow_deterministic=True)
    np.testing.assert_array_equal(samples, jnp.stack([X, X]))
    # The refusal is no matter of what is cached.
    with pytest.raises(ValueError, match="allow_deterministic=True"):
        mc.sample(predict, KEY, X, **options)


def test_a_rate_of_zero_in_an_array_is_a_rate():
    predict = jax.tree_util.Partial(lambda rate, key, x: jaxdrop.dropout(key, x, rate), jnp.float32(0))
    np.testing.assert_array_equal(mc.sample(predict, KEY, X, num_samples=2), jnp.stack([X, X]))


def test_one_random_output_of_a_tree_is_enough():
    samples = mc.sample(lambda key, x: {"x": x, "y": jaxdrop.dropout(key, x, 0.5)}, KEY, X, num_samples=2)
    np.testing.assert_array_equal(samples["x"], jnp.stack([X, X]))
    with pytest.raises(ValueError, match="depend on its key"):
        mc.sample(lambda key, x: {"x": x, "y": 2 * x}, KEY, X, num_samples=2)


def test_a_scan_over_keys_or_a_branch_is_no_reuse():
    """The checker of keys takes the transpose of keys under `vmap` for a use."""

    def layers(key, x):
        def layer(x, key):
            return jax.lax.cond(x.sum() > 0, jaxdrop.dropout, lambda key, x, rate: x, key, x, 0.5), None

        return jax.lax.scan(layer, x, jax.random.split(key, 3))[0]

    options = {"num_samples": 4, "chunk_size": 2}
    expected = mc.sample(layers, KEY, X, **options)
    with jax.debug_key_reuse(True):
        np.testing.assert_allclose(mc.sample(layers, KEY, X, **options), expected, rtol=1e-6)
    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        mc.sample(lambda key, x: jaxdrop.dropout(key, layers(key, x), 0.5), KEY, X, num_samples=4)
