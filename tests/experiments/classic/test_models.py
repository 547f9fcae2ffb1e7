"""The Linen and NNX models: their start, their steps, and both forms of an epoch."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from experiments import data
from experiments.classic import models
from jaxdrop.nnx import trainable

DIGITS = data.load("digits")
ROWS = 21  # two batches of 8 and one of 5


def some(rows: int) -> data.Dataset:
    return data.Dataset("digits", DIGITS.x[:rows], DIGITS.y[:rows], DIGITS.x_test, DIGITS.y_test)


def reference(kernels: list[np.ndarray], x: np.ndarray, y: np.ndarray, steps: int) -> list[np.ndarray]:
    """The kernels of a network of one hidden layer after full-batch Adam, in float64."""
    params = [array for k in kernels for array in (k.astype(np.float64), np.zeros(k.shape[1]))]
    m, v = ([np.zeros_like(p) for p in params] for _ in range(2))
    for t in range(1, steps + 1):
        w, b, w2, b2 = params
        hidden = np.maximum(x @ w + b, 0)
        logits = hidden @ w2 + b2
        p = np.exp(logits - logits.max(1, keepdims=True))
        d2 = (p / p.sum(1, keepdims=True) - np.eye(10)[y]) / len(x)
        d1 = d2 @ w2.T * (hidden > 0)
        grads = [x.T @ d1, d1.sum(0), hidden.T @ d2, d2.sum(0)]
        m = [0.9 * a + 0.1 * g for a, g in zip(m, grads, strict=True)]
        v = [0.999 * a + 0.001 * g**2 for a, g in zip(v, grads, strict=True)]
        params = [
            p - 1e-3 * (a / (1 - 0.9**t)) / (np.sqrt(c / (1 - 0.999**t)) + 1e-8)
            for p, a, c in zip(params, m, v, strict=True)
        ]
    return params[::2]


def check_start(kernels: list[np.ndarray], biases: list[np.ndarray]) -> None:
    """Glorot's uniform kernels: the bound, and the variance within 5 standard errors; zero biases."""
    for kernel in kernels:
        bound = np.sqrt(6 / sum(kernel.shape))
        assert np.abs(kernel).max() <= bound * (1 + 1e-6)
        # For a uniform u in (-1, 1), u**2 has mean 1/3 and variance 4/45.
        error = np.sqrt(4 / 45 / kernel.size)
        assert abs(np.mean((kernel / bound) ** 2) - 1 / 3) < 5 * error
    assert all(not bias.any() for bias in biases)


def sorted_leaves(tree: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Kernels and biases, in the order of the layers."""
    layers = [tree[name] for name in sorted(tree)]
    return [np.asarray(la["kernel"]) for la in layers], [np.asarray(la["bias"]) for la in layers]


def test_both_start_as_keras_does():
    sizes = (784, 64, 64, 10)
    linen = models.linen_model(sizes, 0.5).init(jax.random.key(0), np.zeros((1, 784), np.float32))["params"]
    kernels, biases = sorted_leaves(linen)
    assert [k.shape for k in kernels] == [(784, 64), (64, 64), (64, 10)]
    check_start(kernels, biases)
    built: Any = models.NNXMLP(sizes, 0.5, rngs=nnx.Rngs(0)).layers
    assert [layer.kernel.shape for layer in built] == [(784, 64), (64, 64), (64, 10)]
    check_start(
        [np.asarray(layer.kernel[...]) for layer in built], [np.asarray(la.bias[...]) for la in built]
    )


def trained(api: str, rate: float) -> tuple[list[np.ndarray], ...]:
    """Kernels before, kernels and biases after two steps of one full batch."""
    task = models.Task((6,), some(ROWS), epochs=2, rate=rate, batch_size=ROWS)
    x, y = task.dataset.x, task.dataset.y
    if api == "linen":
        model = models.linen_model(task.sizes, task.rate)
        init, step = models.linen_trainer(model)
        state = init(jax.random.key(1), model.init(jax.random.key(0), x)["params"])
    else:
        parts = trainable(models.NNXMLP(task.sizes, task.rate, rngs=nnx.Rngs(0)))
        init, step = models.nnx_trainer(parts)
        state = init(jax.random.key(1), parts.params, parts.model_state)
    start = layers(api, state.params)[0]
    epoch = models.epoch_by_steps(step, task.batch_size)
    for _ in range(2):
        state = epoch(state, x, y, np.arange(ROWS))
    return start, *layers(api, state.params)


def layers(api: str, params: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Kernels and biases of either API."""
    return sorted_leaves(params if api == "linen" else nnx.to_pure_dict(params)["layers"])


@pytest.mark.parametrize("api", ["linen", "nnx"])
def test_without_dropout_the_steps_are_the_reference(api):
    start, kernels, _ = trained(api, rate=0.0)
    expected = reference(start, DIGITS.x[:ROWS], DIGITS.y[:ROWS], steps=2)
    for mine, theirs in zip(kernels, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)


@pytest.mark.parametrize("api", ["linen", "nnx"])
def test_with_all_dropped_only_the_last_bias_learns(api):
    start, kernels, biases = trained(api, rate=1.0)
    for before, after in zip(start, kernels, strict=True):
        np.testing.assert_array_equal(before, after)
    assert not biases[0].any()
    assert biases[1].all()


@pytest.mark.slow
@pytest.mark.parametrize("api", ["linen", "nnx"])
def test_both_forms_of_an_epoch_take_the_same_steps(api):
    task = models.Task((8,), some(ROWS), epochs=1, batch_size=8)
    x, y = jax.numpy.asarray(task.dataset.x), jax.numpy.asarray(task.dataset.y)
    if api == "linen":
        model = models.linen_model(task.sizes, task.rate)
        init, step = models.linen_trainer(model)
        state = init(jax.random.key(1), model.init(jax.random.key(0), x)["params"])
    else:
        parts = trainable(models.NNXMLP(task.sizes, task.rate, rngs=nnx.Rngs(0)))
        init, step = models.nnx_trainer(parts)
        state = init(jax.random.key(1), parts.params, parts.model_state)
    order = np.random.default_rng(0).permutation(ROWS)
    whole, by_steps = (
        form(step, task.batch_size)(state, x, y, order)
        for form in (models.whole_epoch, models.epoch_by_steps)
    )
    assert int(whole.step) == int(by_steps.step) == 3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole.params, by_steps.params)
    assert not np.allclose(layers(api, whole.params)[1][0], 0)


def test_the_rows_of_an_epoch():
    batches, last = models.split(np.arange(21), 8)
    assert batches.shape == (2, 8)
    assert last.tolist() == [16, 17, 18, 19, 20]
    batches, last = models.split(np.arange(60_000), 64)
    assert batches.shape == (937, 64)
    assert len(last) == 32
    assert not len(models.split(np.arange(16), 8)[1])


def test_a_task_names_its_model():
    task = models.Task((16, 8), some(ROWS), epochs=1)
    assert task.sizes == (64, 16, 8, 10)
    assert task.name == "64-16-8-10"
    assert models.accuracy(np.eye(10)[DIGITS.y_test], task) == 1
