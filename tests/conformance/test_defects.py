"""Right answers where papers' code and kernels err: Mixout, quantized rates, draws in half precision.

The defects of the libraries that have a suite of their own are in the files of their names.
"""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import _checks
from tests.conformance.arithmetic import assert_mean

KEY = jax.random.key(6)
RATES = pytest.mark.parametrize("rate", [0.01, 0.1, 0.2, 0.3, 0.5, 0.9, 0.99])


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.9])
def test_mixout_gradient(rate):
    """Mixout's own code (bloodwass/mixout) gives m for the gradient; that of its forward is m / (1 - p)."""
    weights, target = np.random.default_rng(0).normal(size=(2, 32, 24)).astype(np.float32)

    def forward(weights):
        return jaxdrop.mixout(KEY, jnp.asarray(weights), target, rate, bits=24)

    gradient = jax.grad(lambda weights: forward(weights).sum())(jnp.asarray(weights))
    kept = np.asarray(forward(np.ones_like(target) + target)) != target
    assert 0 < kept.mean() < 1
    np.testing.assert_allclose(gradient, kept / (1 - rate), rtol=1e-5)
    # Linear in the weights, so a difference is a derivative.
    np.testing.assert_allclose(forward(weights + 1) - forward(weights), gradient, rtol=1e-4, atol=1e-5)


def test_mixout_expectation():
    """Mixout's promise, E[W'] = W, at any target."""
    keys = jax.random.split(KEY, 4000)
    y = jax.vmap(lambda key: jaxdrop.mixout(key, jnp.full((1, 8), 3.0), jnp.full((1, 8), -5.0), 0.3))(keys)
    assert_mean(y.reshape(4000, 8), 3.0)


@RATES
@pytest.mark.parametrize("bits", [8, 16, 24])
def test_expectation_of_quantized_rates(rate, bits):
    """A kept element is scaled by one over the probability that its bits realize: E is 1, to a rounding."""
    kept = Fraction(int(_checks.prepare(rate, (), bits).threshold), 2**bits)
    assert kept == Fraction(round((1 - rate) * 2**bits), 2**bits)
    scale = jaxdrop.apply_mask(jnp.ones(()), jnp.array(True), rate, bits=bits)
    assert abs(float(scale) * kept - 1) < 2**-24


@RATES
def test_expectation_of_a_traced_quantized_rate(rate):
    """The same under a trace, where the rate cannot be looked at and takes 16 bits."""
    kept = round((1 - np.float32(rate)) * 2.0**16) / 2**16
    scale = jax.jit(jaxdrop.apply_mask)(jnp.ones(()), jnp.array(True), rate)
    assert abs(float(scale) * kept - 1) < 2**-23


@pytest.mark.parametrize(("rate", "kept"), [(0.1, 230), (0.9, 26), (0.01, 253)])
def test_the_share_that_8_bits_keep(rate, kept):
    """Drawn: the share is the rounded one, which is told from 1 - p, and the mean of ones stays 1."""
    y = jaxdrop.dropout(KEY, jnp.ones((2**11, 2**11)), rate, bits=8).ravel()
    share, error = np.count_nonzero(y) / y.size, math.sqrt(rate * (1 - rate) / y.size)
    assert abs(share - kept / 256) < 5 * error
    assert abs(share - (1 - rate)) > 5 * error
    assert_mean(y, 1.0)


def test_the_mean_of_8_bits():
    """At .1 that of Transformer Engine is 1.0026 and that of FlashAttention .9983; here it is 1.

    The one drops floor(256 p) of 256 draws, the other keeps floor(255 (1 - p)) + 1, and both scale
    by 1 / (1 - p).
    """
    y = jaxdrop.dropout(KEY, jnp.ones((2**11, 2**11)), 0.1, bits=8)
    error = math.sqrt(0.1 / 0.9 / y.size)
    assert abs(float(y.mean()) - 1) < 5 * error
    for kept, theirs in ((256 - math.floor(256 * 0.1), 1.0026), (math.floor(255 * 0.9) + 1, 0.9983)):
        assert abs(kept / 256 / 0.9 - theirs) < 5e-5
        assert abs(theirs - 1) > 10 * error


def test_the_share_kept_of_half_precision():
    """A uniform draw in bfloat16 has 128 values, so that u >= .2 keeps 102 / 128 = .797; here it is .8."""
    n = 2**22
    y = jaxdrop.dropout(KEY, jnp.ones((2**11, 2**11), jnp.bfloat16), 0.2)
    share, error = np.count_nonzero(y) / n, math.sqrt(0.2 * 0.8 / n)
    assert abs(share - 0.8) < 5 * error
    assert abs(share - 102 / 128) > 5 * error


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_traced_rates_at_the_ends(rate):
    """Haiku refuses a rate of 1, and gives NaN where it is traced: zero over zero; here it is 0."""
    x = jnp.arange(1.0, 9.0)
    y, vjp = jax.vjp(jax.jit(lambda x, rate: jaxdrop.dropout(KEY, x, rate)), x, rate)
    np.testing.assert_array_equal(y, (1 - rate) * x)
    np.testing.assert_array_equal(vjp(jnp.ones(8))[0], jnp.full(8, 1 - rate))


def test_drop_key_in_half_precision():
    """Snippets add -1e12, infinite in float16, and a row may lose every key: NaN; here neither happens."""
    logits = jnp.zeros((500, 1, 4), jnp.float16)
    hidden = jaxdrop.drop_key(KEY, logits, 0.9)
    assert np.isfinite(hidden).all()
    weights = jax.nn.softmax(hidden.astype(jnp.float32))
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert (weights == 0.25).all(-1).any()
