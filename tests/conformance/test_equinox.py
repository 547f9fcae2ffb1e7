"""What equinox's `tests/test_nn.py` asserts of dropout, and where equinox errs.

Without a counterpart here: the deprecated name `deterministic=` of its `inference=`.
"""

import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx
from jaxdrop.linen import attention_fn

KEY = jax.random.key(8)
X = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 5)), jnp.float32)


def test_values():
    """Equinox test_nn.py::test_dropout_basic: an element is 0 or twice what it was, exactly."""
    y = jaxdrop.dropout(KEY, X, 0.5)
    assert ((y == 0) | (y == X / 0.5)).all()
    assert (y == 0).any()
    assert (y != 0).any()


def test_inference_at_call_time():
    """Equinox test_nn.py::test_dropout_inference: with a key or without, it is the identity."""
    linen, module = jaxdrop.linen.Dropout(0.5), jaxdrop.nnx.Dropout(0.5)
    for y in (
        linen.apply({}, X, deterministic=True, rngs={"dropout": KEY}),
        linen.apply({}, X, deterministic=True),
        module(X, deterministic=True, rngs=KEY),
        module(X, deterministic=True),
    ):
        np.testing.assert_array_equal(y, X)


def test_inference_set_and_unset():
    """Equinox test_nn.py::test_dropout_inference: a module is made for inference, then switched back."""
    linen, module = (
        jaxdrop.linen.Dropout(0.5, deterministic=True),
        jaxdrop.nnx.Dropout(0.5, deterministic=True),
    )
    np.testing.assert_array_equal(linen.apply({}, X), X)
    np.testing.assert_array_equal(module(X), X)
    module.train()
    expected = jaxdrop.dropout(KEY, X, 0.5)
    assert not np.array_equal(expected, X)
    np.testing.assert_array_equal(linen.copy(deterministic=False).apply({}, X, rng=KEY), expected)
    np.testing.assert_array_equal(module(X, rngs=KEY), expected)


def test_attention():
    """Equinox test_nn.py::test_multihead_attention_inference: keys matter in training alone."""
    x = X[:1]
    layer = nn.MultiHeadDotProductAttention(num_heads=1, dropout_rate=0.5, attention_fn=attention_fn())
    variables = layer.init(KEY, x, deterministic=True)
    first, second = ({"dropout": key} for key in jax.random.split(KEY))
    still = layer.apply(variables, x, deterministic=True)
    np.testing.assert_array_equal(layer.apply(variables, x, deterministic=True, rngs=first), still)
    y, z = (layer.apply(variables, x, deterministic=False, rngs=rngs) for rngs in (first, second))
    assert not np.array_equal(y, z)


def test_the_gradient_at_rate_one():
    """Equinox divides zero by zero: its gradient at rate 1 is NaN; here it is 0, static or traced."""
    for f in (jaxdrop.dropout, jax.jit(jaxdrop.dropout)):
        _, vjp = jax.vjp(partial(f, KEY, rate=1.0), X)
        np.testing.assert_array_equal(vjp(X)[0], jnp.zeros_like(X))


def test_half_precision_is_kept():
    """Equinox makes float32 of a bfloat16 array where the rate is a float32 array; here it stays."""
    x, rate = X.astype(jnp.bfloat16), jnp.float32(0.5)
    assert jaxdrop.dropout(KEY, x, rate).dtype == jnp.bfloat16
    assert jaxdrop.linen.Dropout(rate, deterministic=False).apply({}, x, rng=KEY).dtype == jnp.bfloat16
    assert jaxdrop.nnx.Dropout(rate, rngs=nnx.Rngs(0))(x).dtype == jnp.bfloat16


@pytest.mark.parametrize("rate", [1.7, -0.3])
def test_impossible_rates(rate):
    """Equinox takes 1.7 and gives zeros, and -0.3 and scales by 0.77; here they are refused."""
    with pytest.raises(ValueError, match=re.escape(f"`rate` must lie in [0, 1], got {rate:g}.")):
        jaxdrop.dropout(KEY, X, rate)


def test_a_scheduled_rate():
    """What users ask of equinox: a rate that changes with the step, and compiles nothing anew."""
    count = []

    @jax.jit
    def f(key, x, rate):
        count.append(1)
        return jaxdrop.dropout(key, x, rate)

    np.testing.assert_array_equal(f(KEY, X, 0.0), X)
    np.testing.assert_array_equal(f(KEY, X, 0.5), jaxdrop.dropout(KEY, X, 0.5))
    assert len(count) == 1
