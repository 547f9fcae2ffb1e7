"""Word dropout: how often, whom never, and which errors; a law unto itself, for its data are integers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop

KEY = jax.random.key(17)
TOKENS = jax.random.randint(KEY, (50, 100), 0, 20)


def test_how_often_and_whom_never():
    y = jaxdrop.word_dropout(KEY, TOKENS, 0.25, replacement=99, protected=(0, 3))
    replaced = np.asarray(y == 99)
    safe = np.isin(TOKENS, (0, 3))
    assert not replaced[safe].any()
    np.testing.assert_array_equal(np.where(replaced, TOKENS, y), TOKENS)
    n = (~safe).sum()
    assert abs(replaced[~safe].mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / n)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.int16])
def test_forms_of_the_rate(dtype):
    tokens = TOKENS.astype(dtype)
    expected = jaxdrop.word_dropout(KEY, tokens, 0.25, replacement=99)
    assert (expected.dtype, expected.shape) == (dtype, tokens.shape)
    traced = jax.jit(lambda rate: jaxdrop.word_dropout(KEY, tokens, rate, replacement=99))
    np.testing.assert_array_equal(traced(0.25), expected)
    array = jaxdrop.word_dropout(KEY, tokens, jnp.full((50, 1), 0.25), replacement=99)
    np.testing.assert_array_equal(array, expected)
    assert jaxdrop.word_dropout(KEY, tokens, 0.0, replacement=99) is tokens
    assert (jaxdrop.word_dropout(KEY, tokens, 1.0, replacement=99) == 99).all()
    np.testing.assert_array_equal(traced(1.5), tokens)


def test_vmap_over_keys_and_a_used_key():
    keys = jax.random.split(KEY, 4)
    mapped = jax.vmap(lambda key: jaxdrop.word_dropout(key, TOKENS, 0.5, replacement=99))(keys)
    np.testing.assert_array_equal(mapped[2], jaxdrop.word_dropout(keys[2], TOKENS, 0.5, replacement=99))
    with jax.debug_key_reuse(True):
        key = jax.random.key(0)
        jaxdrop.word_dropout(key, TOKENS, 0.5, replacement=99)
        with pytest.raises(jax.errors.KeyReuseError):
            jaxdrop.word_dropout(key, TOKENS, 0.5, replacement=99)


@pytest.mark.parametrize(
    ("error", "tokens", "rate", "replacement", "message"),
    [
        (TypeError, jnp.ones(3), 0.5, 1, "`tokens` must be an integer array, got float32."),
        (ValueError, jnp.ones(3, jnp.uint8), 0.5, 256, "`replacement` must fit uint8, got 256."),
        (ValueError, jnp.ones(3, jnp.int32), 1.5, 1, "`rate` must lie in [0, 1], got 1.5."),
        (
            ValueError,
            jnp.ones(3, jnp.int32),
            jnp.full(2, 0.5),
            1,
            "`rate` must broadcast to shape (3,), got (2,).",
        ),
    ],
)
def test_bad_input(error, tokens, rate, replacement, message):
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.word_dropout(KEY, tokens, rate, replacement=replacement)


def test_what_is_no_integer_or_no_width_is_refused_at_any_rate():
    with pytest.raises(TypeError, match=re.escape("`replacement` must be an integer, got 1.7.")):
        jaxdrop.word_dropout(KEY, jnp.arange(3), 0.5, replacement=1.7)
    with pytest.raises(ValueError, match=re.escape("`bits` must be one of 8, 16, 24, 32 or None, got 7.")):
        jaxdrop.word_dropout(KEY, jnp.arange(3), 0.0, replacement=1, bits=7)
