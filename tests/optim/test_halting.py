"""Halting at a gradient that is not finite: nothing is overwritten, and the parameter is named."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, serialization
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdrop import optim, training
from tests.devices import make_mesh

PARAMS = {"Dense_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}}


def recipe(hyper):
    """At step `hyper` the gradient of the kernel, and it alone, is NaN."""

    def loss_fn(params, key, batch):
        layer = params["Dense_0"]
        poison = jnp.where(batch["step"] == hyper, jnp.nan, 1.0)
        return jnp.sum(layer["kernel"] ** 2) * poison + jnp.sum(layer["bias"] ** 2), ()

    return loss_fn, optim.halt_on_nonfinite(optax.adam(0.1))


def test_nothing_is_overwritten_and_the_path_is_named():
    init, step = training.trainer(*recipe(3))
    state = init(jax.random.key(0), PARAMS)
    states = []
    for i in range(6):
        states.append(state)
        state, _ = step(state, {"step": i})
    for part in ("params", "opt_state"):
        kept = jax.tree.map(np.asarray, getattr(states[3], part))
        kept = kept.inner if part == "opt_state" else kept
        now = state.opt_state.inner if part == "opt_state" else state.params
        jax.tree.map(np.testing.assert_array_equal, now, kept)
    assert (states[3].params["Dense_0"]["kernel"] != 1).all()
    optim.raise_if_halted(states[3])
    message = "the gradient must be finite, got NaN or infinity in that of `Dense_0/kernel` at step 3."
    with pytest.raises(FloatingPointError, match=re.escape(message)):
        optim.raise_if_halted(state)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_every_parameter_that_is_bad_is_named(value):
    optimizer = optax.chain(optax.clip(1e9), optim.halt_on_nonfinite(optax.sgd(0.1)))
    params = {"a": jnp.ones(2), "b": jnp.ones(2), "c": jnp.ones(())}
    grads = {"a": jnp.array([1.0, jnp.nan]), "b": jnp.ones(2), "c": jnp.array(jnp.nan)}
    updates, state = optimizer.update(grads, optimizer.init(params), params)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(updates))
    with pytest.raises(FloatingPointError, match=re.escape("in that of `a`, `c` at step 0.")):
        optim.raise_if_halted(state)
    alone = optim.halt_on_nonfinite(optax.sgd(0.1))
    _, state = alone.update({"w": jnp.array([value])}, alone.init({"w": jnp.ones(1)}))
    with pytest.raises(FloatingPointError, match=re.escape("in that of `w` at step 0.")):
        optim.raise_if_halted({"deep": (state, 1)})


def test_a_run_of_a_sweep_halts_by_itself():
    init, step = training.sweep(recipe)
    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), PARAMS)
    state = init(keys, many, jnp.array([99, 2, 99]))
    for i in range(5):
        state, _ = step(state, {"step": i})
    kernels = state.params["Dense_0"]["kernel"]
    np.testing.assert_array_equal(kernels[0], kernels[2])
    assert (kernels[1] > kernels[0]).all()
    assert state.opt_state.step.tolist() == [5, 2, 5]
    with pytest.raises(FloatingPointError, match=re.escape("`Dense_0/kernel` at step 2 of run 1.")):
        optim.raise_if_halted(state)


def as_nnx(optimizer):
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    kept = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
    grads = jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))
    kept.update(model, grads)
    optim.raise_if_halted(nnx.state(kept))
    grads["kernel"][...] = jnp.full((2, 2), jnp.nan)
    kept.update(model, grads)
    return kept


def as_optax(optimizer):
    params = {"bias": jnp.ones(2), "kernel": jnp.ones((2, 2))}
    _, state = optimizer.update(params, optimizer.init(params), params)
    optim.raise_if_halted(serialization.to_state_dict(state))
    return optimizer.update(params | {"kernel": jnp.full((2, 2), jnp.nan)}, state, params)[1]


@pytest.mark.parametrize(
    "form",
    [
        as_nnx,
        lambda optimizer: nnx.state(as_nnx(optimizer)),
        lambda optimizer: nnx.to_pure_dict(nnx.state(as_nnx(optimizer))),
        lambda optimizer: serialization.to_state_dict(as_optax(optimizer)),
        lambda optimizer: {"opt_state": serialization.to_state_dict(as_optax(optimizer))},
    ],
)
@pytest.mark.parametrize("chained", [False, True])
def test_states_without_their_class(form, chained):
    """As of an NNX optimizer, and of a checkpoint."""
    optimizer = optim.halt_on_nonfinite(optax.adam(0.1))
    state = form(optax.chain(optax.clip(1.0), optimizer) if chained else optimizer)
    with pytest.raises(FloatingPointError, match="in that of `kernel` at step 1"):
        optim.raise_if_halted(state)


@pytest.mark.parametrize("tree", [(), None, {"bad": jnp.ones(())}, optax.adam(0.1).init(PARAMS)])
def test_what_holds_no_state_is_refused(tree):
    message = "`tree` must contain a state of `halt_on_nonfinite`, or dicts with the names of its fields "
    with pytest.raises(ValueError, match=re.escape(message + "(inner, step, bad), got a ")):
        optim.raise_if_halted(tree)


def test_it_is_the_optimizer_where_all_is_finite():
    inner = optax.adam(0.1)
    wrapped = optim.halt_on_nonfinite(inner)
    a, b = inner.init(PARAMS), wrapped.init(PARAMS)
    for i in range(3):
        grads = jax.tree.map(lambda leaf, i=i: leaf + i, PARAMS)
        mine, b = wrapped.update(grads, b, PARAMS)
        theirs, a = inner.update(grads, a, PARAMS)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), mine, theirs)
    optim.raise_if_halted(b)


def test_sharded_parameters_keep_their_sharding():
    mesh = make_mesh((4,), ("x",), (AxisType.Explicit,))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    optimizer = optim.halt_on_nonfinite(optax.adam(0.1))
    with jax.set_mesh(mesh):
        w = jax.device_put(jnp.ones((8, 2)), sharding)
        updates, state = jax.jit(optimizer.update)(w, optimizer.init(w), w)
        updates, state = jax.jit(optimizer.update)(w * jnp.nan, state, w)
    assert updates.sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_array_equal(updates, 0)
    assert state.step == 1


def test_line_searches_are_given_what_they_ask_for():
    def loss_fn(params, key, batch):
        return jnp.sum((params["w"] - 3.0) ** 2), ()

    init, step = training.trainer(loss_fn, optim.halt_on_nonfinite(optax.lbfgs()))
    state = init(jax.random.key(0), {"w": jnp.zeros(3)})
    for _ in range(5):
        state, _ = step(state, None)
    np.testing.assert_allclose(state.params["w"], 3.0, rtol=1e-4)


@pytest.mark.parametrize("frozen", [{"kernel": None, "bias": None}, None])
@pytest.mark.parametrize("partitioned", [False, True])
def test_none_in_the_updates_is_a_frozen_parameter(frozen, partitioned):
    """In the updates alone, and in parameters and updates, as partitions of Equinox and optax give it."""
    params = {"a": jnp.ones(2), "b": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}}
    params = params | {"b": frozen} if partitioned else params
    inner = optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.1) if partitioned else optax.sgd(0.1))
    optimizer = optim.halt_on_nonfinite(inner)
    update = jax.jit(optimizer.update)
    grads = {"a": jnp.ones(2), "b": frozen}
    expected, _ = inner.update(grads, inner.init(params), params)
    updates, state = update(grads, optimizer.init(params), params)
    chex.assert_trees_all_close(updates, expected, rtol=1e-6)
    optim.raise_if_halted(state)
    updates, state = update({"a": jnp.full(2, jnp.nan), "b": frozen}, state, params)
    assert updates["b"] == frozen
    np.testing.assert_array_equal(updates["a"], 0)
    with pytest.raises(FloatingPointError, match="in that of `a` at step 1"):
        optim.raise_if_halted(state)


def test_lookahead_updates_other_parameters_than_those_of_the_gradient():
    inner = optax.lookahead(optax.adam(0.1), sync_period=2, slow_step_size=0.5)
    optimizer = optim.halt_on_nonfinite(inner)
    params = expected = optax.LookaheadParams.init_synced({"w": jnp.ones(3)})
    a, b = optimizer.init(params), inner.init(params)
    for i in range(3):
        grads = {"w": jnp.full(3, 1.0 + i)}
        updates, a = jax.jit(optimizer.update)(grads, a, params)
        params = optax.apply_updates(params, updates)
        updates, b = inner.update(grads, b, expected)
        expected = optax.apply_updates(expected, updates)
    chex.assert_trees_all_close(params, expected, rtol=1e-6)
    optim.raise_if_halted(a)
    updates, a = optimizer.update({"w": jnp.full(3, jnp.nan)}, a, params)
    chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, params))
    with pytest.raises(FloatingPointError, match="in that of `w` at step 3"):
        optim.raise_if_halted(a)


def test_gradients_wider_than_the_parameters():
    """As a loss in float32 gives them for parameters in bfloat16."""
    params, grads = {"w": jnp.ones(3, jnp.bfloat16)}, {"w": jnp.ones(3)}
    plain = optax.sgd(0.1, momentum=0.9)
    guarded = optim.halt_on_nonfinite(plain)
    expected, _ = plain.update(grads, plain.init(params), params)
    updates, state = guarded.update(grads, guarded.init(params), params)
    chex.assert_trees_all_equal(updates, expected)
    updates, state = guarded.update({"w": jnp.full(3, jnp.nan)}, state, params)
    assert not updates["w"].any()
    with pytest.raises(FloatingPointError, match="in that of `w` at step 1"):
        optim.raise_if_halted(state)
