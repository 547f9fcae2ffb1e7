"""Nested training sets that are kept to, settings beside each other, and the size of sums under noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data, loop, relu_net
from experiments.rates import rate, runs, size
from jaxdrop import training
from tests.experiments import events

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

SETTINGS = (runs.Setting(0.0, 0.0, 12), runs.Setting(0.2, 0.5, 12), runs.Setting(0.2, 0.5, 30))
PLAN = runs.Plan("test", "digits", 3, 1, (8,), 10, SETTINGS)


def examples() -> data.Dataset:
    """Forty points of two classes."""
    x, y = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32), np.arange(40, dtype=np.int32) % 2
    return data.Dataset("digits", x, y, x[:20], y[:20])


@pytest.mark.slow
def test_a_network_sees_only_the_first_images_of_its_seed():
    full = examples()
    order = runs.orders(PLAN, 40)
    unseen = np.setdiff1d(np.arange(40), order[0, :12])
    x, y = full.x.copy(), full.y.copy()
    x[unseen], y[unseen] = x[unseen] + 5, 7
    pair = training.sweep(runs.recipe(PLAN))
    ends = []
    for pool in ((full.x, full.y, order), (x, y, order)):
        state = pair.init(*runs.cells(PLAN, 6))
        for _ in range(PLAN.updates):
            state, _ = pair.step(state, jax.tree.map(jnp.asarray, pool))
        ends.append(jax.tree.leaves(state.params))
    for old, new in zip(*ends, strict=True):
        np.testing.assert_array_equal(old[:2], new[:2])
        assert not np.array_equal(old[2], new[2])


@pytest.mark.slow
def test_errors_are_counted_on_the_images_of_each_network(tmp_path):
    full = examples()
    found = runs.train(PLAN, full, tmp_path / "run", loop.Setup(3, tmp_path, tmp_path))
    curves = events.points(tmp_path / "run")
    names = [f"train/input_{s.input:g}_hidden_{s.hidden:g}_images_{s.size}" for s in SETTINGS]
    last = [curves[name][-1][1] for name in names]
    np.testing.assert_allclose(last, found.curves[-1, :, 0], rtol=1e-6)
    assert found.curves.shape == (runs.CHUNKS, 3, 1)
    order = runs.orders(PLAN, 40)[0]
    for i, setting in enumerate(SETTINGS):
        mine = jax.tree.map(lambda leaf, i=i: leaf[i, 0], found.params)
        logits, _ = relu_net.apply(mine, jnp.asarray(full.x))
        wrong = np.asarray(logits.argmax(-1) != full.y)
        np.testing.assert_allclose(found.train[i, 0], wrong[order[: setting.size]].mean(), atol=1e-6)
        np.testing.assert_allclose(found.test[i, 0], wrong[:20].mean(), atol=1e-6)
        np.testing.assert_allclose(found.curves[-1, i, 0], wrong[order[:12]].mean(), atol=1e-6)


def test_seeds_run_fastest_and_share_their_start_and_key_over_the_settings():
    plan = PLAN._replace(seeds=2)
    keys, params, hyper = runs.cells(plan, 6)
    np.testing.assert_array_equal(hyper["place"], [0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(hyper["size"], [12, 12, 12, 12, 30, 30])
    np.testing.assert_allclose(hyper["hidden"], [0, 0, 0.5, 0.5, 0.5, 0.5])
    data_of = jax.random.key_data(keys)
    np.testing.assert_array_equal(data_of[:2], data_of[2:4])
    kernel = params["layer_0"]["kernel"]
    assert kernel.shape == (6, 6, 8)
    np.testing.assert_array_equal(kernel[0], kernel[4])
    assert not np.array_equal(kernel[0], kernel[1])


def test_the_images_of_a_seed_are_its_own_whatever_the_sizes():
    few, many = (
        runs.orders(PLAN._replace(settings=(runs.Setting(0.0, 0.0, n),), seeds=2), 40) for n in (5, 30)
    )
    np.testing.assert_array_equal(few, many[:, :5])
    assert not np.array_equal(few[0], few[1])
    assert all(len(set(row)) == 30 for row in many.tolist())


def test_at_rate_0_the_loss_is_that_of_the_network_without_noise():
    _, params, hyper = runs.cells(PLAN, 6)
    params, cell = jax.tree.map(lambda leaf: leaf[0], (params, hyper))
    full = examples()
    # One image is all there is to draw, so the batch is known.
    pool = (jnp.asarray(full.x), jnp.asarray(full.y), jnp.full((1, 30), 9))

    @jax.jit
    def loss(hidden: float) -> jax.Array:
        loss_fn, _ = runs.recipe(PLAN)(cell | {"input": hidden / 2, "hidden": hidden})
        return loss_fn(params, jax.random.key(1), pool)[0]

    logits, _ = relu_net.apply(params, pool[0][9])
    expected = -jax.nn.log_softmax(logits)[full.y[9]]
    np.testing.assert_allclose(loss(0.0), expected, rtol=1e-5)
    assert abs(loss(0.5) - expected) > 1e-3


def test_weights_are_scaled_by_the_root_of_what_is_kept_of_their_inputs():
    params = relu_net.init(np.random.default_rng(0), (4, 3, 3, 2))
    scaled = runs.balanced(params, (0.19, 0.75))
    for name, root in (("layer_0", 0.9), ("layer_1", 0.5), ("layer_2", 0.5)):
        np.testing.assert_allclose(scaled[name]["kernel"], root * params[name]["kernel"], rtol=1e-6)
        np.testing.assert_array_equal(scaled[name]["bias"], params[name]["bias"])
    same = runs.balanced(params, (0.0, 0.0))
    jax.tree.map(np.testing.assert_array_equal, same, params)


def test_noise_leaves_the_size_of_the_sums():
    params = relu_net.init(np.random.default_rng(0), (400, 400))
    x = jnp.ones((50, 400))
    noisy, _ = relu_net.apply(runs.balanced(params, (0.8, 0.0)), x, (0.8, 0.0), jax.random.key(0))
    # Without noise the mean square is 2. That of a row, over 400 units, deviates by 0.14 from it, and
    # as much again by how many inputs are kept; the mean of 50 nearly independent rows by 0.03.
    np.testing.assert_allclose(jnp.mean(noisy**2), 2, atol=0.15)


def test_scale_1_is_the_paper():
    made = rate.make("mnist", 0, 1, 1.0, False)
    assert (made.hidden, made.updates, made.settings[0].size) == ((2048,) * 3, 1_000_000, 60_000)
    assert size.make("mnist", 0, 1, 1.0, False).hidden == (1024, 1024, 2048)


@pytest.mark.parametrize(("scale", "expected"), [(1 / 8, 1950), (0.5, 125_000), (1e-3, runs.CHUNKS)])
def test_updates_go_with_the_cube_and_can_be_divided(scale, expected):
    assert runs.updates(scale) == expected
