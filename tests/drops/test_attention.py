"""Blocks of queries: which rows of the options belong to a block, and what a block keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(29)


@pytest.mark.slow
def test_each_block_gets_its_rows_of_every_option():
    """Options of one row hold for all queries, those of a row per query are cut, the last block is padded."""
    x, length = standard_normal(KEY, (2, 7, 2, 4)), 7
    rows = standard_normal(1, (2, 1, length, 1))
    options = [
        {
            "bias": rows * jnp.ones((1, 2, 1, length)),
            "mask": jnp.swapaxes(rows, -1, -2) > -1,
            "rate": jax.nn.sigmoid(rows),
        },
        {"rate": jax.nn.sigmoid(jnp.swapaxes(rows, -1, -2)), "regularizer": jaxdrop.drop_key, "bits": 32},
    ]
    for one in options:
        one = {"rate": 0.4} | one
        whole = jaxdrop.dot_product_attention(KEY, x, x, x, block_size=None, **one)
        y = jaxdrop.dot_product_attention(KEY, x, x, x, block_size=3, **one)
        np.testing.assert_allclose(y, whole, rtol=1e-5, atol=1e-6)


def test_the_backward_pass_keeps_a_few_numbers_per_query():
    x = jnp.ones((1, 256, 1, 4))

    def kept(block_size: int | None) -> int:
        run = jax.jit(lambda x: jaxdrop.dot_product_attention(KEY, x, x, x, 0.4, block_size=block_size))
        return sum(leaf.nbytes for leaf in jax.tree.leaves(jax.vjp(run, x)[1]))

    assert kept(32) < 20 * x.nbytes
    assert kept(None) > 256 * 256 * 4


def test_one_program_for_all_rates():
    x = standard_normal(KEY, (1, 8, 1, 4))
    run = jax.jit(lambda rate: jaxdrop.dot_product_attention(KEY, x, x, x, rate, block_size=3))
    for rate in (0.0, 0.4, 1.0):
        expected = jaxdrop.dot_product_attention(KEY, x, x, x, rate, block_size=3)
        np.testing.assert_allclose(run(rate), expected, rtol=1e-5, atol=1e-6)
    assert np.isnan(run(1.5)).all()


def test_numbers_may_be_arrays_but_not_traced():
    """An array among a program's constants would break later calls, too."""
    data = [standard_normal(KEY, (1, 4, 1, 8))] * 3
    own = {"scale": 0.5, "logits_soft_cap": 2.0, "is_causal": True}
    y = jaxdrop.dot_product_attention(
        KEY, *data, 0.4, **{name: np.asarray(value)[()] for name, value in own.items()}
    )
    arrays = {"scale": jnp.float32(0.5), "logits_soft_cap": np.asarray(2)}
    np.testing.assert_array_equal(jaxdrop.dot_product_attention(KEY, *data, 0.4, **own | arrays), y)
    np.testing.assert_array_equal(jaxdrop.dot_product_attention(KEY, *data, 0.4, **own), y)
    with pytest.raises(
        TypeError, match=r"`scale` must be a number known .*; multiply `queries` by a traced one"
    ):
        jax.jit(lambda scale: jaxdrop.dot_product_attention(KEY, *data, 0.4, scale=scale))(0.5)


@pytest.mark.parametrize("regularizer", [jaxdrop.attention_dropout, jaxdrop.drop_key])
@pytest.mark.parametrize("sizes", [(0, 3, 2), (3, 0, 2), (3, 3, 0)], ids=str)
def test_empty_arrays(sizes, regularizer):
    length, places, count = sizes
    queries, keys = jnp.ones((2, length, count, 8)), jnp.ones((2, places, count, 8))
    for rate in (0.0, 0.4):
        y = jaxdrop.dot_product_attention(KEY, queries, keys, keys, rate, regularizer=regularizer)
        np.testing.assert_array_equal(y, jnp.zeros((2, length, count, 8)))


def test_8_bits():
    x = jax.random.normal(KEY, (1, 4, 1, 8), "float8_e4m3fn")
    wide = x.astype(jnp.float32)
    y = jaxdrop.dot_product_attention(KEY, x, x, x, 0.0)
    expected = jaxdrop.dot_product_attention(KEY, wide, wide, wide, 0.0).astype(x.dtype)
    np.testing.assert_array_equal(y.astype(jnp.float32), expected.astype(jnp.float32))


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_double_precision(rate):
    with jax.enable_x64(True):
        x = jax.random.normal(KEY, (1, 4, 1, 8), np.float64)
        y = jaxdrop.dot_product_attention(KEY, x, x, x, rate)
        scores = jnp.einsum("bqhd,bkhd->bhqk", x, x) * 8**-0.5
        weights = jaxdrop.attention_dropout(KEY, jax.nn.softmax(scores), rate)
        np.testing.assert_allclose(y, jnp.einsum("bhqk,bkhd->bqhd", weights, x), rtol=1e-13, atol=1e-13)


@pytest.mark.slow
def test_moments_of_blocks_are_those_of_all_queries():
    x = standard_normal(KEY, (1, 4, 1, 2))
    found, expected = (
        jaxdrop.mc.moments(
            lambda key, x, size=size: jaxdrop.dot_product_attention(key, x, x, x, 0.4, block_size=size), x
        )
        for size in (2, None)
    )
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-5)
