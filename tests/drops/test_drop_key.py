"""DropKey: hidden keys, rows that keep one, half precision, the user's own mask."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop.drops._drop_key import have_weight
from tests.normals import standard_normal

KEY = jax.random.key(20)
LOGITS = standard_normal(KEY, (8, 4, 16, 12))
CAUSAL = jnp.tril(jnp.ones((16, 12), bool))


def test_hidden_keys_and_how_many():
    y = jaxdrop.drop_key(KEY, LOGITS, 0.25)
    hidden = np.asarray(y == jnp.finfo(jnp.float32).min)
    np.testing.assert_array_equal(np.where(hidden, LOGITS, y), LOGITS)
    assert abs(hidden.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / hidden.size)
    np.testing.assert_array_equal(~hidden, jaxdrop.drop_key_mask(KEY, LOGITS.shape, 0.25))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("rate", [0.5, 0.97])
def test_no_row_is_left_without_a_key(dtype, rate):
    """In causal attention, where the first queries have few keys to lose."""
    y = jaxdrop.drop_key(KEY, LOGITS.astype(dtype), rate, mask=CAUSAL)
    weights = np.asarray(jax.nn.softmax(y), np.float32)
    assert np.isfinite(weights).all()
    assert (weights[..., ~CAUSAL] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, atol=2e-2)
    mask = np.asarray(jaxdrop.drop_key_mask(KEY, LOGITS.shape, rate, mask=CAUSAL))
    assert mask.any(-1).all()
    assert not mask[..., ~CAUSAL].any()
    # A row keeps all its keys with the probability of losing all, rate ** n; else each by chance.
    n = np.asarray(CAUSAL).sum(-1)
    whole = (mask == np.asarray(CAUSAL)).all(-1).mean((0, 1))
    expected = rate**n + (1 - rate) ** n
    expected[n == 1] = 1
    assert (np.abs(whole - expected) <= 5 * np.sqrt(expected * (1 - expected) / 32) + 1e-9).all()


@pytest.mark.slow
def test_logits_that_are_masked_already_give_no_nan():
    masked = jnp.where(CAUSAL, LOGITS, -jnp.inf)
    weights = jax.nn.softmax(jaxdrop.drop_key(KEY, masked, 0.9))
    assert np.isfinite(weights).all()
    assert (np.asarray(weights)[..., ~CAUSAL] == 0).all()
    grad = jax.grad(
        lambda x: jax.nn.softmax(jaxdrop.drop_key(KEY, jnp.where(CAUSAL, x, -jnp.inf), 0.9))[..., 0].sum()
    )
    assert np.isfinite(grad(LOGITS)).all()


def test_shared_decisions_and_rate_zero():
    y = jaxdrop.drop_key_mask(KEY, LOGITS.shape, 0.5, broadcast_dims=(0, 1, 2))
    assert (y == y[:1, :1, :1]).all()
    assert jaxdrop.drop_key(KEY, LOGITS, 0.0) is LOGITS
    hidden = jaxdrop.drop_key(KEY, LOGITS, 0.0, mask=CAUSAL) == jnp.finfo(jnp.float32).min
    np.testing.assert_array_equal(hidden, jnp.broadcast_to(~CAUSAL, LOGITS.shape))


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (ValueError, {"rate": 1.0}, "`rate` must be below 1, so that something is kept, got 1."),
        (
            TypeError,
            {"rate": 0.5, "mask": jnp.ones((16, 12))},
            "`mask` must be a boolean array, got float32.",
        ),
        (
            ValueError,
            {"rate": 0.5, "mask": jnp.ones((9, 9), bool)},
            "`mask` must broadcast to shape (8, 4, 16, 12), got (9, 9).",
        ),
        (
            ValueError,
            {"rate": 0.5, "broadcast_dims": (-1,)},
            "`broadcast_dims` must not contain the last axis, that of the keys, got",
        ),
    ],
)
def test_bad_input(error, options, message):
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.drop_key(KEY, LOGITS, **options)
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.drop_key_mask(KEY, LOGITS.shape, **options)


def test_a_traced_rate_of_one_is_loud():
    assert np.isnan(jax.jit(lambda rate: jaxdrop.drop_key(KEY, LOGITS, rate))(1.0)).all()


@pytest.mark.parametrize(("dtype", "hidden"), [("float32", -1e9), ("bfloat16", -1e9), ("float16", -6e4)])
def test_a_key_that_logits_hide_already_is_not_a_key_that_is_left(dtype, hidden):
    """The first query of causal attention sees one key, and keeps it where it is drawn away."""
    logits = (LOGITS + jnp.where(CAUSAL, 0, hidden)[None, None]).astype(dtype)
    weights = np.asarray(jax.nn.softmax(jaxdrop.drop_key(KEY, logits, 0.5)), np.float32)
    assert (weights[..., ~CAUSAL] == 0).all()
    kept = jaxdrop.drop_key_mask(KEY, LOGITS.shape, 0.5, mask=CAUSAL)
    np.testing.assert_array_equal(weights > 0, kept)


def test_what_a_weight_is():
    """Relative to the largest logit of the row, in the dtype; a NaN stays to be seen."""
    logits = jnp.array([[0.0, -80.0, -90.0, -jnp.inf], [500.0, 420.0, 410.0, 0.0]])
    expected = np.array([[True, True, False, False], [True, True, False, False]])
    np.testing.assert_array_equal(have_weight(logits), expected)
    half = jnp.array([0.0, -16.0, -17.0, jnp.nan], jnp.float16)
    np.testing.assert_array_equal(have_weight(half[:3]), [True, True, False])
    assert np.isnan(jaxdrop.drop_key(KEY, half, 0.5)).any()
    assert not have_weight(jnp.full(3, -jnp.inf)).any()


def test_a_masked_key_of_8_bits_is_not_a_key_that_is_left():
    logits, mask = jnp.zeros((64, 2), "float8_e4m3fn"), jnp.array([True, False])
    y = jaxdrop.drop_key(KEY, logits, 0.5, mask=mask).astype(jnp.float32)
    np.testing.assert_array_equal(y, np.broadcast_to([0, -448], (64, 2)))


def test_no_keys():
    assert jaxdrop.drop_key(KEY, jnp.ones((2, 0)), 0.5).shape == (2, 0)


def test_the_backward_pass_keeps_a_boolean_a_row():
    logits = standard_normal(KEY, (4, 8, 256))
    _, vjp = jax.vjp(lambda x: jaxdrop.drop_key(KEY, x, 0.3), logits)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(vjp)) <= 4 * 8 + 20
