"""What a cell is made of, what its recipe does, and which settings are chosen and tested."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import batches, data, relu_net, study
from experiments.srivastava import methods
from jaxdrop import optim, penalties

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

CONFIG = methods.Config("digits", 3, 2, (5, 4, 6), 20, 4, 30, 10, 10, clip=np.inf)
X = np.random.default_rng(0).random((50, 8)).astype(np.float32)
SETTINGS = [setting for options in methods.METHODS.values() for setting in options]
Y = np.random.default_rng(1).integers(0, 10, 50).astype(np.int32)


def hyper(**setting):
    values = {name: jnp.float32(value) for name, value in (methods.ABSENT | setting).items()}
    return values | {"train": jnp.arange(30)}


def params(scale=1.0):
    return jax.tree.map(lambda leaf: scale * leaf, relu_net.init(np.random.default_rng(2), (8, 5, 4, 6, 10)))


def after(setting, steps, scale=1.0):
    """What so many updates make of the parameters where the loss has no gradient."""
    _, optimizer = methods.recipe_for(CONFIG)(hyper(**setting))

    def update(run, _):
        now, state = run
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, now), state, now)
        return (optax.apply_updates(now, updates), state), None

    now = jax.tree.map(jnp.asarray, params(scale))
    return jax.jit(lambda run: jax.lax.scan(update, run, length=steps)[0][0])((now, optimizer.init(now)))


def test_every_published_method_has_settings_of_known_names():
    assert set(methods.METHODS) == set(methods.PUBLISHED)
    for setting in SETTINGS:
        assert set(setting) <= set(methods.ABSENT)
    assert methods.BASELINE in methods.METHODS
    assert methods.BEST in methods.METHODS


def test_cells_are_every_setting_with_every_seed():
    made = methods.make(CONFIG, data.Dataset("digits", X, Y, X, Y), {})
    _, cells = study.cells(made, made.programs[0])
    count = len(SETTINGS)
    for name, absent in methods.ABSENT.items():
        expected = [setting.get(name, absent) for setting in SETTINGS]
        np.testing.assert_allclose(cells[name].reshape(count, 2), np.tile(expected, (2, 1)).T, rtol=1e-6)
    rows = np.asarray(cells["train"])
    np.testing.assert_array_equal(rows[:2], rows[2:4])
    assert not set(rows[0]) & set(np.asarray(cells["valid"])[0])
    assert cells["probe"].shape == (2 * count, 10)


def test_an_absent_setting_does_nothing():
    now = after({}, 20, scale=5.0)
    jax.tree.map(np.testing.assert_array_equal, now, params(5.0))


@pytest.mark.slow
def test_max_norm_is_of_the_hidden_units():
    now = after({"max_norm": 2.0}, 1, scale=5.0)
    for i in range(3):
        norms = jnp.linalg.norm(now[f"layer_{i}"]["kernel"], axis=0)
        np.testing.assert_allclose(norms, 2.0, rtol=1e-6)
    np.testing.assert_array_equal(now["layer_3"]["kernel"], params(5.0)["layer_3"]["kernel"])


@pytest.mark.slow
def test_l1_comes_at_the_end_and_gives_exact_zeros():
    jax.tree.map(np.testing.assert_array_equal, after({"l1": 1.0}, 16), params())
    assert not np.any(params()["layer_0"]["kernel"] == 0)
    assert np.any(after({"l1": 1.0}, 18)["layer_0"]["kernel"] == 0)


def test_l2_is_in_the_gradient():
    now, first = after({"l2": 0.1}, 1), params()
    # The first momentum is .5: half the gradient, 2 * 0.1 * w, times the learning rate.
    left = 1 - 0.1 * CONFIG.learning_rate
    np.testing.assert_allclose(now["layer_1"]["kernel"], left * first["layer_1"]["kernel"], rtol=1e-5)


@pytest.mark.slow
def test_the_loss_is_cross_entropy_with_the_sparsity_of_the_hidden_units():
    key, pool = jax.random.key(0), (jnp.asarray(X), jnp.asarray(Y))

    @jax.jit
    def loss(values):
        return methods.recipe_for(CONFIG)(values)[0](params(), key, pool)[0]

    losses = [loss(hyper(kl=kl)) for kl in (0.0, 0.5)]
    batch_key, _ = jax.random.split(key)
    rows = batches.draw_batch(batch_key, CONFIG.batch_size, CONFIG.train_size)
    logits, hidden = relu_net.apply(params(), jnp.asarray(X)[rows])
    sparsity = penalties.kl_sparsity([jnp.tanh(units) for units in hidden], 0.5, target=CONFIG.target)
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, Y[rows]).mean()
    np.testing.assert_allclose(losses, [plain, plain + sparsity], rtol=1e-5)
    noisy = loss(hyper(input=0.2, hidden=0.5))
    assert float(noisy) != pytest.approx(float(plain), rel=1e-3)


@pytest.mark.slow
def test_an_update_that_is_not_finite_halts():
    _, optimizer = methods.recipe_for(CONFIG)(hyper())
    bad = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params())
    _, state = jax.jit(optimizer.update)(bad, optimizer.init(params()), params())
    with pytest.raises(FloatingPointError, match=r"layer_0/bias.* at step 0\."):
        optim.raise_if_halted(state)
