"""Masks that a GPU keeps: the same numbers as drawn again, and fewer large arrays than Flax writes."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jaxdrop
from jaxdrop import _bits
from jaxdrop.drops import _kept_masks
from tests import gpu

KEY = jax.random.key(31)
QUERIES = 512
# How attention is written: the products before and after the softmax, and the shape of its inputs.
LAYOUTS = {
    "bhqk": ("bqhd,bkhd->bhqk", "bhqk,bkhd->bqhd", (1, QUERIES, 2, 64)),
    "hblm": ("hbln,hbmn->hblm", "hblm,hbmn->blhn", (2, 1, QUERIES, 64)),
}


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Takes a GPU's branches on the device that is there."""
    fake = SimpleNamespace(platform_dependent=lambda *args, cuda, **_: cuda(*args))
    monkeypatch.setattr(_kept_masks, "lax", fake)
    _kept_masks._drop.clear_cache()
    yield
    _kept_masks._drop.clear_cache()


@pytest.mark.usefixtures("as_on_gpu", "compiled_in_haste")
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 3, 8), {"bits": 8}),
        ((2, 3, 8), {"bits": 24, "broadcast_dims": (1,)}),
        ((2, 3, 8), {"bits": 32}),
        ((2, 3, 5), {}),
        ((0, 4), {}),
        ((), {}),
    ],
)
def test_a_mask_that_is_read_is_the_mask_that_is_drawn(shape, options):
    x = jax.random.normal(KEY, shape)

    def all_of(drop, x):
        y, vjp = jax.vjp(lambda x: drop(KEY, x, 0.3, **options) ** 2, x)
        return y, vjp(x), jax.jvp(lambda x: vjp(x)[0], (x,), (x,))

    found, expected = all_of(jaxdrop.attention_dropout, x), all_of(jaxdrop.dropout, x)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
@pytest.mark.usefixtures("as_on_gpu", "compiled_in_haste")
def test_rates_by_head_traced_rates_and_many_keys():
    x, keys = jnp.ones((4, 2, 8)), jax.random.split(KEY, 3)

    def gradients(drop, rate):
        def grad(key, rate):
            return jax.grad(lambda x: drop(key, x, rate).sum())(x)

        return jax.jit(jax.vmap(grad, (0, None)))(keys, rate)

    for rate in (0.3, jnp.array([[0.1], [0.6]])):
        found, expected = (gradients(drop, rate) for drop in (jaxdrop.attention_dropout, jaxdrop.dropout))
        np.testing.assert_array_equal(found, expected)


def test_what_is_kept_varies_over_a_mesh_as_the_mask_does():
    mesh = jax.make_mesh((8,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = {"in_specs": (P("a"), P("a")), "out_specs": P("a")}

    def drop(keys, x):
        return jaxdrop.attention_dropout(keys[0], x, 0.3)

    keys, x = jax.random.split(KEY, 8), jnp.ones((8, 4, 8))
    y = jax.jit(jax.shard_map(drop, mesh=mesh, **specs))(keys, x)
    np.testing.assert_array_equal(y[2:3], jaxdrop.attention_dropout(keys[2], x[2:3], 0.3))


def test_blocks_lie_in_bytes_from_the_low_bit():
    seed = _bits.consume(KEY)
    mask = np.asarray(_bits.bernoulli_packed(seed, jnp.uint32(30_000), (3, 8), 16))
    blocks = _bits.bernoulli_blocks(seed, jnp.uint32(30_000), (3, 8), 16)
    np.testing.assert_array_equal(blocks, np.packbits(mask.reshape(3, 2, 4), -1, bitorder="little")[..., 0])


def test_a_cpu_keeps_no_mask_in_its_program():
    x = jnp.ones((64, 512))

    def size(drop):
        def both(x):
            y, vjp = jax.vjp(lambda x: jnp.sin(drop(KEY, x, 0.3)), x)
            return vjp(y)

        return jax.jit(both).lower(x).compile().memory_analysis().temp_size_in_bytes

    assert size(jaxdrop.attention_dropout) <= size(jaxdrop.dropout)


@pytest.mark.slow
def test_attention_and_its_gradient_are_the_formulas_in_double_precision():
    """The output (P * M) v, and dS = P * (M * dP - sum(M * dP * P)), for the scaled mask M and dP = dy v'."""
    scores, v, dy = (jax.random.normal(jax.random.key(i), (2, 8, 8)) for i in range(3))

    def attend(scores):
        return jaxdrop.attention_dropout(KEY, jax.nn.softmax(scores), 0.25) @ v

    y, vjp = jax.vjp(attend, scores)
    mask = np.asarray(jaxdrop.keep_mask(KEY, scores.shape, 0.25)) / 0.75
    s, v, dy = (np.asarray(array, np.float64) for array in (scores, v, dy))
    p = np.exp(s) / np.exp(s).sum(-1, keepdims=True)
    d = mask * (dy @ v.swapaxes(-1, -2))
    np.testing.assert_allclose(y, (p * mask) @ v, atol=1e-5)
    np.testing.assert_allclose(vjp(jnp.float32(dy))[0], p * (d - (d * p).sum(-1, keepdims=True)), atol=1e-5)


def attention(drop, layout):
    into, out, _ = LAYOUTS[layout]

    def both(key, q, k, v):
        def attend(q, k, v):
            weights = jax.nn.softmax(jnp.einsum(into, q, k) * q.shape[-1] ** -0.5)
            return jnp.einsum(out, drop(key, weights), v)

        y, vjp = jax.vjp(attend, q, k, v)
        return y, vjp(y)

    return both


def flax(key, weights):
    return nn.Dropout(0.1, deterministic=False).apply({}, weights, rngs={"dropout": key})


@gpu.needs_plugin
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_gpu_writes_no_more_large_arrays_than_without_dropout(layout, dtype):
    """The mask is written once, in a quarter of Flax's bytes."""
    x = jax.ShapeDtypeStruct(LAYOUTS[layout][2], dtype)

    def ours(key, weights):
        return jaxdrop.attention_dropout(key, weights, 0.1)

    found = [gpu.compiled(attention(drop, layout), KEY, x, x, x) for drop in (ours, flax, lambda _, w: w)]
    writers, theirs, none = (len(program.writers(2 * QUERIES**2)) for program in found)
    assert writers <= none < theirs
    assert found[0].temporary_bytes <= found[1].temporary_bytes


@gpu.needs_plugin
@pytest.mark.parametrize("size", [196, 197])
def test_a_gpu_writes_a_mask_once_whatever_its_form(size):
    """Masks of 32 bits, and of rows that are no whole blocks, are kept as Flax keeps them."""
    x = jax.ShapeDtypeStruct((2, size, 4, 64), jnp.float32)

    def ours(key, weights):
        return jaxdrop.attention_dropout(key, weights, 0.1, bits=32 if size == 196 else None)

    found, theirs = (gpu.compiled(attention(drop, "bhqk"), KEY, x, x, x) for drop in (ours, flax))
    assert len(found.writers(8 * size**2)) <= len(theirs.writers(8 * size**2))
    assert found.temporary_bytes <= theirs.temporary_bytes
