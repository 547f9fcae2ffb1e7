"""Moments of trained networks against samples, exact cases, shares, and what is refused."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx
from jaxdrop import mc
from tests.devices import make_mesh
from tests.mc import nets
from tests.normals import standard_normal

KEY = jax.random.key(3)
W1 = standard_normal(1, (12, 32)) / 12**0.5
W2 = standard_normal(2, (32, 3)) / 32**0.5
X = standard_normal(4, (8, 12))


def linear(params: tuple, key: jax.Array, x: jax.Array) -> jax.Array:
    """Dropout of the inputs and of a hidden layer, without a nonlinearity."""
    first, second = jax.random.split(key)
    hidden = jaxdrop.dropout(first, x, 0.25) @ params[0]
    return jaxdrop.dropout(second, hidden, 0.5) @ params[1]


def one_layer(key: jax.Array, x: jax.Array) -> jax.Array:
    return jaxdrop.dropout(key, jax.nn.relu(x @ W1), 0.5) @ W2


def of_linear(x: np.ndarray, w: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By hand in float64: the covariance, and the shares of the two dropouts."""
    inputs = x**2 * (0.25 / 0.75)
    hidden = np.einsum("bi,ij->bj", inputs, w**2) + (x @ w) ** 2
    first = np.einsum("bi,ik,il->bkl", inputs, w @ v, w @ v)
    second = np.einsum("bj,jk,jl->bkl", hidden, v, v)
    return first + second, np.einsum("bi,ik->bk", inputs, (w @ v) ** 2)


@pytest.mark.slow
def test_linear_programs_are_exact():
    found = mc.moments(jax.tree_util.Partial(linear, (W1, W2)), X)
    x, w, v = (np.asarray(one, np.float64) for one in (X, W1, W2))
    covariance, first = of_linear(x, w, v)
    assert found.rules == ()
    np.testing.assert_allclose(found.mean, x @ w @ v, atol=2e-6)
    np.testing.assert_allclose(found.covariance, covariance, atol=5e-6)
    np.testing.assert_allclose(found.shares[min(found.shares)], first, atol=5e-6)
    np.testing.assert_allclose(sum(found.shares.values()), found.variance, rtol=1e-6)


def test_dropout_before_a_last_layer_is_exact():
    found, expected = mc.moments(one_layer, X), mc.last_layer(jax.nn.relu(X @ W1), W2, rate=0.5)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-5, atol=1e-6)
    assert found.rules == ()


def test_independent_sites_have_exact_shares():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        a, b = jax.random.split(key)
        return jaxdrop.dropout(a, x, 0.5) @ W1 + jaxdrop.gaussian_noise(b, x, 0.3) @ W1

    found = mc.moments(predict, X, covariance=False)
    of_dropout, rest, of_noise = (found.shares[name] for name in sorted(found.shares))
    x, w = np.asarray(X, np.float64), np.asarray(W1, np.float64)
    np.testing.assert_allclose(of_dropout, x**2 @ w**2, rtol=1e-5)
    np.testing.assert_allclose(of_noise, 0.09 * np.broadcast_to((w**2).sum(0), (8, 32)), rtol=1e-5)
    assert not rest.any()
    assert found.covariance is None
    assert found.rules == ()


class Trained(nn.Module):
    """Blocks of one kind between two dense layers."""

    block: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        drop = partial(jaxdrop.linen.Dropout, 0.2, deterministic=not train)
        h = nn.Dense(32)(x)
        if self.block == "mlp":
            h = drop()(nn.relu(h))
            h = nn.tanh(nn.Dense(32)(h))
        elif self.block == "cnn":
            maps = h.reshape(-1, 4, 4, 2)
            maps = drop()(nn.max_pool(nn.relu(nn.Conv(16, (3, 3))(maps)), (2, 2), (2, 2)))
            maps = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(16, (2, 2))(maps)))
            h = nn.avg_pool(maps, (2, 2), (2, 2)).reshape(len(h), -1)
        elif self.block == "lstm":
            h = nn.RNN(nn.LSTMCell(16), reverse=True)(drop()(h.reshape(-1, 4, 8)))[:, -1]
        elif self.block == "attention":
            h = drop()(h.reshape(-1, 4, 8))
            options = {"dropout_rate": 0.2, "deterministic": not train}
            h = h + nn.MultiHeadDotProductAttention(2, **options)(nn.LayerNorm()(h))
            h = h + drop()(nn.Dense(8)(drop()(nn.gelu(nn.Dense(16)(nn.LayerNorm()(h))))))
            h = h.reshape(len(h), -1)
        return nn.Dense(3)(drop()(h))


