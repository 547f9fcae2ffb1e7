"""Sparse variational dropout: noise, the divergence against its integral, and what is pruned."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jaxdrop.drops.sparse_variational_dropout import sparse_kernel, sparse_variational_dropout
from jaxdrop.drops.variational_dropout import variational_dropout
from tests import learned
from tests.drops.test_variational_dropout import log_mean
from tests.normals import standard_normal

KEY = jax.random.key(2)
X = standard_normal(3, (16, 5))
KERNEL = standard_normal(4, (5, 3))
LOG_VARIANCE = jnp.linspace(-6, 1, 15).reshape(5, 3)


@pytest.mark.slow
@pytest.mark.parametrize("law", learned.EVERY_LAW, ids=lambda law: law.__name__)
def test_laws(law):
    law(sparse_variational_dropout, X, KERNEL, LOG_VARIANCE)


def test_the_noise_is_normal_with_the_variance_of_the_weights():
    x, kernel, variance = (np.asarray(a, np.float64) for a in (X[:4], KERNEL, jnp.exp(LOG_VARIANCE)))
    keys = jax.random.split(KEY, 5000)
    y = jax.vmap(lambda key: sparse_variational_dropout(key, X[:4], KERNEL, LOG_VARIANCE)[0])(keys)
    noise = (np.asarray(y, np.float64) - x @ kernel) / np.sqrt(x**2 @ variance)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert (np.abs(noise.mean(0)) < 5 / np.sqrt(5000)).all()
    assert (np.abs((noise**2).mean(0) - 1) < 5 * np.sqrt(2 / 5000)).all()


def test_it_is_variational_dropout_of_the_same_alpha():
    log_alpha = jnp.full((5, 3), -1.5)
    y, _ = sparse_variational_dropout(KEY, X, KERNEL, log_alpha + jnp.log(KERNEL**2))
    np.testing.assert_allclose(y, variational_dropout(KEY, X, KERNEL, log_alpha)[0], rtol=1e-4, atol=1e-5)


def penalties(log_alpha: np.ndarray) -> np.ndarray:
    one = jnp.ones((1, 1))
    of = jax.vmap(lambda a: sparse_variational_dropout(KEY, one, one, a.reshape(1, 1))[1])
    return np.asarray(of(jnp.asarray(log_alpha)), np.float64)


def test_the_penalty_is_near_the_divergence():
    """KL = E log|e| - log(alpha) / 2 + (log 2 + Euler's constant) / 2, which is 0 for infinite alpha."""
    log_alphas = np.linspace(-7.9, 7.9, 21)
    exact = np.array([log_mean(np.exp(value)) - 0.5 * value for value in log_alphas])
    exact += 0.5 * (np.euler_gamma + np.log(2))
    np.testing.assert_allclose(penalties(log_alphas), exact, atol=0.01)


@pytest.mark.slow
def test_the_penalty_as_the_paper_writes_it():
    log_alphas = np.linspace(-7, 7, 15)
    sigmoid = 1 / (1 + np.exp(-(1.87320 + 1.48695 * log_alphas)))
    expected = -(0.63576 * sigmoid - 0.5 * np.log1p(np.exp(-log_alphas)) - 0.63576)
    np.testing.assert_allclose(penalties(log_alphas), expected, rtol=1e-4, atol=1e-6)
    assert (penalties(np.array([-50.0, 50.0])) == penalties(np.array([-8.0, 8.0]))).all()


def test_zeros_and_extremes_have_finite_derivatives():
    def of(x, kernel, log_variance):
        y, penalty = sparse_variational_dropout(KEY, x, kernel, log_variance)
        return jnp.sum(y**2) + penalty

    zero = jnp.zeros_like(KERNEL)

    @jax.jit
    def derivatives(arrays):
        backward = jax.grad(of, (0, 1, 2))
        return backward(*arrays), jax.jvp(backward, arrays, jax.tree.map(jnp.ones_like, arrays))[1]

    cases = (
        (X, zero, LOG_VARIANCE),
        (jnp.zeros_like(X), KERNEL, LOG_VARIANCE),
        (X, zero, zero - 300),
        (X, zero + 1e-19, zero - 10),
        (X, zero + 1e-8, zero - 37),
    )
    for arrays in cases:
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(derivatives(arrays)))


def test_sparse_kernel():
    """Log alpha is log_variance - log(W**2): 2.9, 3.1 and infinite."""
    kernel = jnp.array([[2.0], [2.0], [0.0]])
    log_variance = jnp.log(4.0) + jnp.array([[2.9], [3.1], [-9.0]])
    np.testing.assert_array_equal(sparse_kernel(kernel, log_variance), [[2.0], [0.0], [0.0]])
    np.testing.assert_array_equal(sparse_kernel(kernel, log_variance, threshold=2.0), 0)
    kept = jax.jit(lambda t: sparse_kernel(kernel, log_variance, threshold=t))(3.2)
    np.testing.assert_array_equal(kept, kernel)
    far = jnp.full((3, 1), 12.0)
    np.testing.assert_array_equal(sparse_kernel(kernel + 1, far, threshold=9.9), [[3.0], [3.0], [0.0]])
    assert sparse_kernel(kernel.astype(jnp.bfloat16), log_variance).dtype == jnp.bfloat16
    assert sparse_kernel(jnp.ones((2, 3, 4)), jnp.zeros((2, 3, 4))).shape == (2, 3, 4)


@pytest.mark.slow
def test_training_prunes_what_the_data_do_not_need():
    """Of five inputs one matters; the penalty sends the weights of the others away."""
    x = standard_normal(5, (256, 5))
    target = 3 * x[:, :1]
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 1000))

    def of(params, key):
        y, penalty = sparse_variational_dropout(key, x, *params)
        return 20 * jnp.mean((y - target) ** 2) + penalty

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(of)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    params = (0.1 * jnp.ones((5, 1)), jnp.full((5, 1), -5.0))
    keys = jax.random.split(KEY, 1000)
    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))((params, optimizer.init(params)))
    kernel = sparse_kernel(*params)
    np.testing.assert_allclose(kernel[0], 3.0, atol=0.3)
    np.testing.assert_array_equal(kernel[1:], 0)


def test_shapes_that_do_not_fit():
    message = "`log_variance` must have the shape of `kernel`, (5, 3), got (3,)."
    with pytest.raises(ValueError, match=re.escape(message)):
        sparse_variational_dropout(KEY, X, KERNEL, jnp.zeros(3))
    with pytest.raises(ValueError, match=re.escape(message)):
        sparse_kernel(KERNEL, jnp.zeros(3))
    message = "`kernel` must be of shape [I, O] for `x` of [..., I], got (4, 3) and (16, 5)."
    with pytest.raises(ValueError, match=re.escape(message)):
        sparse_variational_dropout(KEY, X, KERNEL[:4], LOG_VARIANCE[:4])
    with pytest.raises(ValueError, match=re.escape("`threshold` must be a scalar, got shape (3,).")):
        sparse_kernel(KERNEL, LOG_VARIANCE, threshold=jnp.zeros(3))


@pytest.mark.parametrize("name", ["x", "kernel", "log_variance"])
def test_integers(name):
    arrays = {"x": X, "kernel": KERNEL, "log_variance": LOG_VARIANCE}
    arrays[name] = arrays[name].astype(jnp.int32)
    with pytest.raises(TypeError, match=re.escape(f"`{name}` must be a floating-point array, got int32.")):
        sparse_variational_dropout(KEY, **arrays)
