"""The network against NumPy, its dropout, and its optimizer against a loop written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import relu_net

WIDTHS = (6, 5, 4, 3)
PARAMS = relu_net.init(np.random.default_rng(0), WIDTHS)
X = jnp.asarray(np.random.default_rng(1).normal(size=(1_203, 6)), jnp.float32)
PAPER = (0.2, 0.5)


def reference(x):
    """Logits and hidden layers in float64."""
    x = np.asarray(x, np.float64)
    *hidden, last = (PARAMS[f"layer_{i}"] for i in range(3))
    units = []
    for layer in hidden:
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
        units.append(x)
    return x @ last["kernel"] + last["bias"], units


def test_start():
    assert {name: layer["kernel"].shape for name, layer in PARAMS.items()} == {
        "layer_0": (6, 5),
        "layer_1": (5, 4),
        "layer_2": (4, 3),
    }
    assert not any(layer["bias"].any() for layer in PARAMS.values())
    kernel = relu_net.init(np.random.default_rng(0), (400, 500))["layer_0"]["kernel"]
    # The variance of n normal draws has a relative standard error of sqrt(2 / n).
    assert kernel.var() == pytest.approx(2 / 400, rel=5 * (2 / kernel.size) ** 0.5)


def test_without_a_key_it_is_the_mean_network():
    logits, hidden = relu_net.apply(PARAMS, X)
    expected, units = reference(X)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    for mine, other in zip(hidden, units, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


def test_rates_are_of_the_inputs_and_of_the_hidden_units():
    key = jax.random.key(0)
    exact, _ = relu_net.apply(PARAMS, X)
    still, _ = relu_net.apply(PARAMS, X, (0.0, 0.0), key)
    np.testing.assert_array_equal(still, exact)
    blind, _ = relu_net.apply(PARAMS, X, (1.0, 0.0), key)
    np.testing.assert_array_equal(blind, np.zeros_like(blind))
    cut, hidden = relu_net.apply(PARAMS, X, (0.0, 1.0), key)
    np.testing.assert_array_equal(cut, np.zeros_like(cut))
    # What is returned of a hidden layer is before its own dropout, and after that of what comes in.
    np.testing.assert_allclose(hidden[0], reference(X)[1][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(hidden[1], np.zeros_like(hidden[1]))


def test_masks_are_new_for_each_layer_and_example():
    _, hidden = relu_net.apply(PARAMS, jnp.ones_like(X), PAPER, jax.random.key(0))
    # An example's first hidden layer depends on its mask of 6 inputs alone, of which there are 64.
    assert 40 < len(np.unique(np.asarray(hidden[0]), axis=0)) <= 64


def test_error_rate_is_the_share_of_all_examples():
    labels = reference(X)[0].argmax(-1)
    wrong = np.random.default_rng(2).random(len(X)) < 0.3
    y = jnp.asarray(np.where(wrong, (labels + 1) % 3, labels))
    assert float(relu_net.error_rate(PARAMS, X, y)) == pytest.approx(wrong.mean(), abs=2e-3)
    assert float(relu_net.error_rate(PARAMS, X[:7], y[:7])) == pytest.approx(wrong[:7].mean())


@pytest.mark.slow
def test_runs_under_vmap_are_those_without():
    runs = [PARAMS, jax.tree.map(lambda leaf: 2 * leaf, PARAMS)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    keys, rates = jax.random.split(jax.random.key(0), 2), jnp.array([PAPER, (0.0, 0.1)])
    many, _ = jax.vmap(lambda p, r, k: relu_net.apply(p, X, r, k))(stacked, rates, keys)
    for i, run in enumerate(runs):
        alone, _ = relu_net.apply(run, X, rates[i], keys[i])
        np.testing.assert_allclose(many[i], alone, rtol=1e-4, atol=1e-5)


def test_schedules():
    rate, momentum = relu_net.learning_rate(2.0, 100), relu_net.momentum(100)
    np.testing.assert_allclose([np.asarray(rate(step)) for step in (0, 50, 100, 200)], [2, 1, 0, 0])
    shares = [np.asarray(momentum(step)) for step in (0, 5, 10, 99)]
    np.testing.assert_allclose(shares, [0.5, 0.725, 0.95, 0.95], rtol=1e-6)


def test_optimizer_is_momentum_on_the_mean_gradient():
    steps = 20
    optimizer = relu_net.optimizer(jnp.float32(0.5), steps)
    params, mean, expected = jnp.float32(1.0), 0.0, 1.0
    state = optimizer.init(params)
    for step in range(steps):
        gradient = float(np.cos(step))
        updates, state = optimizer.update(jnp.float32(gradient), state, params)
        params = params + updates
        share = min(0.5 + 0.45 * step / 2, 0.95)
        mean = share * mean + (1 - share) * gradient
        expected -= 0.5 * (1 - step / steps) * mean
    np.testing.assert_allclose(params, expected, rtol=1e-5)