@pytest.fixture(scope="module", params=["mlp", "cnn", "lstm", "attention"])
def trained(request: pytest.FixtureRequest):
    """A network after 60 steps of training with dropout, its moments, and 5,000 samples of it."""
    model = Trained(request.param)
    x = standard_normal(5, (128, 12))
    labels = jnp.argmax(jnp.tanh(x @ W1) @ W2 + x[:, :3] ** 2, -1)
    variables = model.init(KEY, x, train=False)
    statistics = {name: tree for name, tree in variables.items() if name != "params"}
    optimizer = optax.adam(1e-2)

    @jax.jit
    def fit(params):
        def loss(params, key):
            out, _ = model.apply(
                {"params": params, **statistics}, x, train=True, rngs={"dropout": key}, mutable="batch_stats"
            )
            return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean()

        def step(carry, key):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params, key), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(KEY, 60))[0][0]

    variables = {"params": fit(variables["params"]), **statistics}
    evaluate = request.param == "cnn"
    predict = jaxdrop.linen.stochastic(model, variables, X, train=not evaluate)
    samples = mc.estimate(predict, KEY, X, num_samples=5000, reducers=mc.Moments(covariance=True, groups=0))
    return request.param, mc.moments(predict, X), samples.value, predict


# The mean in standard deviations, the bias of those, and the relative error of the covariance.
LIMITS = {
    "mlp": (0.06, 0.06, 0.12),
    "cnn": (0.1, 0.08, 0.2),
    "lstm": (0.2, 0.1, 0.25),
    "attention": (0.1, 0.08, 0.2),
}


@pytest.mark.slow
def test_trained_networks(trained):
    name, found, samples, predict = trained
    mean, deviation, covariance = LIMITS[name]
    spread = np.sqrt(samples["variance"])
    errors = np.linalg.norm(found.covariance - samples["covariance"], axis=(1, 2))
    assert np.abs((found.mean - samples["mean"]) / spread).mean() < mean
    assert abs((np.sqrt(found.variance) / spread).mean() - 1) < deviation
    assert (errors / np.linalg.norm(samples["covariance"], axis=(1, 2))).mean() < covariance
    np.testing.assert_allclose(sum(found.shares.values()), found.variance, rtol=1e-4)
    assert set(found.shares) == {*(site.path for site in predict.sites), "interactions"}


@pytest.mark.slow
def test_nnx_models_name_their_sites():
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.block = nnx.Sequential(nnx.Linear(12, 8, rngs=rngs), jaxdrop.nnx.Dropout(0.2, rngs=rngs))
            self.drop, self.last = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.last(self.drop(nnx.relu(self.block(x))))

    predict = jaxdrop.nnx.stochastic(Net(nnx.Rngs(0)), X)
    found = mc.moments(predict, X)
    assert set(found.shares) == {"block/layers/1", "drop", "interactions"}
    samples = mc.estimate(predict, KEY, X, num_samples=4000, reducers=mc.Moments(groups=0)).value
    np.testing.assert_allclose(found.variance, samples["variance"], rtol=0.2, atol=1e-3)


@pytest.mark.slow
def test_jit_chunks_and_shards_change_nothing():
    predict = nets.bound()
    x = nets.inputs(8)
    found = mc.moments(predict, x)

    def check(other: mc.OutputMoments) -> None:
        assert other.rules == found.rules
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), other, found)

    check(jax.jit(mc.moments)(predict, x))
    check(mc.moments(predict, x, chunk_size=3))
    mesh = make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    check(mc.moments(predict, jax.device_put(x, NamedSharding(mesh, P("batch")))))
    mesh = make_mesh((8,), ("batch",), axis_types=(AxisType.Explicit,))
    found_there = mc.moments(predict, jax.device_put(x, NamedSharding(mesh, P("batch"))))
    assert jax.typeof(found_there.mean).sharding.spec[0] == "batch"
    check(jax.device_get(found_there))


def test_half_precision_is_analyzed_in_float32():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        h = jaxdrop.dropout(key, jax.nn.relu(x @ W1.astype(x.dtype)), 0.5)
        return h @ W2.astype(x.dtype)

    found, expected = mc.moments(predict, X.astype(jnp.bfloat16)), mc.moments(one_layer, X)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=0.1, atol=0.02)


