"""Linen shells of attention, and their place in Flax's attention modules."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
import jaxdrop.linen
from jaxdrop.linen import attention_fn
from tests.normals import standard_normal
from tests.shells import (
    ATTENTION,
    Case,
    cases,
    check_attention_in_blocks,
    check_drop_key_in_a_partial,
    check_linen,
    check_masks_of_drop_key,
)

KEY = jax.random.key(3)
X = standard_normal(1, (3, 6, 8))
CAUSAL = nn.make_causal_mask(jnp.ones((3, 6)))
REGULARIZERS = pytest.mark.parametrize("regularizer", [jaxdrop.attention_dropout, jaxdrop.drop_key])


@cases(ATTENTION)
def test_it_is_its_function(case: Case):
    check_linen(case)


def layer(rate: float = 0.5, **options) -> nn.Module:
    options = {"deterministic": False, **options}
    return nn.MultiHeadDotProductAttention(num_heads=2, dropout_rate=rate, **options)


VARIABLES = layer().init(KEY, X)


@REGULARIZERS
@pytest.mark.parametrize("options", [{"rate": 0.0}, {"deterministic": True}])
def test_without_a_draw_it_is_that_of_flax(regularizer, options):
    ours, theirs = layer(**options, attention_fn=attention_fn(regularizer)), layer(**options)
    expected = theirs.apply(VARIABLES, X, mask=CAUSAL)
    np.testing.assert_array_equal(ours.apply(VARIABLES, X, mask=CAUSAL), expected)


def test_at_a_tiny_rate_the_way_through_the_weights_is_that_of_flax():
    ours = layer(1e-6, attention_fn=attention_fn())
    expected = layer(0.0).apply(VARIABLES, X, mask=CAUSAL)
    y = ours.apply(VARIABLES, X, mask=CAUSAL, rngs={"dropout": KEY})
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)
    half = ours.copy(dtype=jnp.bfloat16, force_fp32_for_softmax=True)
    theirs = layer(0.0, dtype=jnp.bfloat16, force_fp32_for_softmax=True)
    y = half.apply(VARIABLES, X, rngs={"dropout": KEY})
    np.testing.assert_allclose(y, theirs.apply(VARIABLES, X), rtol=2e-2, atol=2e-2)
    assert y.dtype == jnp.bfloat16


def seen(function, key_mask=None) -> jax.Array:
    """The weights that a query gives to each value, [B, Q, H, K]: the values are one-hot."""
    query = jnp.zeros((4, 6, 2, 3))
    value = jnp.broadcast_to(jnp.eye(6)[:, None], (4, 6, 2, 6))
    return function(query, query, value, mask=key_mask, dropout_rng=KEY, dropout_rate=0.4)


def test_it_is_the_function_and_every_example_and_head_has_its_own_draw():
    weights = jnp.moveaxis(seen(attention_fn(bits=8)), 2, 1)
    expected = jaxdrop.attention_dropout(KEY, jnp.full((4, 2, 6, 6), 1 / 6), 0.4, bits=8)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert len({np.asarray(part).tobytes() for part in weights.reshape(8, 36)}) == 8
    shared = jnp.moveaxis(seen(attention_fn(broadcast_dims=(0, 1))), 2, 1)
    assert len({np.asarray(part).tobytes() for part in shared.reshape(8, 36)}) == 1
    noisy = jnp.moveaxis(seen(attention_fn(jaxdrop.gaussian_dropout)), 2, 1)
    np.testing.assert_allclose(
        noisy, jaxdrop.gaussian_dropout(KEY, jnp.full((4, 2, 6, 6), 1 / 6), 0.4), rtol=1e-5
    )


def test_drop_key_hides_keys_before_the_softmax():
    mask = jnp.tril(jnp.ones((1, 1, 6, 6)))
    weights = jnp.moveaxis(seen(attention_fn(jaxdrop.drop_key), mask), 2, 1)
    kept = jaxdrop.drop_key_mask(KEY, (4, 2, 6, 6), 0.4, mask=mask > 0)
    np.testing.assert_array_equal(weights > 0, kept)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    assert len({np.asarray(part).tobytes() for part in weights.reshape(8, 36)}) == 8


@REGULARIZERS
def test_it_trains_in_the_module(regularizer):
    module = layer(0.5, attention_fn=attention_fn(regularizer))

    @jax.jit
    def gradient(key):
        def loss(variables):
            return jnp.sum(module.apply(variables, X, mask=CAUSAL, rngs={"dropout": key}) ** 2)

        return jax.grad(loss)(VARIABLES)

    first, second = (jax.tree.leaves(gradient(key)) for key in jax.random.split(KEY))
    assert all(np.isfinite(leaf).all() for leaf in first)
    assert not np.array_equal(first[-1], second[-1])
    with pytest.raises(Exception, match="dropout"):
        module.apply(VARIABLES, X)
    with pytest.raises(ValueError, match="`dropout_rng` must be given"):
        attention_fn(regularizer)(*[jnp.ones((1, 2, 1, 3))] * 3, dropout_rate=0.5)


def test_weights_may_be_sown():
    module = layer(0.5, attention_fn=attention_fn())
    _, state = module.apply(VARIABLES, X, sow_weights=True, rngs={"dropout": KEY}, mutable=["intermediates"])
    (weights,) = state["intermediates"]["attention_weights"]
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_drop_key_in_a_partial_is_drop_key():
    check_drop_key_in_a_partial(attention_fn)


def test_a_mask_is_checked_where_nothing_is_drawn_too():
    check_masks_of_drop_key(
        lambda mask: jaxdrop.linen.DropKey(0.5).apply({}, X, deterministic=True, mask=mask)
    )


@pytest.mark.parametrize("deterministic", [False, True])
def test_what_linens_attention_does_not_take_is_refused_in_each_mode(deterministic: bool):
    """Applied in training alone, it would be another network than in evaluation."""
    attend, query = attention_fn(jaxdrop.drop_key), jnp.ones((1, 4, 2, 8))
    options = {"dropout_rng": KEY, "dropout_rate": 0.5, "deterministic": deterministic}
    with pytest.raises(TypeError, match="is_causal"):
        attend(query, query, query, is_causal=True, **options)


@pytest.mark.slow
def test_blocks_give_what_all_weights_give():
    check_attention_in_blocks(attention_fn)
    with pytest.raises(ValueError, match="`block_size` must be None with `qk_attn_weights_einsum`"):
        attention_fn(block_size=4)(X[None], X[None], X[None], qk_attn_weights_einsum=jnp.einsum)


@pytest.mark.slow
def test_decoding_in_blocks_is_decoding():
    """One token at a time, with the module's cache, in training and in evaluation."""
    ours, theirs = (
        layer(attention_fn=attention_fn(**options), decode=True, deterministic=None)
        for options in ({"block_size": 2}, {})
    )
    cache = ours.init(KEY, X, deterministic=True)["cache"]
    for deterministic in (True, False):
        results = []
        for module in (ours, theirs):
            variables, outputs = VARIABLES | {"cache": cache}, []
            for step in range(3):
                rngs = {"dropout": jax.random.key(step)}
                y, changed = module.apply(
                    variables,
                    X[:, step : step + 1],
                    rngs=rngs,
                    mutable=["cache"],
                    deterministic=deterministic,
                )
                variables, outputs = variables | changed, [*outputs, y]
            results.append(jnp.concatenate(outputs, 1))
        np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)
