"""Wrong arguments of attention, in words."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop

KEY = jax.random.key(23)
attend = jaxdrop.dot_product_attention


def heads(query_heads: int, key_heads: int) -> tuple[jax.Array, ...]:
    """Queries, keys and values."""
    return (jnp.ones((2, 9, query_heads, 8)), *[jnp.ones((2, 12, key_heads, 8))] * 2)


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (ValueError, {"rate": 1.5}, "`rate` must lie in [0, 1], got 1.5."),
        (
            ValueError,
            {"rate": 1.0, "regularizer": jaxdrop.drop_key},
            "`rate` must be below 1, so that something is kept, got 1.",
        ),
        (
            ValueError,
            {"regularizer": jaxdrop.gaussian_dropout},
            "`regularizer` must be `attention_dropout` or `drop_key`, got gaussian_dropout.",
        ),
        (TypeError, {"mask": jnp.ones((9, 12))}, "`mask` must be a boolean array, got float32."),
        (TypeError, {"bias": jnp.ones((9, 12), bool)}, "`bias` must be a floating-point array, got bool."),
        (ValueError, {"bias": jnp.ones((9, 9))}, "`bias` must broadcast to shape (2, 2, 9, 12), got (9, 9)."),
        (
            ValueError,
            {"query_seq_lengths": jnp.ones(3, int)},
            "`query_seq_lengths` must be of shape (2,), got (3,).",
        ),
        (
            TypeError,
            {"key_value_seq_lengths": jnp.ones(2)},
            "`key_value_seq_lengths` must be an integer array, got float32.",
        ),
        (
            ValueError,
            {"query_segment_ids": jnp.ones((2, 9), int)},
            "`query_segment_ids` and `key_value_segment_ids` must be given together, got one of them.",
        ),
        (
            ValueError,
            {"local_window_size": (1, 2, 3)},
            "`local_window_size` must be a number or a pair of them, got (1, 2, 3).",
        ),
        (ValueError, {"local_window_size": -1}, "`local_window_size` must be at least 0, got -1."),
        (ValueError, {"block_size": 0}, "`block_size` must be at least 1, got 0."),
        (
            ValueError,
            {"implementation": "cuda"},
            "`implementation` must be one of None, 'xla', 'cudnn', 'triton', got",
        ),
        (
            ValueError,
            {"implementation": "cudnn"},
            "`implementation` must be None or 'xla' with dropout, got 'cudnn'.",
        ),
        (
            ValueError,
            {"implementation": "cudnn", "rate": 0.0, "logits_soft_cap": 3.0},
            "`implementation` must be None or 'xla' with `logits_soft_cap`,",
        ),
        (ValueError, {"logits_soft_cap": 0.0}, "`logits_soft_cap` must be above 0, got 0."),
        (ValueError, {"logits_soft_cap": np.inf}, "`logits_soft_cap` must be finite, got inf."),
        (ValueError, {"scale": np.nan}, "`scale` must be finite, got nan."),
        (TypeError, {"is_causal": 1}, "`is_causal` must be True or False, got 1."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_options(error, options, message):
    data = heads(2, 2)
    with pytest.raises(error, match=re.escape(message)):
        attend(KEY, *data, **{"rate": 0.4} | options)


def test_bad_arrays():
    queries, keys, values = heads(3, 2)
    with pytest.raises(ValueError, match=r"`keys` must be of shape \[..., S, K, D\] for .* \(2, 12, 2, 8\)"):
        attend(KEY, queries, keys, values, 0.4)
    with pytest.raises(ValueError, match=r"where K divides H, got \(2, 12, 0, 8\)"):
        attend(KEY, queries, keys[..., :0, :], values[..., :0, :], 0.4)
    with pytest.raises(ValueError, match=r"`values` must have the shape of `keys` but for the last axis"):
        attend(KEY, keys, keys, values[:, :4], 0.4)
    with pytest.raises(TypeError, match="`keys` must be of the dtype of `queries`, float32, got bfloat16"):
        attend(KEY, keys, keys.astype(jnp.bfloat16), values, 0.4)
    with pytest.raises(ValueError, match=r"`queries` must be of shape \[..., T, H, D\], got \(3, 4\)"):
        attend(KEY, jnp.ones((3, 4)), keys, values, 0.4)
