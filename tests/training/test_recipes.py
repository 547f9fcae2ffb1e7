"""Usual options of training as parts of optax and JAX, each in the compiled step."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.nnx
from jaxdrop import schedules
from jaxdrop.training import sweep, trainer
from tests.normals import standard_normal

KEY = jax.random.key(0)
X = standard_normal(1, (8, 16))
PARAMS = {"inner": jnp.linspace(-0.5, 0.5, 64).reshape(16, 4), "outer": jnp.ones((4, 1))}


def network(params, key, x):
    return jaxdrop.dropout(key, jnp.tanh(x @ params["inner"]), 0.5) @ params["outer"]


def loss_fn(params, key, x):
    return jnp.mean((network(params, key, x) - 1) ** 2), {}


def stepped(optimizer, loss_fn=loss_fn, *, steps=1, x=X, params=PARAMS, model_state=None, **options):
    pair = trainer(loss_fn, optimizer, **options)
    state = pair.init(KEY, params, model_state)
    for _ in range(steps):
        state, out = pair.step(state, x)
    return state, out


@jax.jit
def gradient(step):
    return jax.grad(lambda p: loss_fn(p, jax.random.fold_in(KEY, step), X)[0])(PARAMS)


def size(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def linear_loss(params, key, x):
    return jnp.mean((jaxdrop.dropout(key, x, 0.5) @ params) ** 2), {}


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True], ids=["trainer", "sweep"])
def test_donated_memory(many):
    """Parameters, optimizer state and gradients once; the caller's arrays stay."""
    params, x = jnp.ones((256, 256)), jnp.ones((4, 256))
    key, hyper = KEY, ()
    pair = trainer(linear_loss, optax.adam(1e-3), donate=True)
    if many:
        pair = sweep(lambda rate: (linear_loss, optax.adam(rate)), donate=True)
        key, params, hyper = jax.random.split(KEY), jnp.stack([params] * 2), (jnp.ones(2),)
    state = pair.init(key, params, *hyper)
    memory = pair.step.lower(state, x).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= size((state.params, state.opt_state))
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    assert peak - memory.alias_size_in_bytes < size((state.params, state.opt_state)) + 1.2 * size(params)
    new, _ = pair.step(state, x)
    assert state.params.is_deleted()
    assert not any(leaf.is_deleted() for leaf in (key, params, *hyper, *jax.tree.leaves(new)))


@pytest.mark.slow
def test_accumulation_over_microbatches_with_the_masks_of_the_whole_batch():
    """One key per example: its mask depends on its index, not on the microbatch that it is in."""

    def in_microbatches(batch_size):
        def accumulated(params, key, x):
            @jax.checkpoint  # an activation lives as long as its microbatch
            def of_example(example):
                index, row = example
                return loss_fn(params, jax.random.fold_in(key, index), row[None])[0]

            losses = jax.lax.map(of_example, (jnp.arange(len(x)), x), batch_size=batch_size)
            return losses.mean(), {}

        return accumulated

    x = standard_normal(KEY, (512, 16))
    found, memory = [], []
    for batch_size in (512, 32):
        pair = trainer(in_microbatches(batch_size), optax.sgd(0.1))
        state = pair.init(KEY, PARAMS)
        step = pair.step.lower(state, x).compile()
        found.append(step(state, x)[0].params)
        memory.append(step.memory_analysis().temp_size_in_bytes)
    chex.assert_trees_all_close(*found, rtol=1e-5)
    assert memory[1] < memory[0] / 2


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_multi_steps_draw_masks_for_each_step():
    """Each microbatch is a step with its own key."""
    optimizer = optax.MultiSteps(optax.sgd(0.1), 2)
    half, _ = stepped(optimizer)
    chex.assert_trees_all_equal(half.params, PARAMS)
    whole, _ = stepped(optimizer, steps=2)
    grads = jax.tree.map(lambda a, b: (a + b) / 2, gradient(0), gradient(1))
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS, grads)
    chex.assert_trees_all_close(whole.params, expected, rtol=1e-5)


