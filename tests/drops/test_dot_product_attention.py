"""Attention in blocks against attention of all weights: same masks, same numbers, same gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

import jaxdrop
from tests.devices import make_mesh

KEY = jax.random.key(23)
attend = jaxdrop.dot_product_attention


def normal(number: int, *shape: int, dtype: str = "float32") -> jax.Array:
    return jax.random.normal(jax.random.key(number), shape, dtype)


def heads(batch: tuple[int, ...], length: int, places: int, query_heads: int, key_heads: int, sizes=(8, 8)):
    """Queries, keys and values."""
    return (
        normal(0, *batch, length, query_heads, sizes[0]),
        normal(1, *batch, places, key_heads, sizes[0]),
        normal(2, *batch, places, key_heads, sizes[1]),
    )


def dense(key, queries, keys, values, rate, *, bias=None, allowed=True, cap=None, scale=None, **options):
    """Attention of all weights, of the members of the family."""
    regularizer = options.pop("regularizer", None)
    shared = queries.shape[-2] // keys.shape[-2]
    keys, values = (jnp.repeat(x, shared, -2) for x in (keys, values))
    scores = jnp.einsum("...qhd,...khd->...hqk", queries, keys) * (scale or queries.shape[-1] ** -0.5)
    scores = scores if cap is None else cap * jnp.tanh(scores / cap)
    scores = scores if bias is None else scores + bias
    allowed = jnp.broadcast_to(allowed, scores.shape)
    if regularizer is jaxdrop.drop_key:
        scores = jaxdrop.drop_key(key, scores, rate, mask=allowed, **options)
    weights = jnp.where(allowed, jax.nn.softmax(jnp.where(allowed, scores, -1e30)), 0)
    if regularizer is not jaxdrop.drop_key:
        weights = jaxdrop.attention_dropout(key, weights, rate, **options)
    return jnp.einsum("...hqk,...khd->...qhd", weights, values)


def check(data, block_size, options, plain, more=None) -> None:
    """Results and gradients are those of all weights; `more` is differentiated, too, as the bias."""
    more = {} if more is None else {"bias": more}

    def run(function, options, data, more):
        y, vjp = jax.vjp(lambda data, more: function(KEY, *data, **more, **options), data, more)
        return y, vjp(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    found = jax.jit(functools.partial(run, attend, options | {"block_size": block_size}))(data, more)
    expected = run(dense, plain, data, more)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)


OF_KEYS = {"regularizer": jaxdrop.drop_key}
REGULARIZERS = (jaxdrop.attention_dropout, jaxdrop.drop_key)
SEEN = jax.random.bernoulli(KEY, 0.6, (2, 1, 9, 12)).at[:, :, 4].set(False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "block_size", "options"),
    [
        (((2,), 16, 12, 4, 2), 5, {"bits": 16}),  # grouped heads, blocks that do not divide
        (
            ((2,), 9, 7, 2, 1),
            4,
            {"bits": 8, "broadcast_dims": (0,), **OF_KEYS},
        ),  # multi-query, cropped blocks of draws
        (((), 10, 6, 2, 2, (4, 3)), 2, {"bits": 24}),  # one example, values of another size
        (((2, 3), 6, 4, 1, 1), 1, {"bits": 32, "broadcast_dims": (1, -2), **OF_KEYS}),  # two leading axes
        (((1,), 8, 1, 1, 1), 4, {"bits": 16}),  # one key: the draws lie along the queries
        (((2,), 8, 6, 2, 2), None, {"rate": np.float32([[[0.1]], [[0.6]]])}),  # a rate for each head
    ],
)
def test_blocks_are_the_whole(shape, block_size, options):
    options = {"rate": 0.4} | options
    data = heads(*shape)
    length, places, count = shape[1:4]
    check(data, block_size, options, options, more=normal(4, *(1,) * len(shape[0]), count, length, places))


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("places", [12, 13])
def test_the_mask_is_that_of_the_weights_bit_for_bit(bits, places):
    """Equal scores and values that are one-hot show the weights."""
    queries, keys = jnp.zeros((2, 20, 3, 4)), jnp.zeros((2, places, 1, 4))
    values = jnp.broadcast_to(jnp.eye(places)[:, None], (2, places, 1, places))
    regularizer, draw = [
        (jaxdrop.attention_dropout, jaxdrop.keep_mask),
        (jaxdrop.drop_key, jaxdrop.drop_key_mask),
    ][bits % 16 > 0]
    options = {"regularizer": regularizer, "block_size": 7, "bits": bits}
    seen = jnp.moveaxis(attend(KEY, queries, keys, values, 0.4, **options), -2, -3) != 0
    np.testing.assert_array_equal(seen, draw(KEY, (2, 3, 20, places), 0.4, bits=bits))


def test_draws_of_flax_without_an_index_are_those_of_one_block():
    data = heads((2,), 9, 12, 2, 2)
    key = jax.random.key(1, impl="rbg")
    y, expected = attend(key, *data, 0.4, bits=32, block_size=4), dense(key, *data, 0.4, bits=32)
    np.testing.assert_allclose(y, expected, atol=1e-5)


PLACE = np.arange(12)
QUERY = np.arange(9)[:, None]
IDS = {
    "query_segment_ids": jnp.int32(QUERY[:, 0] // 4 + jnp.zeros((2, 1), int)),
    "key_value_segment_ids": None,
}
IDS["key_value_segment_ids"] = jnp.int32(PLACE // 3 + jnp.ones((2, 1), int))
LENGTHS = {"query_seq_lengths": jnp.int32([5, 9]), "key_value_seq_lengths": jnp.int32([3, 0])}
VISIBLE = {
    "mask": ({"mask": SEEN}, SEEN),
    "causal": ({"is_causal": True}, PLACE <= QUERY),
    "window": ({"local_window_size": (2, 1)}, (PLACE >= QUERY - 2) & (PLACE <= QUERY + 1)),
    "lengths": (
        LENGTHS,
        (LENGTHS["query_seq_lengths"][:, None, None, None] > QUERY)
        & (LENGTHS["key_value_seq_lengths"][:, None, None, None] > PLACE),
    ),
    "segments": (
        IDS,
        IDS["query_segment_ids"][:, None, :, None] == IDS["key_value_segment_ids"][:, None, None, :],
    ),
    "infinite bias": ({"bias": jnp.where(SEEN, 0.0, -jnp.inf)}, SEEN),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VISIBLE)
def test_what_a_query_may_attend_to(name):
    """Queries that see nothing give zeros and zero gradients, at every rate and in every form."""
    options, allowed = VISIBLE[name]
    data = heads((2,), 9, 12, 2, 2)
    regularizer = REGULARIZERS[list(VISIBLE).index(name) % 2]
    own = {"rate": 0.4, "regularizer": regularizer}
    check(data, 4, options | own, {"allowed": allowed} | own)
    # At rate zero, one block is JAX's own function.
    y = attend(KEY, *data, 0.0, **options)
    np.testing.assert_allclose(y, dense(KEY, *data, 0.0, allowed=allowed), atol=1e-5)
    blind = ~np.broadcast_to(allowed, (2, 2, 9, 12)).any(-1).swapaxes(1, 2)
    grad = jax.grad(lambda queries: (attend(KEY, queries, *data[1:], 0.0, **options) ** 2).sum())(data[0])
    assert (np.asarray(y)[blind] == 0).all()
    assert (np.asarray(grad)[blind] == 0).all()
    assert np.isfinite(grad).all()


def test_rate_zero_calls_jax(monkeypatch):
    calls = []

    def counted(*args, **options):
        calls.append(options["implementation"])
        return args[0]

    monkeypatch.setattr(jax.nn, "dot_product_attention", counted)
    data = heads((2,), 9, 12, 2, 2)
    attend(KEY, *data, 0.0)
    attend(KEY, *data, 0, implementation="cudnn", block_size=4)
    assert calls == [None, "cudnn"]
    attend(KEY, *data, 0.0, block_size=4)
    attend(KEY, *data, 0.0, implementation="xla")
    attend(KEY, *data, 0.4)
    assert len(calls) == 2


@pytest.mark.slow
def test_scale_and_soft_cap():
    data = heads((1,), 9, 12, 2, 2)
    check(
        data, 4, {"rate": 0.4, "logits_soft_cap": 0.5, "scale": 2.0}, {"rate": 0.4, "cap": 0.5, "scale": 2.0}
    )


@pytest.mark.slow
def test_derivatives_are_those_of_differences_in_both_directions_and_twice():
    data = heads((1,), 5, 6, 2, 1, (3, 2))
    bias, mask = normal(4, 1, 1, 1, 6), jnp.ones((1, 1, 5, 6), bool).at[:, :, 3].set(False)

    def run(bias, *data):
        return attend(KEY, *data, 0.4, bias=bias, mask=mask, block_size=2)

    check_grads(jax.jit(run), (bias, *data), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)

    def curvature(run):
        def loss(*args):
            return jnp.tanh(run(*args)).sum()

        return jax.jvp(jax.grad(loss, (0, 1, 2, 3)), (bias, *data), (bias, *data))[1]

    def plain(bias, *data):
        return dense(KEY, *data, 0.4, bias=bias, allowed=mask)

    for one, other in zip(jax.jit(curvature, static_argnums=0)(run), curvature(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_accumulates_in_single_precision(dtype):
    data = [x.astype(dtype) for x in heads((1,), 64, 256, 2, 2)]
    wide = [x.astype(jnp.float32) for x in data]
    own = {"rate": 0.25, "block_size": 16}

    def program(*data):
        return jax.value_and_grad(
            lambda *data: attend(KEY, *data, **own).astype(jnp.float32).sum(), (0, 1, 2)
        )(*data)

    found, expected = jax.jit(program)(*data), jax.jit(program)(*wide)
    for one, other in zip(jax.tree.leaves(found[1]), jax.tree.leaves(expected[1]), strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one.astype(jnp.float32), other, atol=5e-2, rtol=5e-2)


@pytest.mark.slow
def test_one_device_and_eight():
    """Batch and heads sharded: same mask and numbers; no device asks another for anything."""
    data, places = heads((4,), 14, 16, 4, 4), P("a", None, "b")  # the last block is padded
    mesh = make_mesh((4, 2), ("a", "b"))
    sharded = [jax.device_put(x, NamedSharding(mesh, places)) for x in data]

    def program(*data):
        return jax.value_and_grad(
            lambda *data: (attend(KEY, *data, 0.4, is_causal=True, block_size=5) ** 2).sum(), (0, 1, 2)
        )(*data)

    expected, compiled = jax.jit(program)(*data), jax.jit(program).lower(*sharded).compile()
    for one, other in zip(jax.tree.leaves(compiled(*sharded)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert not re.search("all-gather|all-to-all|collective-permute|reduce-scatter", compiled.as_text())


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
def test_memory_of_the_gradient_is_linear_in_the_length():
    def temporary(length: int, **options) -> int:
        x = jax.ShapeDtypeStruct((1, length, 2, 16), jnp.float32)
        loss = functools.partial(attend, rate=0.1, **options)
        grad = jax.grad(lambda key, *data: loss(key, *data).sum(), (1, 2, 3))
        compiled = jax.jit(grad).lower(KEY, x, x, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    short, long = (temporary(length, block_size=32) for length in (1024, 2048))
    assert long < 2.2 * short
    assert 20 * long < temporary(2048, block_size=None)


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
def test_memory_of_short_sequences_is_linear_in_the_batch():
    """They are one block whatever the batch, as a query or a key has at most 256 scores."""

    def temporary(batch: int) -> int:
        x = jax.ShapeDtypeStruct((batch, 256, 2, 16), jnp.float32)
        grad = jax.grad(lambda key, *data: attend(key, *data, rate=0.1).sum(), (1, 2, 3))
        compiled = jax.jit(grad).lower(KEY, x, x, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = temporary(2), temporary(8)
    assert many < 4.2 * few
    assert many < 5 * 4 * (8 * 2 * 256 * 256)  # bytes: a few times the scores


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_without_implicit_promotion(dtype):
    """JAX's own gradient of products that accumulate bfloat16 in float32 needs promotion."""
    x = normal(1, 2, 4, 2, 4, dtype=dtype)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        y, vjp = jax.vjp(functools.partial(attend, KEY, rate=0.5), x, x, x)
        grads = vjp(y) if dtype == "float16" else ()
    assert {each.dtype.name for each in (y, *grads)} == {dtype}


@pytest.mark.slow
def test_dropped_keys_leave_no_row_to_hidden_keys():
    """A bias of -1e9 hides a key as well as a boolean mask does."""
    data = [x.astype(jnp.bfloat16) for x in heads((2,), 12, 12, 2, 2)]
    causal = jnp.tril(jnp.ones((12, 12), bool))
    bias = jnp.where(causal, 0, -1e9).astype(jnp.bfloat16)
    own = {"regularizer": jaxdrop.drop_key, "block_size": 5}
    y = attend(KEY, *data, 0.9, bias=bias, **own)
    np.testing.assert_array_equal(y, attend(KEY, *data, 0.9, is_causal=True, **own))
