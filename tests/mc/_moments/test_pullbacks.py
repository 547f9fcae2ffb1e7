"""Covariances by pulling outputs back: of a linear path, by blocks of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop.mc._moments import pullbacks

FIRST = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)
SECOND = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
VARIANCES = np.array([[0.5, 1.0], [2.0, 0.0], [1.0, 3.0]], np.float32)


def path(deltas: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
    first = jnp.einsum("kij,ij->k", FIRST, deltas[0]) + SECOND @ deltas[1]
    return first + jnp.arange(7.0), [jnp.asarray(VARIANCES), jnp.ones(4)]


@pytest.mark.parametrize("covariance", [True, False])
@pytest.mark.parametrize("block", [1, 3, 7])
def test_moments(block: int, covariance: bool):
    found = pullbacks.moments(path, [(3, 2), (4,)], [1, 0], 3, covariance, block)
    flat = FIRST.reshape(7, -1)
    first, second = (flat * VARIANCES.reshape(-1)) @ flat.T, SECOND @ SECOND.T
    np.testing.assert_allclose(found.mean, np.arange(7))
    np.testing.assert_allclose(found.variance, np.diagonal(first + second), rtol=1e-5)
    np.testing.assert_allclose(found.shares[0], np.diagonal(second), rtol=1e-5)
    np.testing.assert_allclose(found.shares[1], np.diagonal(first), rtol=1e-5)
    np.testing.assert_array_equal(found.shares[2], 0)
    assert (found.covariance is not None) == covariance
    if covariance:
        np.testing.assert_allclose(found.covariance, first + second, rtol=1e-5, atol=1e-5)


def test_the_mean_path_is_evaluated_once():
    """Not for each output: the exponentials of ten outputs are those of one."""

    def curved(deltas: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        slope = jnp.exp(-jnp.exp(jnp.sin(jnp.arange(1000.0))))
        return jnp.ones((10, 1000)) @ (slope * deltas[0]), [slope]

    def found() -> pullbacks.Found:
        return pullbacks.moments(curved, [(1000,)], [0], 1, True, 10)

    cost = jax.jit(found).lower().compile().cost_analysis()
    assert cost.get("transcendentals", 0) < 5000
