"""Gaussian dropout: the noise is normal around one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxdrop

KEY = jax.random.key(2)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_the_factor_is_normal(rate):
    factor = np.asarray(jaxdrop.gaussian_dropout(KEY, jnp.full((100_000,), 3.0), rate)) / 3
    assert stats.kstest((factor - 1) / np.sqrt(rate / (1 - rate)), "norm").pvalue > 1e-3


def test_the_rate_has_no_gradient():
    grad = jax.grad(lambda rate: jaxdrop.gaussian_dropout(KEY, jnp.ones(8), rate).sum())
    assert [float(grad(rate)) for rate in (0.0, 0.5, 1.0)] == [0.0, 0.0, 0.0]
