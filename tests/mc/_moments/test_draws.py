"""Laws of single draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc

X = jnp.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("draw", "mean", "variance", "tolerance"),
    [
        (lambda key, x: x + jax.random.normal(key, x.shape), X, 1, 1e-6),
        (lambda key, x: x * jax.random.bernoulli(key, 0.25, x.shape), X / 4, X**2 * 3 / 16, 1e-6),
        (lambda key, x: x * jax.random.uniform(key, x.shape), X / 2, X**2 / 12, 1e-6),
        (lambda key, x: x * jax.random.uniform(key, x.shape, minval=-1, maxval=3), X, X**2 * 16 / 12, 1e-5),
        (lambda key, x: x * jax.random.rademacher(key, x.shape, "float32"), 0 * X, X**2, 1e-6),
        (lambda key, x: x + jax.random.exponential(key, x.shape), X + 1, 1, 1e-3),
        (lambda key, x: x + jax.random.laplace(key, x.shape), X, 2, 1e-3),
        (lambda key, x: x + jax.random.truncated_normal(key, -1, 1, x.shape), X, 0.2911, 0.02),
        (lambda key, x: x * jax.random.bernoulli(key, jnp.array([[0.0, 0.5, 1.0]]), x.shape),
         X * jnp.array([[0, 0.5, 1]]), X**2 * jnp.array([[0, 0.25, 0]]), 1e-6),
    ],
)  # fmt: skip
def test_moments_of_draws(draw, mean, variance, tolerance: float):
    found = mc.moments(draw, X)
    np.testing.assert_allclose(found.mean, mean, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(
        found.variance, np.broadcast_to(variance, X.shape), atol=tolerance, rtol=tolerance
    )


def test_random_ends_are_refused():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        a, b = jax.random.split(key)
        return jax.random.uniform(a, x.shape, maxval=1 + jax.random.uniform(b, x.shape))

    with pytest.raises(ValueError, match="between known ends"):
        mc.moments(predict, X)


def test_draws_that_share_numbers_are_refused():
    """`jax.vmap` over a rate alone has one draw for all rates."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        masks = jax.vmap(lambda rate: jax.random.bernoulli(key, rate, x.shape))(jnp.array([0.2, 0.5]))
        return masks.sum(0) * x

    def rounded(key: jax.Array, x: jax.Array) -> jax.Array:
        return x + jax.random.normal(key, x.shape) - jax.random.normal(key, x.shape, jnp.bfloat16)

    with pytest.raises(ValueError, match="numbers are shared between rates"):
        mc.moments(predict, X)
    with pytest.raises(ValueError, match="used twice, for different draws"):
        mc.moments(rounded, X)
