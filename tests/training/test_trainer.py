"""The init/step pair and the sweep: keys, resuming, agreement, and one compiled program."""

import re

import chex
import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.linen
from jaxdrop.training import TrainState, grid, sweep, trainer
from tests import gpu
from tests.normals import standard_normal

KEY = jax.random.key(0)
BATCH = {
    "x": standard_normal(1, (32, 6)),
    "y": standard_normal(2, (32, 1)),
}


def init_params(key):
    a, b = jax.random.split(key)
    hidden = {"kernel": jax.random.normal(a, (6, 16)) / 3, "bias": jnp.zeros(16)}
    return {"hidden": hidden, "out": {"kernel": jax.random.normal(b, (16, 1)) / 4, "bias": jnp.zeros(1)}}


def recipe(hyper):
    """Dropout, an L1 penalty and a decoupled decay, all of them set by the sweep."""

    def loss_fn(params, key, batch):
        h = jax.nn.relu(batch["x"] @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
        h = jaxdrop.dropout(key, h, hyper["rate"])
        error = jnp.mean((h @ params["out"]["kernel"] + params["out"]["bias"][None] - batch["y"]) ** 2)
        return error + jaxdrop.penalties.l1(params, hyper["l1"]), {"error": error}

    return loss_fn, optax.adamw(1e-2, weight_decay=hyper["decay"], mask=jaxdrop.penalties.weight_mask)


HYPER = {"rate": 0.3, "l1": 1e-3, "decay": 1e-2}


def run(pair, state, steps):
    for _ in range(steps):
        state, out = pair.step(state, BATCH)
    return state, out


def test_training_lowers_the_loss():
    pair = trainer(*recipe({"rate": 0.0, "l1": 0.0, "decay": 0.0}))
    state = pair.init(KEY, init_params(KEY))
    _, (first, aux) = pair.step(state, BATCH)
    assert first == aux["error"]
    state, (last, _) = run(pair, state, 200)
    assert state.step == 200
    assert last < 0.5 * first


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        optax.lbfgs(),
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
        optax.contrib.sam(optax.sgd(0.1), optax.chain(optax.contrib.normalize(), optax.sgd(0.05))),
        optax.contrib.sophia(0.01),
        optax.MultiSteps(optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()), 2),
        jaxdrop.optim.halt_on_nonfinite(
            optax.MultiSteps(
                optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()), 2
            ).gradient_transformation()
        ),
    ],
    ids=["lbfgs", "reduce_on_plateau", "sam", "sophia", "multi_steps", "halting_multi_steps"],
)
def test_optimizers_that_ask_for_more(optimizer):
    """They are given the value, the gradient and functions for both."""
    loss_fn, _ = recipe({"rate": 0.0, "l1": 0.0, "decay": 0.0})
    pair = trainer(loss_fn, optimizer)
    state = pair.init(KEY, init_params(KEY))
    _, (first, _) = pair.step(state, BATCH)
    _, (last, _) = run(pair, state, 20)
    assert last < first


def test_sharpness_aware_minimization():
    """Its gradient is that at the parameters plus rho of the gradient's direction, with the same noise."""

    def loss_fn(params, key, batch):
        return jnp.mean((jaxdrop.dropout(key, batch, 0.5) @ params - 1) ** 2), {}

    params, batch = jnp.linspace(-1.0, 1.0, 16), jnp.ones((4, 16))
    rho = optax.chain(optax.contrib.normalize(), optax.sgd(0.3))
    sam = optax.contrib.sam(optax.sgd(0.1), rho, opaque_mode=True)
    key = jax.random.fold_in(KEY, 0)
    grad = jax.grad(lambda p: loss_fn(p, key, batch)[0])
    there = params + 0.3 * grad(params) / jnp.linalg.norm(grad(params))
    expected = params - 0.1 * grad(there)
    for optimizer in (sam, jaxdrop.optim.halt_on_nonfinite(sam)):
        pair = trainer(loss_fn, optimizer)
        state, _ = pair.step(pair.init(KEY, params), batch)
        np.testing.assert_allclose(state.params, expected, rtol=1e-5)


