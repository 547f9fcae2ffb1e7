"""Blocks of queries: which rows of the options belong to a block, and what a block keeps."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxdrop

KEY = jax.random.key(29)


def test_each_block_gets_its_rows_of_every_option():
    """Options of one row hold for all queries, those of a row per query are cut, the last block is padded."""
    x, length = jax.random.normal(KEY, (2, 7, 2, 4)), 7
    rows = jax.random.normal(jax.random.key(1), (2, 1, length, 1))
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
    x = jax.random.normal(KEY, (1, 8, 1, 4))
    run = jax.jit(lambda rate: jaxdrop.dot_product_attention(KEY, x, x, x, rate, block_size=3))
    for rate in (0.0, 0.4, 1.0):
        expected = jaxdrop.dot_product_attention(KEY, x, x, x, rate, block_size=3)
        np.testing.assert_allclose(run(rate), expected, rtol=1e-5, atol=1e-6)
    assert np.isnan(run(1.5)).all()
