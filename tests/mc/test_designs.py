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


def test_a_function_is_a_tree():
    bound = jax.tree_util.Partial(max, 2)
    assert _designs.as_partial(bound, "a function") is bound
    assert jax.tree.structure(_designs.as_partial(max, "it")) == jax.tree.structure(
        _designs.as_partial(max, "it")
    )
    with pytest.raises(TypeError, match="`predict` must be a function of x, got int"):
        _designs.as_partial(3, "a function of x")  # pyright: ignore[reportArgumentType]
