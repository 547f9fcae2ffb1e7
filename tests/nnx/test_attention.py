"""NNX shells of attention, and their place in Flax's attention module."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.nnx
from jaxdrop.nnx import attention_fn
from tests.normals import standard_normal
from tests.shells import (
    ATTENTION,
    Case,
    cases,
    check_attention_in_blocks,
    check_drop_key_in_a_partial,
    check_masks_of_drop_key,
    check_nnx,
)

KEY = jax.random.key(3)
X = standard_normal(1, (3, 6, 8))
CAUSAL = nnx.make_causal_mask(jnp.ones((3, 6)))
REGULARIZERS = pytest.mark.parametrize("regularizer", [jaxdrop.attention_dropout, jaxdrop.drop_key])


@cases(ATTENTION)
def test_it_is_its_function(case: Case):
    check_nnx(case)


def layer(rate: float = 0.5, **options) -> nnx.MultiHeadAttention:
    options = {"deterministic": False, "decode": False, **options}
    return nnx.MultiHeadAttention(2, 8, dropout_rate=rate, **options, rngs=nnx.Rngs(0))


@REGULARIZERS
@pytest.mark.parametrize("options", [{"rate": 0.0}, {"deterministic": True}])
def test_without_a_draw_it_is_that_of_flax(regularizer, options):
    ours, theirs = layer(**options, attention_fn=attention_fn(regularizer)), layer(**options)
    np.testing.assert_array_equal(ours(X, mask=CAUSAL), theirs(X, mask=CAUSAL))


@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 1}, {"dtype": jnp.bfloat16}])
def test_at_a_tiny_rate_the_way_through_the_weights_is_that_of_flax(options):
    y = layer(1e-6, attention_fn=attention_fn(), **options)(X, is_causal=True)
    expected = layer(0.0, **options)(X, is_causal=True)
    close = {"rtol": 2e-2, "atol": 2e-2} if "dtype" in options else {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(y, expected, **close)
    assert y.dtype == expected.dtype


def seen(function, **options) -> jax.Array:
    """The weights that a query gives to each value, [B, H, Q, K]: the values are one-hot."""
    query = jnp.zeros((4, 6, 2, 6))
    value = jnp.broadcast_to(jnp.eye(6)[:, None], (4, 6, 2, 6))
    y = function(query, query, value, dropout_rng=KEY, dropout_rate=0.4, **options)
    return jnp.moveaxis(y, 2, 1)


def test_it_is_the_function_and_every_example_and_head_has_its_own_draw():
    weights = seen(attention_fn(bits=8))
    expected = jaxdrop.attention_dropout(KEY, jnp.full((4, 2, 6, 6), 1 / 6), 0.4, bits=8)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert len({np.asarray(part).tobytes() for part in weights.reshape(8, 36)}) == 8
    shared = seen(attention_fn(broadcast_dims=(0, 1)))
    assert len({np.asarray(part).tobytes() for part in shared.reshape(8, 36)}) == 1


@pytest.mark.parametrize(
    "options", [{"mask": jnp.tril(jnp.ones((1, 1, 6, 6)))}, {"is_causal": True}], ids=["mask", "causal"]
)
def test_drop_key_hides_keys_before_the_softmax(options):
    weights = seen(attention_fn(jaxdrop.drop_key), **options)
    kept = jaxdrop.drop_key_mask(KEY, (4, 2, 6, 6), 0.4, mask=jnp.tril(jnp.ones((6, 6), bool)))
    np.testing.assert_array_equal(weights > 0, kept)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)


@REGULARIZERS
def test_it_trains_in_the_module(regularizer):
    module = layer(0.5, attention_fn=attention_fn(regularizer))
    gradient = nnx.jit(nnx.grad(lambda module: jnp.sum(module(X, mask=CAUSAL) ** 2)))
    first, second = (jax.tree.leaves(nnx.to_pure_dict(gradient(module))) for _ in range(2))
    assert all(np.isfinite(leaf).all() for leaf in first)
    assert not np.array_equal(first[-1], second[-1])
    with pytest.raises(ValueError, match="`dropout_rng` must be given"):
        attention_fn(regularizer)(*[jnp.ones((1, 2, 1, 3))] * 3, dropout_rate=0.5)


def test_drop_key_in_a_partial_is_drop_key():
    check_drop_key_in_a_partial(attention_fn)


def test_a_mask_is_checked_where_nothing_is_drawn_too():
    check_masks_of_drop_key(lambda mask: jaxdrop.nnx.DropKey(0.5)(X, deterministic=True, mask=mask))


@pytest.mark.slow
def test_blocks_give_what_all_weights_give():
    check_attention_in_blocks(attention_fn)
    query, value = jnp.ones((2, 9, 4, 8)), standard_normal(KEY, (2, 9, 2, 8))
    options = {"is_causal": True, "dropout_rng": KEY, "dropout_rate": 0.5, "bias": jnp.zeros((1, 1, 9, 9))}
    for regularizer in (jaxdrop.attention_dropout, jaxdrop.drop_key):
        y = attention_fn(regularizer, block_size=4)(query, value, value, **options)
        expected = attention_fn(regularizer)(query, value, value, **options)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_decoding_in_blocks_is_decoding():
    results = []
    for options in ({"block_size": 2}, {}):
        module = layer(attention_fn=attention_fn(**options), deterministic=False)
        module.init_cache(X.shape)
        outputs = [module(X[:, step : step + 1], decode=True) for step in range(3)]
        results.append(jnp.concatenate(outputs, 1))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)
