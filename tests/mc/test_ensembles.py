"""Ensembles: each member once, in any chunks, on any devices, with errors between members."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
import jaxdrop.linen
from jaxdrop import mc
from tests import gpu
from tests.devices import make_mesh
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
MEMBERS = {"w": standard_normal(1, (8, 6, 3)), "b": standard_normal(KEY, (8, 3))}
X = standard_normal(2, (4, 6))
OUTPUTS = np.einsum("bi,mik->mbk", *(np.asarray(a, np.float64) for a in (X, MEMBERS["w"])))
OUTPUTS = OUTPUTS + np.asarray(MEMBERS["b"], np.float64)[:, None]


def member(params: dict, key: jax.Array, x: jax.Array) -> jax.Array:
    return x @ params["w"] + params["b"][None]


def noisy(params: dict, key: jax.Array, x: jax.Array) -> jax.Array:
    return member(params, key, jaxdrop.dropout(key, x, 0.5))


PREDICT = mc.ensemble(member, MEMBERS)


def close(found: jax.Array, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_sample_t_is_member_t():
    mesh = make_mesh((2, 2), ("samples", "batch"))
    for options in ({}, {"chunk_size": 3}, {"mesh": mesh, "chunk_size": 4}):
        close(mc.sample(PREDICT, KEY, X, num_samples=8, **options), OUTPUTS)
    close(mc.sample(PREDICT, KEY, X, num_samples=3), OUTPUTS[:3])
    close(mc.sample(PREDICT, KEY, X, num_samples=5, mesh=mesh), OUTPUTS[:5])


@pytest.mark.slow
def test_moments_and_their_errors_are_those_of_the_members(tmp_path):
    reducers = mc.Moments()
    parts = [
        mc.accumulate(PREDICT, KEY, X, num_samples=4, first=first, reducers=reducers, chunk_size=3)
        for first in (4, 0)
    ]
    options = {"num_samples": 8, "reducers": reducers}
    for found in (
        mc.finish(reducers, mc.merge(reducers, *parts)),
        mc.estimate_dataset(PREDICT, KEY, np.asarray(X), batch_size=3, folder=tmp_path, **options),
    ):
        close(found.value["mean"], OUTPUTS.mean(0))
        close(found.value["variance"], OUTPUTS.var(0, ddof=1))
        close(found.standard_error["mean"], OUTPUTS.std(0, ddof=1) / 8**0.5)
    changed = mc.ensemble(member, {**MEMBERS, "b": -MEMBERS["b"]})
    with pytest.raises(ValueError, match=r"weights of `predict`"):
        mc.estimate_dataset(changed, KEY, np.asarray(X), batch_size=3, folder=tmp_path, **options)


@pytest.mark.slow
def test_draws_of_stochastic_members_have_errors_between_members():
    predict = mc.ensemble(noisy, MEMBERS, draws=3)
    drawn = np.asarray(mc.sample(predict, KEY, X, num_samples=24), np.float64)
    third = jax.tree.map(lambda leaf: leaf[3], MEMBERS)
    close(drawn[[3, 11]], np.stack([noisy(third, jax.random.fold_in(KEY, t), X) for t in (3, 11)]))
    reducers = mc.Clustered(mc.Moments(), 8)
    found = mc.estimate(predict, KEY, X, num_samples=24, reducers=reducers, chunk_size=12)
    close(found.value["mean"], drawn.mean(0))
    means = drawn.reshape(3, 8, 4, 3).mean(0)
    close(found.standard_error["mean"], means.std(0, ddof=1) / 8**0.5)
    with pytest.raises(ValueError, match=r"`reducers` must be `Clustered` in 8 clusters, .* got Moments"):
        mc.estimate(predict, KEY, X, num_samples=24, reducers=mc.Moments())


def test_draws_of_one_network_have_no_error_between_members():
    one = mc.ensemble(noisy, jax.tree.map(lambda leaf: leaf[:1], MEMBERS), draws=3)
    with pytest.raises(ValueError, match=r"`predict` must have at least 2 clusters, .* got 1"):
        mc.estimate(one, KEY, X, num_samples=3, reducers=mc.Moments())


@pytest.mark.usefixtures("optimized", "on_cpu")
def test_one_chunk_moves_and_copies_no_parameters():
    """Members that are sharded as samples stay where they are; a larger chunk than one copies its own."""
    mesh = make_mesh((4,), ("samples",))

    def run(members: dict, x: jax.Array, **options) -> jax.Array:
        return mc.sample(mc.ensemble(member, members), KEY, x, num_samples=8, **options)

    rows = jax.NamedSharding(mesh, jax.P("samples"))
    texts = [
        jax.jit(lambda *args: run(*args, mesh=mesh)).lower(jax.device_put(MEMBERS, rows), X),
        jax.jit(run).lower(MEMBERS, X),
    ]
    for text in (lowered.compile().as_text() for lowered in texts):
        assert not [op for op in (" all-gather(", " all-reduce(", " all-to-all(", " gather(") if op in text]


@gpu.needs_plugin
def test_one_chunk_copies_no_parameters_on_a_gpu():
    shapes = (8, 64, 256), (8, 256), (32, 64)
    w, b, x = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)

    def run(members: dict, x: jax.Array) -> jax.Array:
        return mc.sample(mc.ensemble(member, members), KEY, x, num_samples=8, chunk_size=8)

    found = gpu.compiled(run, {"w": w, "b": b}, x)
    assert not [kernel for kernel in found.kernels for shape in kernel.shapes if 64 in shape]


def test_a_new_ensemble_of_one_function_is_not_compiled_again():
    mc.sample(PREDICT, KEY, X, num_samples=8)
    other = mc.ensemble(member, jax.tree.map(jnp.negative, MEMBERS))
    with jax.no_tracing():
        mc.sample(other, KEY, X, num_samples=8)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(8)(x))))


def test_networks_with_dropout_are_stacked_predictors():
    net = Net()
    params = [net.init(key, X, train=False)["params"] for key in jax.random.split(KEY, 2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)

    def one(params: dict) -> object:
        return jaxdrop.linen.stochastic(net, {"params": params}, X, train=True)

    members = jax.vmap(one)(stacked)
    drawn = mc.sample(mc.ensemble(lambda member, key, x: member(key, x), members), KEY, X, num_samples=2)
    rngs = {"dropout": jax.random.fold_in(KEY, 1)}
    close(drawn[1], net.apply({"params": params[1]}, X, train=True, rngs=rngs))


@pytest.mark.parametrize("wrong", [{}, {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, {"w": jnp.ones(())}])
def test_members_must_share_an_axis(wrong: dict):
    with pytest.raises(ValueError, match=r"`members` must hold arrays that share one non-empty leading axis"):
        mc.ensemble(member, wrong)


def test_wrong_arguments():
    with pytest.raises(TypeError, match=r"`predict` must be a function \(member, key, x\), got dict"):
        mc.ensemble(MEMBERS, member)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"`draws` must be at least 1, got 0"):
        mc.ensemble(member, MEMBERS, draws=0)


@pytest.mark.parametrize("wrong", [0, np.zeros(3, np.uint32), jax.random.split(KEY)])
def test_a_wrong_key(wrong):
    """Members need not look at their key, so `mc` does."""
    with pytest.raises((TypeError, ValueError), match="`key` must be"):
        mc.sample(PREDICT, wrong, X, num_samples=3)
