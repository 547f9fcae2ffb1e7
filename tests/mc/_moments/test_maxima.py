"""Clark's moments, and whether any of some decisions is true."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import mc

X = jax.random.normal(jax.random.key(0), (2, 6))


def check(predict, of_mean: float, of_deviation: float) -> None:
    found = mc.moments(predict, X)
    samples = jax.vmap(lambda key: predict(key, X))(jax.random.split(jax.random.key(1), 40_000))
    spread = samples.std(0)
    assert (jnp.abs(found.mean - samples.mean(0)) / spread).max() < of_mean
    np.testing.assert_allclose(np.sqrt(found.variance), spread, rtol=of_deviation)


def test_the_larger_and_the_smaller_of_two():
    def split(key: jax.Array, x: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        a, b = x + jax.random.normal(first, x.shape), 2 * jax.random.normal(second, x.shape)
        return jnp.concatenate([jnp.maximum(a, b), jnp.minimum(a, b)], -1)

    check(split, 0.03, 0.03)
    assert "max: Clark's moments, taken as uncorrelated" in mc.moments(split, X).rules


def test_pooling():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        noisy = x + jax.random.normal(key, x.shape)
        return jax.lax.reduce_window(noisy, -jnp.inf, jax.lax.max, (1, 3), (1, 2), "SAME")

    check(predict, 0.05, 0.05)


def test_any_of_independent_decisions():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        marks = jax.random.bernoulli(key, jax.nn.sigmoid(x), x.shape)
        return marks.reshape(len(x), 2, 3).any(-1).astype(jnp.float32)

    check(predict, 0.03, 0.03)