def test_a_line_search_uses_a_key_twice_on_purpose():
    def loss_fn(params, key, batch):
        return jnp.mean((jaxdrop.dropout(key, batch, 0.5) @ params - 1) ** 2), {}

    pair = trainer(loss_fn, optax.lbfgs())
    with jax.debug_key_reuse(True):
        state, (loss, _) = pair.step(pair.init(jax.random.key(1), jnp.ones(16)), jnp.ones((4, 16)))
    assert np.isfinite(loss)
    assert (state.params != 1).any()


@pytest.mark.slow
def test_a_bad_rate_in_a_sweep_is_loud():
    hyper = grid(rate=[0.5, 1.3, -0.3], l1=[0.0], decay=[0.0])
    keys = jax.random.split(KEY, 3)
    pair = sweep(recipe)
    _, (losses, _) = pair.step(pair.init(keys, jax.vmap(init_params)(keys), hyper), BATCH)
    assert np.isnan(losses).tolist() == [False, True, True]


def test_the_key_of_a_step_is_folded_from_its_number():
    seen = []
    pair = trainer(lambda params, key, batch: (params.sum(), jax.random.key_data(key)), optax.sgd(0.1))
    state = pair.init(KEY, jnp.ones(2))
    for step in range(3):
        state, (_, key) = pair.step(state, None)
        np.testing.assert_array_equal(key, jax.random.key_data(jax.random.fold_in(KEY, step)))
        seen.append(key.tobytes())
    assert len(set(seen)) == 3


def test_a_resumed_run_is_the_uninterrupted_one():
    pair = trainer(*recipe(HYPER))
    whole, _ = run(pair, pair.init(KEY, init_params(KEY)), 7)
    half, _ = run(pair, pair.init(KEY, init_params(KEY)), 3)
    saved = jax.tree.map(np.asarray, (half.step, half.params, half.opt_state))
    again = half._replace(step=saved[0], params=saved[1], opt_state=saved[2])
    resumed, _ = run(trainer(*recipe(HYPER)), again, 4)
    chex.assert_trees_all_equal(resumed.params, whole.params)


def through_msgpack(state, like, _):
    return flax.serialization.from_bytes(like, flax.serialization.to_bytes(state))


def through_npz(state, like, folder):
    np.savez(folder / "state.npz", *jax.tree.leaves(state))
    return jax.tree.structure(like).unflatten(np.load(folder / "state.npz").values())


@pytest.mark.parametrize("saved", [through_msgpack, through_npz])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_state_in_a_file_holds_the_words_of_its_key(saved, impl, tmp_path):
    """Formats for arrays know no typed keys; the run goes on as if it had not been saved."""
    pair = trainer(*recipe(HYPER))
    key = jax.random.key(3, impl=impl)
    state, _ = run(pair, pair.init(key, init_params(KEY)), 3)
    fresh = pair.init(key, init_params(KEY))
    plain, like = (s._replace(key=jax.random.key_data(s.key)) for s in (state, fresh))
    loaded = saved(plain, like, tmp_path)
    words = jnp.asarray(loaded.key)
    loaded = loaded._replace(key=jax.random.wrap_key_data(words, impl=jax.random.key_impl(fresh.key)))
    expected, found = run(pair, state, 2), run(pair, loaded, 2)
    chex.assert_trees_all_equal(found[0]._replace(key=()), expected[0]._replace(key=()))
    assert found[0].key == expected[0].key


