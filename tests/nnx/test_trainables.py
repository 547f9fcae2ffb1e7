"""An NNX model trained by the step of all models: its state, its streams, its sweep, and what is refused."""

import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxdrop.linen
import jaxdrop.nnx
from jaxdrop.nnx import trainable
from jaxdrop.training import sweep, trainer
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")
KEY = jax.random.key(0)
X = standard_normal(1, (8, 4))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.inner, self.outer = nnx.Linear(4, 6, rngs=rngs), nnx.Linear(6, 1, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.9, rngs=rngs)
        self.dropout = jaxdrop.nnx.Dropout(0.5, bits=32, rngs=rngs)

    def __call__(self, x, key=None):
        return self.outer(self.dropout(self.norm(self.inner(x)), rngs=key))


def mean_square(model, key, x):
    return jnp.mean((model(x) - 1) ** 2), {}


def with_key(model, key, x):
    return jnp.mean((model(x, key) - 1) ** 2), {}


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, key):
        x = nn.BatchNorm(use_running_average=False, momentum=0.9, name="norm")(nn.Dense(6, name="inner")(x))
        x = jaxdrop.linen.Dropout(0.5, bits=32, deterministic=False)(x, rng=key)
        return nn.Dense(1, name="outer")(x)


def linen_loss(params, model_state, key, x):
    y, new = LinenNet().apply({"params": params, **model_state}, x, key, mutable=["batch_stats"])
    return jnp.mean((y - 1) ** 2), ({}, new)


