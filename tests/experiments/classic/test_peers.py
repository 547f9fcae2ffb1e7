"""Keras and torch, where they are installed: the same start, the same steps as Linen; or left out by name."""

import sys
from typing import Any

import jax
import numpy as np
import pytest

from experiments import data
from experiments.classic import models, peers

DIGITS = data.load("digits")
ROWS = 21
FOUND, _ = peers.load()


def task(rate: float, batch_size: int, hidden: tuple[int, ...] = (6,)) -> models.Task:
    rows = data.Dataset("digits", DIGITS.x[:ROWS], DIGITS.y[:ROWS], DIGITS.x_test, DIGITS.y_test)
    return models.Task(hidden, rows, epochs=2, rate=rate, batch_size=batch_size)


def peer(name: str) -> tuple[Any, ...]:
    """The module, the model's builder, the training, and the reader of kernels and biases."""
    contender: Any = FOUND.get(name) or pytest.skip(f"{name} is not installed")
    (module,) = contender.args
    if name == "Keras":
        return module, peers.keras_model, peers.keras_fit, lambda model: model.get_weights()

    def weights(model: Any) -> list[np.ndarray]:
        return [np.array(p.detach().numpy().T) for p in model.parameters()]

    return module, peers.torch_model, peers.torch_fit, weights


def seed(name: str, module: Any) -> None:
    """The same start in every run of the tests."""
    module.utils.set_random_seed(0) if name == "Keras" else module.manual_seed(0)


NAMES = pytest.mark.parametrize("name", ["Keras", "torch"])


@NAMES
def test_it_starts_as_keras_does(name):
    module, build, _, weights = peer(name)
    seed(name, module)
    found = weights(build(module, task(0.5, 8, (64, 32))))
    assert [w.shape for w in found] == [(64, 64), (64,), (64, 32), (32,), (32, 10), (10,)]
    for kernel in found[::2]:
        bound = np.sqrt(6 / sum(kernel.shape))
        assert np.abs(kernel).max() <= bound * (1 + 1e-6)
        # For a uniform u in (-1, 1), u**2 has mean 1/3 and variance 4/45.
        assert abs(np.mean((kernel / bound) ** 2) - 1 / 3) < 5 * np.sqrt(4 / 45 / kernel.size)
    assert not any(bias.any() for bias in found[1::2])


@NAMES
def test_without_dropout_its_steps_are_those_of_linen(name):
    module, build, fit, weights = peer(name)
    full = task(0.0, ROWS)
    seed(name, module)
    model = build(module, full)
    kernel, bias, kernel2, bias2 = weights(model)
    params = {"Dense_0": {"kernel": kernel, "bias": bias}, "Dense_1": {"kernel": kernel2, "bias": bias2}}
    assert len(fit(module, model, full)) == 2
    init, step = models.linen_trainer(models.linen_model(full.sizes, 0.0))
    state = init(jax.random.key(0), params)
    for _ in range(2):
        state, _ = step(state, (full.dataset.x, full.dataset.y))
    ours = [state.params[layer][kind] for layer in params for kind in ("kernel", "bias")]
    # Two steps move a weight by 2e-3. Keras adds its epsilon before it corrects the second moment, which
    # is seen where a gradient is tiny: its largest differences are 4e-5, the mean ones 3e-7.
    pairs = zip(ours, weights(model), strict=True)
    apart = np.concatenate([np.abs(np.asarray(mine) - theirs).ravel() for mine, theirs in pairs])
    assert apart.max() < (1e-4 if name == "Keras" else 1e-6)
    assert apart.mean() < 1e-6


@NAMES
def test_it_takes_every_step_and_with_all_dropped_only_its_last_bias_learns(name):
    module, build, fit, weights = peer(name)
    dropped = task(1.0, 8)
    seed(name, module)
    model = build(module, dropped)
    before, seen = weights(model), []
    if name == "torch":
        model.register_forward_hook(lambda _, x, y: seen.append(len(y)))
    fit(module, model, dropped)
    *others, last = [np.abs(a - b).max() for a, b in zip(weights(model), before, strict=True)]
    assert others == [0, 0, 0]
    assert last > 0
    # Two batches of 8 and one of 5, twice.
    assert seen == [8, 8, 5] * 2 if name == "torch" else int(model.optimizer.iterations) == 6


@NAMES
def test_a_run_repeats(name):
    peer(name)
    small = task(0.5, 8)
    run = FOUND[name](small)
    one, again = run(3), run(3)
    assert one.accuracy == again.accuracy
    assert len(one.seconds) == 2
    assert min(one.seconds) > 0


def test_who_is_not_installed_is_named(monkeypatch):
    for name in peers.PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    assert peers.load() == ({}, ["Keras", "torch"])


def test_keras_on_another_backend_is_left_out(monkeypatch):
    class Backend:
        @staticmethod
        def backend() -> str:
            return "numpy"

    class Keras:
        backend = Backend

    monkeypatch.setitem(sys.modules, "keras", Keras)
    assert "Keras" in peers.load()[1]