@pytest.mark.slow
def test_scan_is_the_loop():
    pair = trainer(*recipe(HYPER))
    state = pair.init(KEY, init_params(KEY))
    looped, _ = run(pair, state, 5)
    batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * 5), BATCH)
    scanned, (losses, _) = jax.lax.scan(pair.step, state, batches)
    assert losses.shape == (5,)
    chex.assert_trees_all_close(scanned.params, looped.params, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_a_sweep_is_its_runs():
    hyper = grid(rate=[0.0, 0.4], l1=[0.0, 1e-2], decay=[0.0, 0.1])
    keys = jax.random.split(KEY, 8)
    params = jax.vmap(init_params)(keys)
    pair = sweep(recipe)
    states, (losses, _) = run(pair, pair.init(keys, params, hyper), 5)
    assert losses.shape == (8,)
    for i in (0, 3, 6):  # each value of each axis; a cell is a compilation
        one = trainer(*recipe({name: float(values[i]) for name, values in hyper.items()}))
        state = one.init(keys[i], jax.tree.map(lambda leaf, i=i: leaf[i], params))
        state, (loss, _) = run(one, state, 5)
        np.testing.assert_allclose(losses[i], loss, rtol=1e-4)
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], states.params)
        chex.assert_trees_all_close(mine, state.params, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_one_program_trains_the_whole_grid_and_any_other():
    """The loss function is traced once, for all cells, all steps, and other values of the grid."""
    traced = []

    def counted(hyper):
        loss_fn, optimizer = recipe(hyper)

        def loss(params, key, batch):
            traced.append(1)
            return loss_fn(params, key, batch)

        return loss, optimizer

    pair = sweep(counted)
    keys = jax.random.split(KEY, 4)
    for scale in (1.0, 2.0):
        hyper = grid(rate=[0.1 * scale, 0.2 * scale], l1=[1e-3 * scale], decay=[0.0, 0.1])
        run(pair, pair.init(keys, jax.vmap(init_params)(keys), hyper), 3)
    assert len(traced) == 1


def test_decay_leaves_biases_alone():
    def flat_loss(params, key, batch):
        return jnp.zeros(()), {}

    _, optimizer = recipe(HYPER)
    pair = trainer(flat_loss, optimizer)
    params = jax.tree.map(jnp.ones_like, init_params(KEY))
    state, _ = run(pair, pair.init(KEY, params), 3)
    np.testing.assert_array_equal(state.params["hidden"]["bias"], 1)
    np.testing.assert_allclose(state.params["hidden"]["kernel"], (1 - 1e-2 * 1e-2) ** 3, rtol=1e-6)


def test_a_sweep_of_uneven_axes():
    pair = sweep(recipe)
    keys = jax.random.split(KEY, 4)
    message = re.escape("`keys`, `params` and `hyper` must share one leading axis of runs, got axes of 4, 6.")
    with pytest.raises(ValueError, match=message):
        pair.init(keys, jax.vmap(init_params)(keys), grid(rate=[0.1, 0.2, 0.3], l1=[0.0], decay=[0.0, 1.0]))
    with pytest.raises(ValueError, match="got axes of 4, none"):
        pair.init(keys, jax.vmap(init_params)(keys), HYPER)


class Net(nn.Module):
    """Batch statistics, a spectral norm, and a codebook of exponential moving averages."""

    @nn.compact
    def __call__(self, x, key):
        x = nn.BatchNorm(use_running_average=False, momentum=0.9)(x)
        x = nn.SpectralNorm(nn.Dense(5))(x, update_stats=True)
        x = jaxdrop.linen.Dropout(0.5, deterministic=False)(nn.relu(x), rng=key)
        codes = self.variable("codebook", "mean", jnp.zeros, (5,))
        codes.value = optax.incremental_update(x.mean(0), codes.value, 0.1)
        return nn.Dense(1)(x - jax.lax.stop_gradient(codes.value)[None])


def net_loss(params, model_state, key, batch):
    y, model_state = Net().apply(
        {"params": params, **model_state}, batch["x"], key, mutable=list(model_state)
    )
    return jnp.mean((y - batch["y"]) ** 2), ({}, model_state)


@jax.jit
def init_net(key):
    variables = dict(Net().init(key, BATCH["x"], key))
    return variables.pop("params"), variables


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_a_model_state_moves_as_in_a_loop_of_flax():
    params, model_state = init_net(KEY)
    assert set(model_state) == {"batch_stats", "codebook"}
    pair = trainer(net_loss, optax.adam(1e-2))
    state, _ = run(pair, pair.init(KEY, params, model_state), 4)
    optimizer = optax.adam(1e-2)
    opt_state = optimizer.init(params)
    gradient = jax.jit(jax.grad(net_loss, has_aux=True))
    for step in range(4):
        grads, (_, model_state) = gradient(params, model_state, jax.random.fold_in(KEY, step), BATCH)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(state.model_state, model_state, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(state.params, params, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(lambda new, old: bool((new != old).any()), state.model_state, init_net(KEY)[1])
    assert all(jax.tree.leaves(moved))


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_each_run_of_a_sweep_has_its_model_state():
    keys = jax.random.split(KEY, 2)
    params, model_state = jax.vmap(init_net)(keys)
    pair = sweep(lambda rate: (net_loss, optax.sgd(rate)))
    states, _ = run(pair, pair.init(keys, params, jnp.array([0.1, 0.2]), model_state), 3)
    assert jax.tree.map(jnp.shape, states.model_state) == jax.tree.map(jnp.shape, model_state)
    for i, rate in enumerate((0.1, 0.2)):
        one = trainer(net_loss, optax.sgd(rate))
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], (keys, params, model_state))
        state, _ = run(one, one.init(*mine), 3)
        own = jax.tree.map(lambda leaf, i=i: leaf[i], states.model_state)
        chex.assert_trees_all_close(own, state.model_state, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_a_model_state_is_resumed_and_scanned():
    pair = trainer(net_loss, optax.adam(1e-2))
    start = pair.init(KEY, *init_net(KEY))
    whole, _ = run(pair, start, 4)
    half, _ = run(pair, start, 2)
    resumed, _ = run(pair, TrainState(*jax.tree.map(jnp.asarray, half)), 2)
    chex.assert_trees_all_equal(resumed.model_state, whole.model_state)
    scanned, _ = jax.lax.scan(lambda state, _: pair.step(state, BATCH), start, length=4)
    chex.assert_trees_all_close(scanned.model_state, whole.model_state, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_an_optimizer_that_evaluates_again_starts_from_the_same_model_state():
    """And the state moves once per step."""

    def loss_fn(params, count, key, batch):
        return jnp.mean((batch["x"] @ params - 1) ** 2) * (1 + count), ({}, count + 1)

    for optimizer in (optax.lbfgs(), optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1), opaque_mode=True)):
        pair = trainer(loss_fn, optimizer)
        state, (loss, _) = run(pair, pair.init(KEY, jnp.ones(6), jnp.zeros(())), 2)
        assert state.model_state == 2
        assert np.isfinite(loss)


def test_a_state_of_before_has_no_model_state():
    """A pickle of five fields, and a state made by position."""
    state = trainer(*recipe(HYPER)).init(jax.random.PRNGKey(0), init_params(KEY))
    assert TrainState(*state[:5]).model_state is None
    assert TrainState.__new__(TrainState, *state[:5]) == state


WRONG_KEYS = (3, 3.0, "key", None, nnx.Rngs(0), jnp.zeros(2), np.uint64([1, 2]))


@pytest.mark.parametrize("wrong", WRONG_KEYS, ids=lambda wrong: type(wrong).__name__)
def test_a_wrong_key_is_refused(wrong):
    params = init_params(KEY)
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key, such as `jax\.random\.key\(0\)`, got "):
        trainer(*recipe(HYPER)).init(wrong, params)
    with pytest.raises(TypeError, match=r"`keys` must be PRNG keys with one leading axis, .*, got "):
        sweep(recipe).init(wrong, params, HYPER)


def test_one_key_for_one_run_and_many_for_a_sweep():
    params = init_params(KEY)
    for keys in (jax.random.split(KEY, 3), jnp.zeros((3, 2), jnp.uint32)):
        with pytest.raises(ValueError, match=r"`key` must be one PRNG key .*, got shape \(3"):
            trainer(*recipe(HYPER)).init(keys, params)
    for key in (KEY, jax.random.PRNGKey(0)):
        with pytest.raises(
            ValueError, match=r"`keys` must be PRNG keys with one leading axis, .*, got shape"
        ):
            sweep(recipe).init(key, params, HYPER)


def test_a_model_state_without_the_axis_of_runs():
    keys = jax.random.split(KEY, 2)
    params, model_state = jax.vmap(init_net)(keys)
    one = jax.tree.map(lambda leaf: leaf[0], model_state)
    pair = sweep(lambda rate: (net_loss, optax.sgd(rate)))
    with pytest.raises(ValueError, match=r"all arguments must share one leading axis of runs, got axes of"):
        pair.init(keys, params, jnp.ones(2), one)


@gpu.needs_plugin
def test_a_gpu_derives_the_keys_of_all_sites_at_once():
    """Beside two kernels of keys there are the loss, the step and copies of arguments; it was two a site."""
    weights, x = [jnp.ones((64, 64))] * 8, jnp.ones((64, 64))

    def loss_fn(weights, key, x):
        for site, w in enumerate(weights):
            x = jaxdrop.dropout(jax.random.fold_in(key, site), jnp.tanh(x @ w), 0.1)
        return jnp.mean(x**2), {}

    init, step = trainer(loss_fn, optax.sgd(0.1))
    program = gpu.compiled(step, init(KEY, weights), x)
    small = [kernel for kernel in program.kernels if kernel.largest <= 2]
    assert len(small) < 8
