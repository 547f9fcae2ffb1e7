"""The training loop: history, and resuming after an interruption with the same result."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdrop
from experiments import loop
from jaxdrop.training import Trainer, TrainState, grid, sweep

BATCH = jax.random.normal(jax.random.key(1), (16, 4))


def recipe(hyper):
    def loss_fn(params, key, x):
        return jnp.mean((jaxdrop.dropout(key, x, hyper["rate"]) @ params["kernel"] - 1) ** 2), ()

    return loss_fn, optax.adam(1e-2)


def evaluate(state, batch):
    assert batch.shape == BATCH.shape
    return jnp.abs(state.params["kernel"]).sum((1, 2))


def setup() -> tuple[Trainer, TrainState]:
    pair = sweep(recipe)
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"kernel": jax.vmap(lambda key: jax.random.normal(key, (4, 1)))(keys)}
    return pair, pair.init(keys, params, grid(rate=[0.0, 0.2, 0.5]))


def run(folder, evaluate=evaluate):
    pair, state = setup()
    return loop.train(pair, state, BATCH, evaluate, steps=20, every=4, title="test", checkpoints=folder)


def test_history_is_the_metrics_after_each_chunk(tmp_path):
    state, history = run(tmp_path / "a")
    assert history.shape == (5, 3)
    np.testing.assert_allclose(history[-1], evaluate(state, BATCH), rtol=1e-6)
    pair, expected = setup()
    for _ in range(20):
        expected, _ = pair.step(expected, BATCH)
    chex.assert_trees_all_close(state.params, expected.params, rtol=1e-5, atol=1e-6)


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path, monkeypatch):
    whole, whole_history = run(tmp_path / "whole")
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    advance, calls = loop.cli.progress, []

    def progress(*args):
        bar, task = advance(*args)
        update = bar.advance

        def stop(*args):
            calls.append(args)
            if len(calls) == 3:
                raise KeyboardInterrupt
            update(*args)

        bar.advance = stop
        return bar, task

    monkeypatch.setattr(loop.cli, "progress", progress)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    monkeypatch.setattr(loop.cli, "progress", advance)
    assert any((tmp_path / "cut").iterdir())
    state, history = run(tmp_path / "cut")
    chex.assert_trees_all_equal(state.params, whole.params)
    np.testing.assert_array_equal(history, whole_history)
    loop.forget(tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_a_configuration_has_its_own_folder(tmp_path):
    folders = {loop.checkpoint_folder(tmp_path, {"seed": seed, "steps": 5}) for seed in (0, 0, 1)}
    folders |= {loop.checkpoint_folder(tmp_path, {"seed": 0}, [np.full(3, value)]) for value in (0, 0, 1)}
    assert len(folders) == 4