def refused(predict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mc.moments(predict, X)


def dropped(key: jax.Array, x: jax.Array) -> jax.Array:
    return jaxdrop.dropout(key, x, 0.2) @ W1


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda h: jnp.sort(h, -1), "`sort` of a random array at test_moments.py"),
        (lambda h: h.max(-1, keepdims=True), "`reduce_max`"),
        (lambda h: jax.nn.one_hot(h.argmax(-1), 3), "`argmax`"),
        (
            lambda h: h[jnp.arange(8), jnp.int32(h[:, 0])][:, None] if len(h) == 8 else h[:, :1],
            "`.*` at|of a",
        ),
        (lambda h: jax.lax.cond(h.sum() > 0, jnp.sin, jnp.cos, h), "`cond`"),
        (lambda h: jax.lax.while_loop(lambda h: h.sum() < 0, lambda h: h + 1, h), "`while`"),
        (lambda h: jnp.cumprod(h, -1), "`cumprod`"),
        (lambda h: jnp.linalg.solve(jnp.eye(32) + h.T @ h, h.T).T, "`lu`|`.*` of a random array"),
    ],
)
def test_steps_without_a_rule_are_refused(step, words: str):
    refused(lambda key, x: step(dropped(key, x)), words)


@pytest.mark.parametrize(
    "draw",
    [
        lambda key, x: x[jax.random.permutation(key, len(x))],
        lambda key, x: x * jax.random.randint(key, x.shape, 0, 2),
        lambda key, x: x * jax.random.gamma(key, 2.0, x.shape),
        lambda key, x: x[:, jax.random.choice(key, 12, (3,))],
        lambda key, x: jaxdrop.cutout(key, x[:, :, None, None], 1.0, size=1)[..., 0, 0],
        lambda key, x: jaxdrop.patch_dropout(key, x[:, :, None], 0.5)[..., 0],
        lambda key, x: jaxdrop.drop_edge(
            key, x.reshape(-1), 0.5, senders=jnp.arange(x.size), receivers=jnp.arange(x.size), undirected=True
        ).reshape(x.shape),
        lambda key, x: jax.random.normal(jax.random.key(jax.random.bits(key)), x.shape),
    ],
)
def test_draws_without_a_law_are_refused(draw):
    refused(draw, "of a key at test_moments.py")


def test_coupled_rows_are_refused():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        h = dropped(key, x)
        return h - h.mean(0, keepdims=True)

    refused(predict, "must treat each example by itself")
    assert np.isnan(jax.jit(partial(mc.moments, predict))(X).variance).all()


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="`Indexed`"):
        mc.moments(mc.ensemble(lambda member, key, x: x * member, jnp.ones(3)), X)
    with pytest.raises(ValueError, match="must return outputs that depend on its key"):
        mc.moments(lambda key, x: x @ W1, X)
    with pytest.raises(ValueError, match="one floating-point array"):
        mc.moments(lambda key, x: (x, x), X)
    with pytest.raises(ValueError, match="one row per example"):
        mc.moments(lambda key, x: dropped(key, x).sum(0), X)
    with pytest.raises(ValueError, match="`chunk_size` must be at least 1"):
        mc.moments(dropped, X, chunk_size=0)
    for rate in (0.3, X[:, :1] * 0):
        with pytest.raises(ValueError, match="a key that is used twice"):
            mc.moments(
                lambda key, x, p=rate: (
                    jax.random.bernoulli(key, 0.5, x.shape) * x
                    + jax.random.bernoulli(key, p[: len(x)] if jnp.ndim(p) else p, x.shape)
                ),
                X,
            )
    with pytest.raises(ValueError, match="a key that is used twice"):
        mc.moments(lambda key, x: jax.random.normal(key, x.shape) + jax.random.normal(key, (1, 12)), X)


def test_equal_keys_are_one_site():
    """And a key that is a constant draws a constant."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        first = jaxdrop.gaussian_noise(jax.random.split(key)[0], x, 0.5)
        second = jaxdrop.gaussian_noise(next(iter(jax.random.split(key, 2))), x, 0.5)
        return first + second + jax.random.normal(jax.random.key(0), (1, 12))

    found = mc.moments(predict, X)
    np.testing.assert_allclose(found.variance, 1, rtol=1e-5)
    assert len(found.shares) == 2
    np.testing.assert_allclose(found.mean, 2 * X + standard_normal(0, (1, 12)), rtol=1e-5)
