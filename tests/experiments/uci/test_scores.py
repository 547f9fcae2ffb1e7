"""Scores against the formulas, written out over all samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from experiments import splits
from experiments.uci import network, scores
from jaxdrop.training import TrainState

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

SAMPLES, TAU = 70, 0.7


def setting(rate, seed=0):
    """Two splits of one cell, with 4 and 5 rows to score."""
    rng = np.random.default_rng(seed)
    drawn = [network.init(rng, 3, 6) for _ in range(2)]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves)[:, None, None], *drawn)
    x, y = rng.normal(size=(2, 5, 3)).astype(np.float32), rng.normal(size=(2, 5)).astype(np.float32)
    count, scale, shift = np.array([4, 5], np.int32), np.array([2.0, 3.0], np.float32), np.float32([1, -1])
    part = splits.Part(x, y, count, x, y, count, scale, shift)
    cells = network.Hyper(jnp.full((2, 1), rate, jnp.float32), jnp.zeros((2, 1, 1)))
    state = TrainState(jnp.zeros(2, jnp.int32), jax.random.split(jax.random.key(1), 2), params, (), cells)
    return state, part


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_scores_by_hand(rate):
    state, part = setting(rate)
    found = scores.score(state, part, np.full((2, 1), TAU), state.key, SAMPLES, "")
    assert found.ll.shape == (2, 1, 1)
    for i in range(2):
        params = jax.tree.map(lambda leaf, i=i: leaf[i, 0, 0], state.params)
        cell = scores.Cell(params, jnp.float32(rate), jnp.float32(TAU), part.scale[i], part.shift[i])
        keys = jax.vmap(lambda t, i=i: jax.random.fold_in(state.key[i], t))(jnp.arange(SAMPLES))
        outputs = jax.vmap(lambda key, c=cell, i=i: scores.output(c, key, part.x_held[i]))(keys)
        y, drawn = part.y_held[i, : part.size[i]], np.float64(outputs)[:, : part.size[i]]
        ll = logsumexp(-TAU / 2 * (y - drawn) ** 2, 0) - np.log(SAMPLES) + np.log(TAU / (2 * np.pi)) / 2
        rmse = np.sqrt(np.mean((drawn.mean(0) - y) ** 2))
        np.testing.assert_allclose(found.ll[i, 0, 0], ll.mean(), rtol=1e-4)
        np.testing.assert_allclose(found.rmse[i, 0, 0], rmse, rtol=1e-4)


@pytest.mark.slow
def test_without_noise_nothing_is_uncertain():
    state, part = setting(0.0)
    found = scores.score(state, part, np.full((2, 1), TAU), state.key, SAMPLES, "")
    np.testing.assert_allclose(found.ll_error, 0, atol=1e-5)
    np.testing.assert_allclose(found.rmse_error, 0, atol=1e-5)


def test_the_errors_are_those_of_repetition():
    """The deviation over repeats, 13 % off itself for 32 of them, and as much off for the jackknife."""
    state, part = setting(0.2)
    taus = np.full((2, 1), TAU)
    repeats = [
        scores.score(state, part, taus, jax.random.split(jax.random.key(seed), 2), SAMPLES, "")
        for seed in range(32)
    ]
    for value, error in (("ll", "ll_error"), ("rmse", "rmse_error")):
        deviation = np.std([getattr(r, value) for r in repeats], axis=0, ddof=1)
        mean = np.mean([getattr(r, error) for r in repeats], axis=0)
        np.testing.assert_array_less(abs(np.log(mean / deviation)), 0.6)
