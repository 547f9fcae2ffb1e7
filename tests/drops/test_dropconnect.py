"""DropConnect over trees: which leaves, which keys, which errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop

KEY = jax.random.key(12)
PARAMS = {
    "Dense_0": {"kernel": jnp.ones((64, 64)), "bias": jnp.ones(64)},
    "Dense_1": {"kernel": jnp.ones((64, 64)), "bias": jnp.ones(64)},
    "norm": {"scale": jnp.ones(64)},
}


def test_weights_alone_each_with_its_own_draw():
    y = jaxdrop.dropconnect(KEY, PARAMS, 0.25)
    for path in (("Dense_0", "bias"), ("Dense_1", "bias"), ("norm", "scale")):
        assert y[path[0]][path[1]] is PARAMS[path[0]][path[1]]
    first, second = (np.asarray(y[name]["kernel"]) for name in ("Dense_0", "Dense_1"))
    np.testing.assert_allclose(np.unique(first), [0, 1 / 0.75], rtol=1e-6)
    for kernel in (first, second):
        assert abs((kernel == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4096)
    agree = ((first == 0) == (second == 0)).mean()
    assert abs(agree - (0.25**2 + 0.75**2)) < 5 * np.sqrt(0.625 * 0.375 / 4096)


def test_where():
    by_path = jaxdrop.dropconnect(KEY, PARAMS, 0.5, where=lambda path, leaf: path.startswith("Dense_1"))
    tree = jax.tree.map(lambda _: False, PARAMS) | {"Dense_1": {"kernel": True, "bias": True}}
    by_tree = jaxdrop.dropconnect(KEY, PARAMS, 0.5, where=tree)
    jax.tree.map(np.testing.assert_array_equal, by_path, by_tree)
    assert by_path["Dense_0"]["kernel"] is PARAMS["Dense_0"]["kernel"]
    assert (by_path["Dense_1"]["bias"] == 0).any()
    message = "`where` must select at least one leaf, got none of "
    with pytest.raises(ValueError, match=re.escape(message)):
        jaxdrop.dropconnect(KEY, PARAMS, 0.5, where=lambda path, leaf: False)


def test_an_nnx_state():
    state = nnx.state(nnx.Linear(16, 16, rngs=nnx.Rngs(0)), nnx.Param)
    y = jaxdrop.dropconnect(KEY, state, 0.5)
    assert jax.tree.structure(y) == jax.tree.structure(state)
    assert 0 < (jax.tree.leaves(y)[-1] == 0).mean() < 1
    np.testing.assert_array_equal(jax.tree.leaves(y)[0], jax.tree.leaves(state)[0])


def test_a_dropped_weight_has_no_gradient():
    grads = jax.grad(lambda params: jaxdrop.dropconnect(KEY, params, 0.5)["Dense_0"]["kernel"].sum())(PARAMS)
    np.testing.assert_array_equal(
        grads["Dense_0"]["kernel"], jaxdrop.dropconnect(KEY, PARAMS, 0.5)["Dense_0"]["kernel"]
    )
    assert not grads["Dense_1"]["kernel"].any()


def test_one_rate_for_all():
    with pytest.raises(ValueError, match=re.escape("`rate` must be a scalar, got shape (2,).")):
        jaxdrop.dropconnect(KEY, PARAMS, jnp.array([0.5, 0.5]))


def test_a_width_that_is_none_is_refused_at_rate_zero():
    with pytest.raises(ValueError, match=re.escape("`bits` must be one of 8, 16, 24, 32 or None, got 7.")):
        jaxdrop.dropconnect(KEY, PARAMS, 0.0, bits=7)


def test_leaves_that_are_whole_numbers_are_left_alone():
    """Python's and NumPy's, compiled or not, and as arguments of a compiled function."""
    tree = {"kernel": jnp.ones((2, 3)), "count": 3, "rows": np.arange(3)}
    expected = jaxdrop.dropconnect(KEY, tree, 0.5)
    assert (expected["count"], expected["rows"] is tree["rows"]) == (3, True)
    for y in (
        jax.jit(jaxdrop.dropconnect)(KEY, tree, 0.5),
        jax.jit(lambda key: jaxdrop.dropconnect(key, tree, 0.5))(KEY),
    ):
        jax.tree.map(np.testing.assert_array_equal, y, expected)
    message = "`params` must be a floating-point array, got int32 at ids/table: exclude it with `where`."
    with pytest.raises(TypeError, match=re.escape(message)):
        jaxdrop.dropconnect(KEY, {"ids": {"table": jnp.ones((2, 3), int)}, **tree}, 0.5)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_integer_leaves_are_named(rate):
    with pytest.raises(TypeError, match="`params` must be a floating-point array, got int8 at a/kernel: "):
        jaxdrop.dropconnect(jax.random.key(0), {"a": {"kernel": jnp.ones((2, 3), jnp.int8)}}, rate)
