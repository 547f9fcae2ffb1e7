"""Attention over a ring of devices against attention on one: same mask, same numbers, same gradients."""

import functools
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

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(31)
attend = jaxdrop.dot_product_attention
LENGTH, PLACES = 24, 40
ROWS = P(None, "seq")
# How each option is divided over the ring.
SPECS = {
    "bias": P(None, None, None, None),
    "mask": P(None, None, "seq", None),
    "query_segment_ids": ROWS,
    "key_value_segment_ids": ROWS,
    "query_seq_lengths": P(None),
    "key_value_seq_lengths": P(None),
}


def heads(dtype="float32"):
    shapes = (2, LENGTH, 4, 8), (2, PLACES, 2, 8), (2, PLACES, 2, 5)
    return tuple(standard_normal(i, shape).astype(dtype) for i, shape in enumerate(shapes))


def ring(devices: int, options: dict, arrays: dict, **mapping):
    """The call in `shard_map`, whose arguments are whole arrays."""
    mesh = make_mesh((devices,), ("seq",), (AxisType.Auto,))

    def part(key, data, arrays):
        return attend(key, *data, axis_name="seq", **options, **arrays)

    specs = P(), (ROWS,) * 3, {name: SPECS[name] for name in arrays}
    return jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=ROWS, **mapping)


def gradients(run):
    def both(key, data, arrays):
        floats = {name: array for name, array in arrays.items() if array.dtype == np.float32}

        def loss(data, floats):
            y = run(key, data, arrays | floats).astype(jnp.float32)
            return (jnp.cos(jnp.arange(y.size).reshape(y.shape)) * y).sum(), y

        return jax.grad(loss, (0, 1), has_aux=True)(data, floats)

    return jax.jit(both)


