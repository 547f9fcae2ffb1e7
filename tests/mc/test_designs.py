"""Rows are counted, and functions become trees, so that predictors of one function are alike."""

import jax
import jax.numpy as jnp
import pytest

from jaxdrop.mc import _designs


def test_rows_share_one_axis():
    assert _designs.count_rows({"a": jnp.ones((3, 2)), "b": jnp.ones(3)}, "rows") == 3
    for wrong, found in (({}, "no arrays"), (jnp.ones(()), "none"), ((jnp.ones(3), jnp.ones(2)), "2, 3")):
        with pytest.raises(ValueError, match=f"`rows` must hold arrays that share .* axis, got {found}"):
            _designs.count_rows(wrong, "rows")


def test_chunks_fit_sets():
    found = [_designs.fitted_chunk(chunk, 32) for chunk in (1, 3, 16, 31, 32, 40, 100)]
    assert found == [1, 2, 16, 16, 32, 32, 96]


def test_keys_of_sets_share_words_and_differ_in_place():
    key = jax.random.key(3)
    keys = jax.vmap(lambda t: _designs.key_in_set(key, t, 8))(jnp.arange(16))
    words = jax.random.key_data(keys).reshape(2, 8, -1)
    assert words[:, :, :2].tolist() == [
        [jax.random.key_data(jax.random.fold_in(key, one)).tolist()] * 8 for one in (0, 1)
    ]
    assert words[0, :, 2:].tolist() == words[1, :, 2:].tolist()
    assert len({tuple(row) for row in words[0].tolist()}) == 8


def test_a_function_is_a_tree():
    bound = jax.tree_util.Partial(max, 2)
    assert _designs.as_partial(bound, "a function") is bound
    assert jax.tree.structure(_designs.as_partial(max, "it")) == jax.tree.structure(
        _designs.as_partial(max, "it")
    )
    with pytest.raises(TypeError, match="`predict` must be a function of x, got int"):
        _designs.as_partial(3, "a function of x")  # pyright: ignore[reportArgumentType]
