"""Covariances of a mean path by pull-backs."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop.mc._moments import pullbacks


def test_covariance_and_shares_are_those_of_a_linear_map():
    a, b = jax.random.normal(jax.random.key(0), (2, 4, 3))
    r, s = jnp.arange(1.0, 4), jnp.array([0.0, 2.0, 3.0])

    def path(deltas: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        return 1 + a @ deltas[0] + b @ deltas[1], [r, s]

    found = pullbacks.moments(path, [(3,), (3,)], [1, 0], 3, True)
    np.testing.assert_allclose(found.mean, 1)
    np.testing.assert_allclose(
        found.covariance, (a * r[None]) @ a.T + (b * s[None]) @ b.T, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(found.shares, [b**2 @ s, a**2 @ r, jnp.zeros(4)], rtol=1e-5)
    np.testing.assert_allclose(found.variance, np.diag(found.covariance), rtol=1e-5)
    assert pullbacks.moments(path, [(3,), (3,)], [0, 0], 1, False).covariance is None