@pytest.mark.slow
def test_both_apis_train_to_the_same_loss():
    """From the same weights and keys: the key of the loss in Linen, the last of two in NNX."""
    parts = trainable(Net(nnx.Rngs(0)))
    pair = trainer(parts.loss_fn(with_key), optax.adam(1e-2))
    state = pair.init(KEY, parts.params, parts.model_state)
    params = nnx.to_pure_dict(parts.params)
    statistics = {"batch_stats": {"norm": nnx.to_pure_dict(parts.model_state)["norm"]}}

    def second(params, model_state, key, x):
        return linen_loss(params, model_state, jax.random.split(key)[1], x)

    linen = trainer(second, optax.adam(1e-2))
    other = linen.init(KEY, params, statistics)
    for _ in range(3):
        state, (loss, _) = pair.step(state, X)
        other, (expected, _) = linen.step(other, X)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
    chex.assert_trees_all_close(nnx.to_pure_dict(state.params), other.params, rtol=1e-4, atol=1e-6)
    own = nnx.to_pure_dict(state.model_state)["norm"]
    chex.assert_trees_all_close(own, other.model_state["batch_stats"]["norm"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_spectral_norm_is_trained_as_in_linen():
    """NNX's overwrites the weight with the normalized one; the weight itself is trained."""

    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.SpectralNorm(nn.Dense(3), name="norm")(x, update_stats=True)

    def linen_loss(params, model_state, key, x):
        y, new = Normed().apply({"params": params, **model_state}, x, mutable=["batch_stats"])
        return jnp.mean((y - 1) ** 2), ({}, new)

    variables = Normed().init(KEY, X)
    model = nnx.SpectralNorm(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    model.layer_instance.kernel[...] = variables["params"]["Dense_0"]["kernel"]
    statistics = variables["batch_stats"]["norm"]
    model.batch_stats["kernel", "u"][...] = statistics["Dense_0/kernel/u"]
    parts = trainable(model)
    pair, linen = (trainer(loss, optax.sgd(0.1)) for loss in (parts.loss_fn(mean_square), linen_loss))
    state = pair.init(KEY, parts.params, parts.model_state)
    other = linen.init(KEY, variables["params"], {"batch_stats": variables["batch_stats"]})
    for _ in range(3):
        state, _ = pair.step(state, X)
        other, _ = linen.step(other, X)
    trained = parts.merge(state)
    np.testing.assert_allclose(
        trained.layer_instance.kernel[...], other.params["Dense_0"]["kernel"], rtol=1e-4, atol=1e-6
    )
    sigma = other.model_state["batch_stats"]["norm"]["Dense_0/kernel/sigma"]
    np.testing.assert_allclose(trained.batch_stats["kernel", "sigma"][...], sigma, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("few_objects_to_search")
def test_streams_begin_anew_from_the_key_of_each_step():
    """A step is that of the merged model: the same masks, others in the next step, the model as it was."""
    model = Net(nnx.Rngs(0))
    parts = trainable(model)
    pair = trainer(parts.loss_fn(mean_square), optax.sgd(0.0))
    state = pair.init(KEY, parts.params, parts.model_state)
    losses = []
    for step in range(2):
        merged = parts.merge(state)
        own, _ = jax.random.split(jax.random.fold_in(KEY, step))
        kept = jax.random.key_data(merged.dropout.rngs.key[...])
        np.testing.assert_array_equal(kept, jax.random.key_data(own))
        with (
            jax.debug_key_reuse(True),
            jax.checking_leaks(),
            jax.numpy_dtype_promotion("strict"),
        ):
            state, (loss, _) = pair.step(state, X)
        np.testing.assert_allclose(loss, mean_square(merged, None, X)[0], rtol=1e-5)
        losses.append(float(loss))
    assert losses[0] != losses[1]
    assert int(model.dropout.rngs.count[...]) == 0
    np.testing.assert_array_equal(model.norm.mean[...], 0)
    trained = parts.merge(state)
    trained.eval()
    expected = nnx.view(Net(nnx.Rngs(0)), deterministic=True, use_running_average=True)
    expected.norm.mean[...], expected.norm.var[...] = trained.norm.mean[...], trained.norm.var[...]
    np.testing.assert_allclose(trained(X), expected(X), rtol=1e-5)


@pytest.mark.slow
def test_a_sweep_of_models():
    keys = jax.random.split(KEY)
    parts = jax.vmap(lambda key: trainable(Net(nnx.Rngs(key))))(keys)
    loss_fn = parts.loss_fn(mean_square)
    pair = sweep(lambda rate: (loss_fn, optax.sgd(rate)))
    states = pair.init(keys, parts.params, jnp.array([0.1, 0.2]), parts.model_state)
    for _ in range(2):
        states, (losses, _) = pair.step(states, X)
    one = trainable(Net(nnx.Rngs(keys[1])))
    alone = trainer(one.loss_fn(mean_square), optax.sgd(0.2))
    state = alone.init(keys[1], one.params, one.model_state)
    for _ in range(2):
        state, (loss, _) = alone.step(state, X)
    np.testing.assert_allclose(losses[1], loss, rtol=1e-4)
    last = jax.tree.map(lambda leaf: leaf[1], states)
    chex.assert_trees_all_close(last.model_state, state.model_state, rtol=1e-4, atol=1e-6)
    outputs = jax.vmap(lambda state: parts.merge(state)(X))(states)
    assert outputs.shape == (2, 8, 1)
    np.testing.assert_allclose(outputs[1], one.merge(state)(X), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"`state` must be that of one run, .*, got states of 2 runs\."):
        parts.merge(states)


def test_only_some_variables_are_trained():
    class Adapted(nnx.Module):
        def __init__(self, rngs):
            self.lora = nnx.LoRA(4, 2, 1, base_module=nnx.Linear(4, 1, rngs=rngs), rngs=rngs)

        def __call__(self, x):
            return self.lora(x)

    model = Adapted(nnx.Rngs(0))
    parts = trainable(model, wrt=[nnx.LoRAParam])
    pair = trainer(parts.loss_fn(mean_square), optax.sgd(0.1))
    state, _ = pair.step(pair.init(KEY, parts.params, parts.model_state), X)
    trained = parts.merge(state)
    assert (trained.lora.lora_b[...] != model.lora.lora_b[...]).any()
    np.testing.assert_array_equal(trained.lora.base_module.kernel[...], model.lora.base_module.kernel[...])


@pytest.mark.slow
@pytest.mark.parametrize("transform", [nnx.jit, nnx.remat], ids=["jit", "remat"])
def test_a_loss_may_be_compiled_or_rematerialized(transform):
    """Which hand all variables back as other arrays, though none is written."""

    def losses(loss_fn):
        parts = trainable(Net(nnx.Rngs(0)))
        pair = trainer(parts.loss_fn(loss_fn), optax.sgd(0.1))
        state, _ = pair.step(pair.init(KEY, parts.params, parts.model_state), X)
        return pair.step(state, X)[1][0]

    np.testing.assert_allclose(losses(transform(mean_square)), losses(mean_square), rtol=1e-6)
    with pytest.raises(ValueError, match=r"got new values of `outer/kernel`;"):
        refused(transform(writes))


def refused(loss_fn, x=X):
    parts = trainable(Net(nnx.Rngs(0)))
    pair = trainer(parts.loss_fn(loss_fn), optax.sgd(0.1))
    jax.eval_shape(pair.step, pair.init(KEY, parts.params, parts.model_state), x)


def adds(model, key, x):
    model.seen = nnx.Intermediate(x)
    return mean_square(model, key, x)


def writes(model, key, x):
    model.outer.kernel[...] = model.outer.kernel[...] * 2
    return mean_square(model, key, x)


def evaluates(model, key, x):
    model.eval()
    return mean_square(model, key, x)


@pytest.mark.parametrize(
    ("loss_fn", "kind", "message"),
    [
        (adds, ValueError, r"`model_state` must keep its leaves .* got one with the new `seen`; .*`nnx.pop`"),
        (writes, ValueError, r"`loss_fn` must not write parameters, .* got new values of `outer/kernel`;"),
        (evaluates, ValueError, r"`loss_fn` must leave the modules of the model, .* before `trainable`\."),
        (lambda model, x: model(x), TypeError, r"`loss_fn` must take `\(model, key, batch\)`, got one with"),
        (lambda model, key, x: model(x).sum(), TypeError, r"`loss_fn` must return `\(loss, aux\)`, got an"),
        (lambda model, key, x: (model(x), {}), ValueError, r"a scalar loss, got shape \(8, 1\)\."),
    ],
    ids=["adds", "writes", "evaluates", "arguments", "no aux", "a vector"],
)
def test_a_wrong_loss_is_refused(loss_fn, kind, message):
    with pytest.raises(kind, match=message):
        refused(loss_fn)


def test_a_wrong_model_is_refused():
    for wrong, kind in ((Net, "Net"), (nn.Dense(3), "Dense"), (nnx.state(Net(nnx.Rngs(0))), "State")):
        message = re.escape(f"`model` must be an instance of nnx.Module, got {kind}.")
        with pytest.raises(TypeError, match=message):
            trainable(wrong)
    with pytest.raises(ValueError, match=r"`wrt` must select variables .*, got none of bias, kernel\."):
        trainable(nnx.Linear(2, 2, use_bias=True, rngs=nnx.Rngs(0)), wrt=nnx.BatchStat)
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    model.own = nnx.RngKey(jax.random.key(0), tag="own")
    with pytest.raises(ValueError, match=r"`model` must hold its random state in streams"):
        trainable(model)
