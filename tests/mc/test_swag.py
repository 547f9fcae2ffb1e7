"""SWAG against NumPy in float64: moments, the covariance of drawn weights, and predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxdrop import mc, training

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
# Far from zero, so that a difference of mean squares would have no digits left.
ITERATES = (100 + 1e-2 * RNG.normal(size=(9, 4)) @ RNG.normal(size=(4, 4))).astype(np.float32)


def tree(row: np.ndarray) -> dict:
    return {"a": jnp.asarray(row[:3]), "b": jnp.asarray(row[3])}


def collected(rank: int) -> mc.SWAG:
    state = mc.SWAG.begin(tree(ITERATES[0]), rank=rank)
    update = jax.jit(lambda state, params: state.update(params))
    for row in ITERATES:
        state = update(state, tree(row))
    return state


def covariance(rank: int) -> np.ndarray:
    rows = ITERATES.astype(np.float64)
    diagonal = np.diag(rows.var(0))
    if not rank:
        return diagonal
    running = np.cumsum(rows, 0) / np.arange(1, 10)[:, None]
    kept = (rows - running)[-rank:]
    return diagonal / 2 + kept.T @ kept / (2 * (len(kept) - 1))


@pytest.mark.parametrize("rank", [0, 20])
def test_drawn_weights_have_the_moments_of_the_paper(rank: int):
    state, count = collected(rank), 10_000
    keys = jax.random.split(KEY, count)
    drawn = jax.jit(jax.vmap(lambda key: state.sample(key, scale=2.0)))(keys)
    rows = np.concatenate([drawn["a"], drawn["b"][:, None]], 1).astype(np.float64)
    expected = 2 * covariance(rank)
    spread = np.diag(expected)
    error = np.sqrt((np.outer(spread, spread) + expected**2) / count)
    assert (np.abs(np.cov(rows.T) - expected) < 5 * error + 1e-10).all()
    assert (
        np.abs(rows.mean(0) - ITERATES.mean(0, dtype=np.float64)) < 5 * np.sqrt(spread / count) + 1e-5
    ).all()


@pytest.mark.slow
def test_a_predictor_of_drawn_weights():
    state = collected(5)
    predict = mc.swag(lambda w, key, x: x @ w["a"] + w["b"], state)
    x = jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32)
    drawn = np.asarray(mc.sample(predict, KEY, x, num_samples=4000, chunk_size=4000), np.float64)
    rows = np.c_[np.asarray(x), np.ones(3)].astype(np.float64)
    expected = np.einsum("bi,ij,bj->b", rows, covariance(5), rows)
    mean = rows @ ITERATES.mean(0, dtype=np.float64)
    assert (np.abs(drawn.mean(0) - mean) < 5 * np.sqrt(expected / 4000) + 1e-4).all()
    assert (np.abs(drawn.var(0, ddof=1) - expected) < 5 * expected * np.sqrt(2 / 4000)).all()
    w = state.sample(jax.random.split(jax.random.fold_in(KEY, 2))[0])
    np.testing.assert_allclose(drawn[2], x @ w["a"] + w["b"], rtol=1e-5)


def test_it_is_a_model_state_of_a_run_and_of_a_sweep_and_its_states_are_members():
    def recipe(hyper: dict) -> tuple:
        def loss_fn(params: dict, swag: mc.SWAG, key: jax.Array, x: jax.Array) -> tuple:
            return jnp.mean((x @ params["a"] - 1) ** 2), ({}, swag.update(params))

        return loss_fn, optax.sgd(hyper["rate"])

    params = {"a": jnp.arange(6.0).reshape(2, 3)}
    init, step = training.sweep(recipe)
    state = jax.vmap(lambda params: mc.SWAG.begin(params, rank=2))(params)
    x = jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32)
    states, seen = init(jax.random.split(KEY, 2), params, {"rate": jnp.array([0.1, 0.2])}, state), []
    for _ in range(3):
        seen.append(np.asarray(states.params["a"], np.float64))
        states, _ = step(states, x)
    swag = states.model_state
    np.testing.assert_allclose(swag.mean["a"], np.mean(seen, 0), rtol=1e-5)
    np.testing.assert_allclose(swag.scatter["a"], 3 * np.var(seen, 0), rtol=1e-4)
    multi = mc.ensemble(
        lambda swag, key, x: mc.swag(lambda params, key, x: x @ params["a"], swag)(key, x), swag, draws=4
    )
    assert mc.sample(multi, KEY, x, num_samples=8).shape == (8, 5)


def test_a_module_can_be_the_weights():
    """Two modules are never equal, and their structures are."""
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    state = mc.SWAG.begin(model, rank=2)
    for by in (1, 2):
        graphdef, weights = nnx.split(model)
        state = state.update(nnx.merge(graphdef, jax.tree.map(lambda leaf, by=by: leaf + by, weights)))
    assert state.sample(KEY)(jnp.ones((1, 2))).shape == (1, 3)


def test_stacked_states_are_refused():
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), collected(0))
    with pytest.raises(ValueError, match=r"`state` must be one .* got a stack of \(3,\)"):
        mc.swag(lambda w, key, x: x, stacked)


def test_wrong_arguments():
    state = mc.SWAG.begin(tree(ITERATES[0])).update(tree(ITERATES[0]))
    with pytest.raises(ValueError, match="`update` must have added at least 2 iterates to the state, got 1"):
        state.sample(KEY)
    with pytest.raises(ValueError, match="`update` must have added at least 2 iterates to the state, got 1"):
        mc.swag(lambda w, key, x: x, state)
    assert np.isnan(jax.jit(lambda state: state.sample(KEY))(state)["a"]).all()
    with pytest.raises(ValueError, match=r"`params` must have the shapes of those of `begin`, .* got"):
        state.update({"a": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"`params` must have the shapes of those of `begin`, \[.* got"):
        state.update({"a": jnp.ones(2), "b": jnp.ones(())})
    with pytest.raises(ValueError, match="`rank` must be 0 or at least 2, got 1"):
        mc.SWAG.begin(tree(ITERATES[0]), rank=1)
    with pytest.raises(TypeError, match="`params` must be a floating-point array, got int32"):
        mc.SWAG.begin({"a": jnp.arange(3)})
    with pytest.raises(ValueError, match="`scale` must be"):
        collected(0).sample(KEY, scale=-1.0)
