"""The closed form, against the definition in float64 and against samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxdrop
from jaxdrop import mc
from tests.devices import make_mesh
from tests.normals import standard_normal

H = standard_normal(0, (3, 10))
KERNEL = standard_normal(1, (10, 4))
BIAS = jnp.arange(4.0)


@pytest.mark.parametrize("rate", [0.1, 0.5, np.linspace(0.0, 0.9, 10)])
def test_float64(rate):
    found = mc.last_layer(H, KERNEL, BIAS, rate=rate)
    h, w, p = (np.asarray(a, np.float64) for a in (H, KERNEL, rate))
    np.testing.assert_allclose(found.mean, h @ w + np.arange(4), rtol=1e-5, atol=1e-5)
    spread = h**2 * p / (1 - p)
    expected = np.einsum("bi,ik,il->bkl", spread, w, w)
    # The realized rate is off by at most 0.1 %.
    np.testing.assert_allclose(found.covariance, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_samples():
    def predict(key, h):
        return jaxdrop.dropout(key, h, 0.3) @ KERNEL + BIAS[None]

    found = mc.last_layer(H, KERNEL, BIAS, rate=0.3)
    drawn = mc.estimate(
        predict,
        jax.random.key(2),
        H,
        num_samples=20_000,
        reducers=mc.Moments(covariance=True),
        chunk_size=1000,
    )
    for name, exact in zip(("mean", "covariance"), found, strict=True):
        off = np.abs(np.asarray(drawn.value[name] - exact)) / np.asarray(drawn.standard_error[name])
        assert off.max() < 5


def test_rate_zero_has_no_covariance_and_traced_rates_work():
    np.testing.assert_array_equal(mc.last_layer(H, KERNEL, rate=0.0).covariance, 0)
    traced = jax.jit(lambda rate: mc.last_layer(H, KERNEL, rate=rate))(0.5)
    expected = mc.last_layer(H, KERNEL, rate=0.5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), traced, expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": 1.0}, "`rate` must be below 1"),
        ({"rate": -0.1}, r"`rate` must lie in \[0, 1\], got -0.1."),
        ({"kernel": KERNEL[:5]}, r"`kernel` must have shape \[D, K\] with D = 10, got \(5, 4\)\."),
        ({"kernel": KERNEL[0]}, r"`kernel` must have shape \[D, K\] with D = 10, got \(4,\)\."),
    ],
)
def test_bad_input(wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        mc.last_layer(H, **({"kernel": KERNEL, "rate": 0.5} | wrong))
    with pytest.raises(ValueError, match=r"`h` must have shape \[B, D\], got \(10,\)\."):
        mc.last_layer(H[0], KERNEL, rate=0.5)


@pytest.mark.parametrize("shape", [(), (1,), (5, 1), (4, 1, 3)])
def test_a_bias_that_does_not_fit(shape):
    with pytest.raises(ValueError, match=r"`bias` must have shape \[K\], \(3,\), got \("):
        mc.last_layer(jnp.ones((5, 4)), jnp.ones((4, 3)), jnp.ones(shape), rate=0.5)


@pytest.mark.parametrize("spec", [PartitionSpec(), PartitionSpec("batch"), PartitionSpec("batch", "model")])
@pytest.mark.parametrize("jitted", [False, True])
def test_explicit_meshes(spec: PartitionSpec, jitted: bool):
    """Contractions over a sharded axis, and a rate and a bias on the mesh."""
    mesh = make_mesh((2, 2), ("batch", "model"), axis_types=(AxisType.Explicit,) * 2)
    h, rate = jnp.concatenate([H, H[:1]]), jnp.linspace(0.0, 0.9, 10)
    expected = mc.last_layer(h, KERNEL, BIAS, rate=rate)

    def put(array: jax.Array, *axes: str | None) -> jax.Array:
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*axes)))

    def call(h: jax.Array, kernel: jax.Array, bias: jax.Array, rate: jax.Array) -> mc.LastLayer:
        return mc.last_layer(h, kernel, bias, rate=rate)

    args = put(h, *spec), put(KERNEL, "model"), put(BIAS, "model"), put(rate, "model")
    found = (jax.jit(call) if jitted else call)(*args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, expected)
    for leaf in found:
        assert tuple(jax.typeof(leaf).sharding.spec)[:1] == (spec[:1] or (None,))