OF_KEYS = {"regularizer": jaxdrop.drop_key}
SEEN = jax.random.bernoulli(KEY, 0.4, (2, 1, LENGTH, PLACES)).at[:, :, 5].set(False)
SEGMENTS = {
    "query_segment_ids": jnp.int32(np.arange(LENGTH) // 7 + np.zeros((2, 1))),
    "key_value_segment_ids": jnp.int32(np.arange(PLACES) // 9 + np.zeros((2, 1))),
}
LENGTHS = {"query_seq_lengths": jnp.int32([20, 24]), "key_value_seq_lengths": jnp.int32([33, 0])}
PER_HEAD = np.float32([[[0.1]], [[0.6]], [[0.4]], [[0.0]]])
CASES = {
    "drop_key": (8, {"rate": 0.9, "is_causal": True, "block_size": 2, "bits": 24, **OF_KEYS}, {}),
    "mask and bias": (
        4,
        {"rate": PER_HEAD, "block_size": 2},
        {"mask": SEEN, "bias": standard_normal(5, (1, 4, 1, PLACES))},
    ),
    "segments and lengths": (
        2,
        {"bits": 32, "block_size": 5, "local_window_size": (20, 9), "logits_soft_cap": 2.0},
        SEGMENTS | LENGTHS,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_ring_is_one_device(name: str):
    devices, options, arrays = CASES[name]
    options = {"rate": 0.4} | options
    found = gradients(ring(devices, options, arrays))(KEY, heads(), arrays)
    options = options | {"block_size": None}
    expected = gradients(lambda key, data, arrays: attend(key, *data, **options, **arrays))(
        KEY, heads(), arrays
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("of_keys", [False, True])
def test_the_mask_is_that_of_one_device_bit_for_bit(of_keys):
    """Equal scores and values that are one-hot show the weights."""
    data = jnp.zeros((2, LENGTH, 4, 8)), jnp.zeros((2, PLACES, 2, 8))
    values = jnp.broadcast_to(jnp.eye(PLACES)[:, None], (2, PLACES, 2, PLACES))
    options = {"rate": 0.4, "block_size": 3} | (OF_KEYS if of_keys else {})
    seen = jnp.moveaxis(jax.jit(ring(8, options, {}))(KEY, (*data, values), {}), -2, -3) != 0
    draw = jaxdrop.drop_key_mask if of_keys else jaxdrop.keep_mask
    np.testing.assert_array_equal(seen, draw(KEY, (2, 4, LENGTH, PLACES), 0.4))


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
def test_a_ring_divides_the_memory_by_its_devices():
    """And sends what its docstring says: keys, values and their gradients."""
    x, options = jax.ShapeDtypeStruct((1, 1024, 2, 16), jnp.float32), {"rate": 0.4, "block_size": 32}

    def compiled(devices: int):
        run = gradients(ring(devices, options, {}))
        placed = NamedSharding(make_mesh((devices,), ("seq",), (AxisType.Auto,)), ROWS)
        part = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed)
        return run.lower(KEY, (part,) * 3, {}).compile()

    two, eight = compiled(2), compiled(8)
    assert 3.5 * eight.memory_analysis().temp_size_in_bytes < two.memory_analysis().temp_size_in_bytes
    text = eight.as_text()
    assert not re.search("all-gather|all-to-all|all-reduce|reduce-scatter", text)
    # Forward keys and values; backward these and their gradients.
    assert len(re.findall(r"collective-permute(-start)?\(", text)) == 6


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
def test_the_compiler_divides_scores_and_masks():
    """With queries and keys sharded over their places, outside `shard_map`."""
    data = tuple(standard_normal(i, (1, 1024, 2, 8)) for i in range(3))

    def loss(data):
        return (attend(KEY, *data, 0.4, is_causal=True, block_size=128) ** 2).sum()

    def run(data):
        compiled = jax.jit(jax.grad(loss)).lower(data).compile()
        return jax.device_get(compiled(data)), compiled

    expected, whole = run(data)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = make_mesh((8,), ("seq",), (kind,))
        with jax.set_mesh(mesh):
            found, compiled = run(jax.device_put(data, NamedSharding(mesh, ROWS)))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
        sent = re.findall(r"= \w+\[(\S*)\]\S* all-(?:gather|reduce|to-all)(?:-start)?\(", compiled.as_text())
        sent = [np.prod([int(size) for size in shape.split(",") if size]) for shape in sent]
        assert max(sent) <= data[0].size
        sizes = [program.memory_analysis().temp_size_in_bytes for program in (compiled, whole)]
        assert 3 * sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (TypeError, {"axis_name": 3}, "`axis_name` must be a string, got int."),
        (
            ValueError,
            {"axis_name": "rows"},
            "`axis_name` must be a mesh axis of a `jax.shard_map` around this call, got 'rows'.",
        ),
        (
            ValueError,
            {"rate": 0.0, "implementation": "cudnn"},
            "`implementation` must be None or 'xla' with `axis_name`, got 'cudnn'.",
        ),
        (
            ValueError,
            {"rate": np.full((LENGTH, 1), 0.4)},
            "`rate` must be the same for all queries and keys with `axis_name`, got shape (24, 1).",
        ),
        (ValueError, {"mask": jnp.ones((3, 5), bool)}, "`mask` must broadcast to shape (2, 4, 3, 40)"),
        (
            ValueError,
            {"key": jax.random.key(1, impl="rbg"), "bits": 32},
            "`bits` must be 8, 16 or 24 with `axis_name` and such a key, got 32",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_options(error, options, message):
    own = {"rate": 0.4, "axis_name": "seq", "key": KEY} | options
    rate, key = own.pop("rate"), own.pop("key")
    mesh = make_mesh((8,), ("seq",), (AxisType.Auto,))
    run = jax.shard_map(
        lambda *data: attend(key, *data, rate, **own), mesh=mesh, in_specs=(ROWS,) * 3, out_specs=ROWS
    )
    with pytest.raises(error, match=re.escape(message)):
        jax.eval_shape(run, *heads())


def test_forward_mode_is_refused():
    run = functools.partial(ring(2, {"rate": 0.4}, {}), KEY)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jit(lambda data: jax.jvp(lambda data: run(data, {}), (data,), (data,))).lower(heads())