@pytest.mark.usefixtures("compiled_in_haste")
def test_bfloat16_with_float32_parameters():
    dtypes = []

    def half(params, key, x):
        params, x = optax.tree.cast((params, x), jnp.bfloat16)
        y = network(params, key, x)
        dtypes.append(y.dtype)
        return jnp.mean((y.astype(jnp.float32) - 1) ** 2), {}

    state, (loss, _) = stepped(optax.adam(1e-2), half, steps=3)
    assert set(dtypes) == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state[0].mu, loss))} == {
        jnp.dtype(jnp.float32)
    }
    exact, _ = stepped(optax.adam(1e-2), steps=3)
    chex.assert_trees_all_close(state.params, exact.params, atol=2e-3)


def test_a_loss_scale_of_float16():
    """Gradients of 1e-8 are 0 in float16, but not times 2**12; one that overflows is skipped."""
    scale = 2.0**12

    def tiny(params, key, x):
        y = (x.astype(jnp.float16) * params.astype(jnp.float16)).sum()
        loss = y.astype(jnp.float32) * 1e-8
        return loss * scale, {"loss": loss}

    optimizer = optax.apply_if_finite(optax.chain(optax.scale(1 / scale), optax.sgd(1e8)), 5)
    lost, _ = stepped(optax.sgd(1e8), lambda *arguments: (tiny(*arguments)[1]["loss"], {}), x=jnp.ones(3),
                      params=jnp.ones(3))  # fmt: skip
    np.testing.assert_array_equal(lost.params, 1)
    state, (_, aux) = stepped(optimizer, tiny, x=jnp.ones(3), params=jnp.ones(3))
    np.testing.assert_allclose(state.params, 0, atol=1e-2)
    np.testing.assert_allclose(aux["loss"], 3e-8, rtol=1e-3)
    skipped, _ = stepped(optimizer, tiny, x=jnp.full(3, 1e9), params=jnp.ones(3))
    np.testing.assert_array_equal(skipped.params, 1)
    assert skipped.opt_state.total_notfinite == 1


def test_clipping():
    state, _ = stepped(optax.chain(optax.clip_by_global_norm(1e-2), optax.sgd(1.0)))
    moved = jax.tree.map(lambda new, old: new - old, state.params, PARAMS)
    np.testing.assert_allclose(optax.tree.norm(moved), 1e-2, rtol=1e-3)


@pytest.mark.usefixtures("compiled_in_haste")
def test_averages_of_parameters():
    """Exponential and equal weights, as model states; of the parameters before each step."""

    def averaged(params, model_state, key, x):
        count = model_state["count"] + 1
        mean = optax.incremental_update(params, model_state["mean"], 1 / count)
        ema = optax.incremental_update(params, model_state["ema"], 0.1)
        return *loss_fn(params, key, x)[:1], ({}, {"count": count, "mean": mean, "ema": ema})

    start = {"count": jnp.zeros(()), "mean": PARAMS, "ema": PARAMS}
    pair = trainer(averaged, optax.sgd(0.1))
    state, seen = pair.init(KEY, PARAMS, start), []
    for _ in range(3):
        seen.append(state.params)
        state, _ = pair.step(state, X)
    expected = jax.tree.map(lambda *leaves: sum(leaves) / 3, *seen)
    chex.assert_trees_all_close(state.model_state["mean"], expected, rtol=1e-5, atol=1e-6)
    expected = jax.tree.map(lambda a, b, c: 0.81 * a + 0.09 * b + 0.1 * c, *seen)
    chex.assert_trees_all_close(state.model_state["ema"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("compiled_in_haste")
def test_a_rate_by_a_schedule():
    """The number of the step is a model state."""
    schedule = schedules.linear(0.0, 1.0, steps=2)

    def scheduled(params, count, key, x):
        kept = jaxdrop.dropout(key, jnp.ones(1000), schedule(count)) > 0
        return loss_fn(params, key, x)[0], (kept.mean(), count + 1)

    pair = trainer(scheduled, optax.sgd(schedules.linear(0.0, 1.0, steps=2)))
    state, kept = pair.init(KEY, PARAMS, jnp.zeros((), jnp.int32)), []
    for _ in range(3):
        state, (_, mean) = pair.step(state, X)
        kept.append(float(mean))
    assert kept[0] == 1
    assert abs(kept[1] - 0.5) < 5 * 0.5 / 1000**0.5
    assert kept[2] == 0


def test_a_skipped_step_may_keep_its_model_state():
    """The optimizer skips; the loss keeps the state, which would move otherwise."""

    def counted(params, model_state, key, x):
        loss, new = loss_fn(params, key, x)[0], {"mean": x.mean(), "count": model_state["count"] + 1}
        return loss, ({}, new | {"mean": jnp.where(jnp.isfinite(loss), new["mean"], model_state["mean"])})

    start = {"mean": jnp.zeros(()), "count": jnp.zeros(())}
    optimizer = optax.apply_if_finite(optax.sgd(0.1), 3)
    state, (loss, _) = stepped(optimizer, counted, x=X.at[0, 0].set(jnp.nan), model_state=start)
    assert np.isnan(loss)
    chex.assert_trees_all_equal(state.params, PARAMS)
    assert state.model_state == {"mean": 0, "count": 1}


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_sharpness_aware_minimization_in_a_chain():
    """It takes one of the arguments that a chain hands to all members."""
    sam = optax.contrib.sam(
        optax.sgd(0.1), optax.chain(optax.contrib.normalize(), optax.sgd(0.3)), opaque_mode=True
    )
    alone, _ = stepped(sam)
    chained, _ = stepped(optax.chain(optax.identity(), jaxdrop.optim.coupled_l2(0.0, where=[("*", 1)]), sam))
    chex.assert_trees_all_close(chained.params, alone.params, rtol=1e-6)
    assert (chained.params["inner"] != PARAMS["inner"]).any()


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.multi_transform(
            {"on": optax.adam(0.1), "off": optax.set_to_zero()}, {"inner": "off", "outer": "on"}
        ),
        optax.chain(optax.adam(0.1), optax.freeze({"inner": True, "outer": False})),
        optax.selective_transform(optax.adam(0.1), freeze_mask={"inner": True, "outer": False}),
    ],
    ids=["multi_transform", "freeze", "selective_transform"],
)
def test_frozen_parts(optimizer):
    state, _ = stepped(optimizer)
    np.testing.assert_array_equal(state.params["inner"], PARAMS["inner"])
    assert (state.params["outer"] != PARAMS["outer"]).all()


