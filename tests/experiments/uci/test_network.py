"""The network, its penalty, and that the cells of a grid train as each would alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from experiments import splits
from experiments.uci import network
from jaxdrop.training import TrainState

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

HIDDEN, INPUTS = 6, 3


def part_of(sizes, seed=0):
    """Random rows for splits of some sizes, padded."""
    rng = np.random.default_rng(seed)
    x = np.zeros((len(sizes), max(sizes), INPUTS), np.float32)
    y = np.zeros((len(sizes), max(sizes)), np.float32)
    for i, size in enumerate(sizes):
        x[i, :size], y[i, :size] = rng.normal(size=(size, INPUTS)), rng.normal(size=size)
    ones = np.ones(len(sizes), np.float32)
    return splits.Part(x, y, np.array(sizes, np.int32), x[:, :2], y[:, :2], 2 * ones, ones, 0 * ones)


def pick(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def trained(part, rates, taus, keys, epochs=2, layers=1):
    """The parameters after some epochs, `[S, R, T]`."""
    count = len(part.size)
    cells = network.hyper(np.tile(rates, (count, 1)), np.tile(taus, (count, 1)), part.size)
    trainer = network.trainer(HIDDEN, layers)
    state = trainer.init(keys, [(0, i) for i in range(count)], cells, INPUTS)
    part = jax.tree.map(jnp.asarray, part)
    step = jax.jit(lambda state: trainer.step(state, part)[0])
    for _ in range(epochs):
        state = step(state)
    assert int(state.step[0]) == epochs
    return state.params


@pytest.mark.parametrize("layers", [1, 2])
def test_the_mean_network_by_hand(layers):
    params = network.init(np.random.default_rng(0), INPUTS, HIDDEN, layers)
    assert [layer["kernel"].shape for layer in params] == [(3, 6), *[(6, 6)] * (layers - 1), (6, 1)]
    h = x = np.random.default_rng(1).normal(size=(5, INPUTS)).astype(np.float32)
    for layer in params[:-1]:
        h = np.maximum(h @ layer["kernel"] + layer["bias"], 0)
    expected = (h @ params[-1]["kernel"] + params[-1]["bias"])[:, 0]
    np.testing.assert_allclose(network.apply(params, jnp.asarray(x)), expected, rtol=1e-5)


def test_every_layer_has_its_own_noise():
    """The output of a network of identities is the product of the masks of one unit."""
    rate, size = jnp.float32(0.5), 200
    sizes = [(HIDDEN, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 1)]
    params = tuple({"kernel": jnp.eye(*shape), "bias": jnp.zeros(shape[1])} for shape in sizes)
    keys = jax.random.split(jax.random.key(0), 3)
    masks = [jaxdrop.dropout(key, jnp.ones((HIDDEN, size)), rate)[0] for key in keys]
    assert len({tuple(mask.tolist()) for mask in masks}) == 3
    found = network.apply(params, jnp.ones((size, HIDDEN)), rate, jax.random.key(0))
    np.testing.assert_array_equal(found, np.prod(masks, axis=0))


def test_first_weights_are_glorots():
    kernel = network.init(np.random.default_rng(0), 50, 100)[0]["kernel"]
    limit = np.sqrt(6 / 150)
    assert abs(kernel).max() <= limit
    # The standard error of a variance of n uniform draws is limit**2 * sqrt(4 / (45 n)).
    assert abs(kernel.var() - limit**2 / 3) < 5 * limit**2 * np.sqrt(4 / (45 * kernel.size))


def test_noise_keeps_the_mean_of_a_linear_network():
    params = network.init(np.random.default_rng(0), INPUTS, HIDDEN)
    params[0]["bias"] += 100.0
    x = np.random.default_rng(1).normal(size=(1, INPUTS)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 4000)
    y = np.asarray(jax.vmap(lambda key: network.apply(params, x, jnp.float32(0.1), key))(keys))
    error = y.std(0, ddof=1) / np.sqrt(len(y))
    assert (abs(y.mean(0) - network.apply(params, x)) < 5 * error).all()


def test_strength():
    assert network.strength(0.1, 0.2, 364) == pytest.approx(1e-4 * 0.9 / (2 * 364 * 0.2))
    cells = network.hyper(np.array([[0.1, 0.2]]), np.array([[0.5, 1.0, 2.0]]), np.array([10]))
    assert cells.strength.shape == (1, 2, 3)
    np.testing.assert_allclose(cells.strength[0, 1, 2], 1e-4 * 0.8 / 40, rtol=1e-6)


@pytest.mark.parametrize(("size", "count"), [(7, 7), (7, 6)])
def test_order(size, count):
    rows = np.asarray(network.order(jax.random.key(0), size, jnp.int32(count)))
    assert sorted(rows[:count]) == list(range(count))
    assert sorted(rows) == list(range(size))


def test_every_order_is_as_likely():
    keys = jax.random.split(jax.random.key(0), 6000)
    rows = np.asarray(jax.vmap(lambda key: network.order(key, 3, jnp.int32(3)))(keys))
    _, counts = np.unique(rows @ [9, 3, 1], return_counts=True)
    assert len(counts) == 6
    assert (abs(counts - 1000) < 5 * np.sqrt(6000 / 6 * 5 / 6)).all()


# The first of 128 rows has no second batch, and the first of five has one row less than there is room for.
@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(128, 129), (5, 6)], ids=str)
def test_a_cell_trains_as_it_would_alone(sizes):
    part = part_of(sizes)
    rates, taus = np.array([0.05, 0.3]), np.array([1e-6, 1.0])
    keys = jax.random.split(jax.random.key(0), 2)
    together = pick(trained(part, rates, taus, keys), (0, 1, 0))
    own = splits.Part(*(value[:1] for value in part))
    own = own._replace(x=own.x[:, : sizes[0]], y=own.y[:, : sizes[0]])
    alone = pick(trained(own, rates[1:], taus[:1], keys[:1]), (0, 0, 0))
    for mine, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_an_epoch_by_hand():
    """At rate 0: plain gradients of mean squares and of the penalty of weights, not of biases, and Adam."""
    size, tau, layers = 130, 1e-6, 2
    part = part_of((size,))
    keys = jax.random.split(jax.random.key(0), 1)
    found = pick(trained(part, np.zeros(1), np.array([tau]), keys, epochs=1, layers=layers), (0, 0, 0))
    order_key, _ = jax.random.split(jax.random.fold_in(keys[0], 0))
    rows = np.asarray(network.order(order_key, size, jnp.int32(size)))
    first = network.init(np.random.default_rng((0, 0)), INPUTS, HIDDEN, layers)
    batches, strength = [rows[:128], rows[128:]], network.strength(0, tau, size)
    expected = adam_by_hand(first, part.x[0], part.y[0], batches, strength)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name[0]][name[1]], value, rtol=1e-3, atol=1e-5)


def adam_by_hand(first, x, y, batches, strength):
    p = {(i, kind): np.float64(value) for i, layer in enumerate(first) for kind, value in layer.items()}
    m, v = ({k: np.zeros_like(w) for k, w in p.items()} for _ in range(2))
    last = len(first) - 1
    for t, rows in enumerate(batches, 1):
        h = [x[rows]]
        for i in range(last):
            h.append(np.maximum(h[i] @ p[i, "kernel"] + p[i, "bias"], 0))
        back = 2 * ((h[last] @ p[last, "kernel"] + p[last, "bias"])[:, 0] - y[rows])[:, None] / len(rows)
        grads = {}
        for i in range(last, -1, -1):
            grads[i, "kernel"] = h[i].T @ back + 2 * strength * p[i, "kernel"]
            grads[i, "bias"] = back.sum(0)
            back = (back @ p[i, "kernel"].T) * (h[i] > 0)
        for k, g in grads.items():
            m[k], v[k] = 0.9 * m[k] + 0.1 * g, 0.999 * v[k] + 0.001 * g**2
            p[k] = p[k] - 1e-3 * (m[k] / (1 - 0.9**t)) / (np.sqrt(v[k] / (1 - 0.999**t)) + 1e-8)
    return p


def test_training_error_is_of_the_mean_network():
    part = part_of((9,))
    params = jax.tree.map(
        lambda v: jnp.asarray(v)[None, None, None], network.init(np.random.default_rng(0), 3, 6)
    )
    error = network.training_error(TrainState(jnp.zeros(1), (), params, ()), jax.tree.map(jnp.asarray, part))
    outputs = network.apply(pick(params, (0, 0, 0)), part.x[0, :8])
    np.testing.assert_allclose(error, np.mean((outputs - part.y[0, :8]) ** 2)[None, None, None], rtol=1e-5)
