"""What attention drops in half precision, where a scale above 65504 is no number of float16."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jaxdrop
from jaxdrop import _checks
from jaxdrop.drops import _attention_dropping
from tests.devices import make_mesh
from tests.normals import standard_normal

KEY = jax.random.key(13)
LENGTH = 256


def inputs(dtype):
    """Weights of 1 / LENGTH, so that results are finite where a scaled weight before the sum is not."""
    values = standard_normal(6, (1, LENGTH, 4, 2)).astype(dtype)
    return jnp.zeros((1, LENGTH, 4, 2), dtype), values


def exact(values, rate, bits):
    """The results in float64, and the gradient of their sum by the values."""
    shape = (1, 4, LENGTH, LENGTH)
    kept = np.asarray(jaxdrop.masks.keep_mask(KEY, shape, rate, bits=bits))
    scale = 1 / np.float64(_checks.prepare(rate, shape, bits).keep_prob) / LENGTH
    assert scale * LENGTH > 65504
    assert kept.any()
    y = scale * np.einsum("bhts,bshd->bthd", kept, np.asarray(values, np.float64))
    return y, np.broadcast_to(scale * np.einsum("bhts->bsh", kept)[..., None], y.shape)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("bits", "traced"), [(24, False), (16, True), (32, False)])
def test_rates_near_one_do_not_overflow(dtype, bits, traced):
    zeros, values = inputs(dtype)
    rate = 1 - 1.2e-5
    given = jnp.float32(rate) if traced else rate
    expected = exact(values, rate, bits)

    @jax.jit
    def run(rate, values):
        def loss(values):
            own = {"block_size": 64, "bits": bits}
            y = jaxdrop.dot_product_attention(KEY, zeros, zeros, values, rate if traced else given, **own)
            return y.astype(jnp.float32).sum(), y

        grad, y = jax.grad(loss, has_aux=True)(values)
        return y, grad

    for one, other in zip(run(given, values), expected, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(np.asarray(one, np.float64), other, rtol=2e-2, atol=1e-2)


@pytest.mark.slow
def test_one_block_a_ring_and_an_array_of_rates():
    zeros, values = inputs(jnp.float16)
    rate, bits = 1 - 1.2e-5, 24
    expected, _ = exact(values, rate, bits)
    attend = functools.partial(jaxdrop.dot_product_attention, bits=bits)
    near = functools.partial(np.testing.assert_allclose, desired=expected, rtol=2e-2, atol=1e-2)
    near(attend(KEY, zeros, zeros, values, rate, block_size=None))
    near(attend(KEY, zeros, zeros, values, np.full((4, 1, 1), rate)))
    mesh, places = make_mesh((2,), ("s",)), PartitionSpec(None, "s")
    ring = jax.shard_map(
        lambda queries, values: attend(KEY, queries, queries, values, rate, axis_name="s"),
        mesh=mesh,
        in_specs=places,
        out_specs=places,
    )
    near(ring(*jax.device_put((zeros, values), NamedSharding(mesh, places))))


def test_usual_rates_have_no_second_factor():
    shape, drop = (1, 1, 8, 8), jaxdrop.attention_dropout
    make = functools.partial(_attention_dropping.make_dropping, KEY, shape)
    for rate, dtype, excess in ((0.5, np.float16, None), (0.999999, jnp.bfloat16, None)):
        assert make(rate, drop, (), 24, np.dtype(dtype)).excess is excess
    found = make(0.99999, drop, (), 24, np.dtype(np.float16))
    assert found.scale == 2**15
    assert found.excess * 2**15 == pytest.approx(1e5, rel=1e-2)


def test_no_examples_have_no_largest_scale():
    x = jnp.zeros((0, 4, 2, 2), jnp.float16)
    rates = np.zeros((0, 1, 1, 1), np.float32)
    assert jaxdrop.dot_product_attention(KEY, x, x, x, rates).shape == x.shape


def test_the_kernel_refuses_what_float16_cannot_hold():
    x = jnp.zeros((1, 128, 2, 64), jnp.float16)
    attend = functools.partial(jaxdrop.dot_product_attention, KEY, x, x, x, implementation="triton")
    with pytest.raises(ValueError, match=r"None with rates above 0\.99996 in float16, got 'triton'"):
        attend(0.99997)
    if jax.default_backend() == "cpu":
        with pytest.raises(ValueError, match="on a CPU"):
            attend(0.99996)