class Adapted(nnx.Module):
    """A layer, and a branch of low rank with dropout of its inputs, or of its outputs too."""

    def __init__(self, rngs, *, shared=(), outputs=False):
        make = functools.partial(jaxdrop.nnx.Dropout, 0.5, broadcast_dims=shared, rngs=rngs)
        self.base = nnx.Linear(16, 3, rngs=rngs)
        self.inputs, self.outputs = make(), make() if outputs else None
        self.lora = nnx.LoRA(16, 2, 3, b_initializer=nnx.initializers.ones, rngs=rngs)

    def __call__(self, x):
        y = self.lora(self.inputs(x))
        return self.base(x) + (y if self.outputs is None else self.outputs(y))


@pytest.mark.usefixtures("compiled_in_haste")
def test_lora_with_dropout_of_its_inputs():
    """As peft's `lora_dropout`: the layer itself sees all of its inputs, and is not trained."""
    model = Adapted(nnx.Rngs(0))
    twin = nnx.clone(model)
    expected = twin.base(X) + twin.inputs(X) @ twin.lora.lora_a[...] @ twin.lora.lora_b[...]
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-6)
    parts = jaxdrop.nnx.trainable(model, wrt=nnx.LoRAParam)
    loss_fn = parts.loss_fn(lambda model, key, x: (jnp.mean(model(x) ** 2), {}))
    state, _ = stepped(optax.sgd(0.1), loss_fn, params=parts.params, model_state=parts.model_state)
    trained = parts.merge(state)
    np.testing.assert_array_equal(trained.base.kernel[...], model.base.kernel[...])
    assert (trained.lora.lora_b[...] != model.lora.lora_b[...]).any()


@pytest.mark.slow
def test_lora_dropout_of_rows_and_columns():
    """Masks of the inputs and outputs, shared by the batch, are those of the rows of A and columns of B."""
    model = Adapted(nnx.Rngs(0), shared=(0,), outputs=True)
    twin = nnx.clone(model)
    rows, columns = twin.inputs(jnp.ones((1, 16))), twin.outputs(jnp.ones((1, 3)))
    assert 0 < (rows == 0).sum() < 16
    a, b = twin.lora.lora_a[...] * rows.T, twin.lora.lora_b[...] * columns
    np.testing.assert_allclose(model(X), twin.base(X) + X @ a @ b, rtol=1e-5, atol=1e-6)
    assert [site.path for site in jaxdrop.nnx.stochastic(model, X).sites] == ["inputs", "outputs"]
