"""Constraints against NumPy, idempotent, and leaving alone what they need not touch."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdrop import optim

W = jax.random.normal(jax.random.key(0), (3, 4, 6, 5))


def step(transformation, w, u=None):
    updates, _ = transformation.update(jnp.zeros_like(w) if u is None else u, transformation.init(w), w)
    return optax.apply_updates(w, updates)


@pytest.mark.parametrize(("unit_axis", "axes"), [(-1, (0, 1, 2)), (-2, (0, 1, 3)), ((2, 3), (0, 1))])
def test_max_norm_against_numpy(unit_axis, axes):
    w = np.asarray(W, np.float64)
    norms = np.sqrt((w**2).sum(axes, keepdims=True))
    limit = float(np.median(norms))
    new = step(optim.max_norm(limit, unit_axis=unit_axis), W)
    np.testing.assert_allclose(new, w * np.minimum(1, limit / norms), rtol=1e-5)
    untouched = np.broadcast_to(norms < limit * 0.999, w.shape)
    assert untouched.any()
    np.testing.assert_array_equal(np.asarray(new)[untouched], np.asarray(W)[untouched])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("transformation", [optim.max_norm(1.3), optim.unit_norm()])
def test_idempotent_to_the_bit(transformation, dtype):
    w = W.astype(dtype)
    once = step(transformation, w)
    assert (once != w).any()
    again = step(transformation, once)
    np.testing.assert_array_equal(again.astype(np.float32), once.astype(np.float32))


def test_small_weights_are_not_shrunk():
    """Keras divides by the norm plus an epsilon, here half of it: its weights would be 5e-8."""
    w = jnp.full((1, 3), 1e-7)
    np.testing.assert_array_equal(step(optim.max_norm(2.0), w), w)
    np.testing.assert_allclose(step(optim.max_norm(1e-8), w), 1e-8, rtol=1e-5)


def test_the_step_ends_on_the_limit():
    w, u = jnp.array([[0.6, 0.1], [0.0, 0.0]]), jnp.array([[0.0, 0.0], [0.8, 0.1]])
    new = step(optim.max_norm(0.5), w, u)
    np.testing.assert_allclose(new, [[0.3, 0.1], [0.4, 0.1]], atol=1e-7)


def test_no_limit_and_a_limit_of_zero():
    np.testing.assert_array_equal(step(optim.max_norm(float("inf")), W), W)
    np.testing.assert_array_equal(step(optim.max_norm(0.0), W), 0)
    limits = jnp.array([jnp.inf, 0.0])
    both = jax.vmap(lambda limit: step(optim.max_norm(limit), W))(limits)
    np.testing.assert_array_equal(both, [W, jnp.zeros_like(W)])


def test_unit_norm_against_numpy():
    w = np.asarray(W, np.float64)
    new = step(optim.unit_norm(), W)
    np.testing.assert_allclose(new, w / np.sqrt((w**2).sum((0, 1, 2), keepdims=True)), rtol=1e-5)
    sized = step(optim.unit_norm(where=[("*", 3.0)]), W)
    np.testing.assert_allclose(sized, 3 * new, rtol=1e-5)


def test_unit_norm_of_nothing_is_nothing():
    np.testing.assert_array_equal(step(optim.unit_norm(), jnp.zeros((2, 3))), 0)


def test_non_negative():
    w, u = jnp.array([[1.0, -2.0, 0.5]]), jnp.array([[-3.0, 1.0, 0.25]])
    np.testing.assert_array_equal(step(optim.non_negative(), w, u), [[0.0, 0.0, 0.75]])
    with pytest.raises(ValueError, match=re.escape("`where` must have shares of 0 or 1")):
        optim.non_negative(where=[("*", 2.0)]).init(w)


def test_the_constraint_holds_all_along_a_training():
    params = {"kernel": jax.random.normal(jax.random.key(1), (8, 16))}
    optimizer = optax.chain(optax.adam(0.3), optim.non_negative(), optim.max_norm(1.0))
    state = optimizer.init(params)
    for i in range(20):
        grads = {"kernel": jax.random.normal(jax.random.key(i), (8, 16))}
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        norms = np.linalg.norm(np.asarray(params["kernel"], np.float64), axis=0)
        assert norms.max() <= 1 + 1e-6
        assert params["kernel"].min() >= 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_narrower_than_the_parameters(dtype):
    """The update is as wide as the parameters, or it would not end where it shall."""
    params, grads = W, jnp.zeros_like(W, dtype)

    def end(tx):
        updates, _ = tx.update(grads, tx.init(params), params)
        return optax.apply_updates(params, updates)

    assert (end(optim.non_negative()) >= 0).all()
    assert (end(optim.proximal_l1(10.0, 1.0)) == 0).all()
    norms = jnp.sqrt(jnp.sum(end(optim.max_norm(0.1)) ** 2, axis=(0, 1, 2)))
    np.testing.assert_allclose(norms, 0.1, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-37, 1e-23, 1e19, 1e30])
def test_norms_whose_squares_are_no_float32(size):
    params = jnp.array([[3.0, 0.0], [4.0, 0.0]]) * jnp.float32(size)
    one = np.array([[0.6, 0.0], [0.8, 0.0]])
    # The update takes the weights away, so the end is rounded as they are.
    np.testing.assert_allclose(step(optim.unit_norm(), params), one, rtol=1e-6, atol=5e-7 * size)
    np.testing.assert_allclose(step(optim.max_norm(size), params), one * size, rtol=1e-6)
