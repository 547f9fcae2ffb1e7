"""Variational dropout: the noise of the product, and the divergence against its integral."""

import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxdrop.drops.variational_dropout import variational_dropout
from tests import learned
from tests.normals import standard_normal

KEY = jax.random.key(2)
X = standard_normal(3, (16, 5))
KERNEL = standard_normal(4, (5, 3))
LOG_ALPHA = jnp.linspace(-4, -0.1, 15).reshape(5, 3)


@pytest.mark.parametrize("law", learned.EVERY_LAW, ids=lambda law: law.__name__)
def test_laws(law):
    law(variational_dropout, X, KERNEL, LOG_ALPHA)


def test_the_noise_is_normal_with_the_variance_of_the_weights():
    """Each element over the paper's standard deviation is an independent standard normal."""
    x, kernel, alpha = (np.asarray(a, np.float64) for a in (X[:4], KERNEL, jnp.exp(LOG_ALPHA)))
    mean, deviation = x @ kernel, np.sqrt(x**2 @ (alpha * kernel**2))
    keys = jax.random.split(KEY, 5000)
    y = jax.vmap(lambda key: variational_dropout(key, X[:4], KERNEL, LOG_ALPHA)[0])(keys)
    noise = (np.asarray(y, np.float64) - mean) / deviation
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert (np.abs(noise.mean(0)) < 5 / np.sqrt(5000)).all()
    assert (np.abs((noise**2).mean(0) - 1) < 5 * np.sqrt(2 / 5000)).all()
    correlation = np.corrcoef(noise.reshape(5000, -1).T) - np.eye(12)
    assert np.abs(correlation).max() < 5 / np.sqrt(5000)


@pytest.mark.parametrize("shape", [(), (3,), (5, 1), (5, 3)])
def test_log_alpha_broadcasts(shape):
    log_alpha = -jnp.arange(1.0, 1 + np.prod(shape, dtype=int)).reshape(shape)
    full = jnp.broadcast_to(log_alpha, (5, 3))
    for one, other in zip(
        variational_dropout(KEY, X, KERNEL, log_alpha), variational_dropout(KEY, X, KERNEL, full), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def log_mean(alpha: float) -> float:
    """E log|e| for e of N(1, alpha), integrated on both sides of its singularity."""

    def integrand(e: float) -> float:
        return math.log(abs(e)) * math.exp(-0.5 * (e - 1) ** 2 / alpha) / math.sqrt(2 * math.pi * alpha)

    reach = 12 * math.sqrt(alpha)
    points = [1 - reach, *([0.0] if reach > 1 else []), 1 + reach]
    return sum(integrate.quad(integrand, a, b, limit=500)[0] for a, b in itertools.pairwise(points))


def test_the_penalty_is_near_the_divergence():
    """KL = E log|e| - log(alpha) / 2 + constant; the cubic differs by -0.040 to 0.000 without it."""
    log_alphas = np.linspace(-8, 0, 17)
    exact = np.array([log_mean(np.exp(value)) - 0.5 * value for value in log_alphas])
    penalty = jax.vmap(lambda a: variational_dropout(KEY, jnp.ones((1, 1)), jnp.ones((1, 1)), a)[1])
    difference = np.asarray(penalty(jnp.asarray(log_alphas)), np.float64) - exact
    assert difference.max() - difference.min() < 2 * 0.021
    np.testing.assert_allclose(difference[0], 0, atol=1e-3)


def test_the_penalty_by_hand():
    _, penalty = variational_dropout(KEY, X, KERNEL, jnp.array(0.0))
    np.testing.assert_allclose(penalty, -15 * (1.16145124 - 1.50204118 + 0.58629921), rtol=1e-6)
    _, penalty = variational_dropout(KEY, X[:, :1], KERNEL[:1, :1], jnp.log(jnp.array([[0.25]])))
    expected = 0.5 * np.log(0.25) + 1.16145124 / 4 - 1.50204118 / 16 + 0.58629921 / 64
    np.testing.assert_allclose(penalty, -expected, rtol=1e-6)


@pytest.mark.slow
def test_alpha_is_at_most_one_and_can_come_back():
    """Above, result and penalty are those of 1; the result alone has a gradient."""
    above, one = jnp.full((5, 3), 2.0), jnp.zeros((5, 3))
    for got, expected in zip(
        variational_dropout(KEY, X, KERNEL, above), variational_dropout(KEY, X, KERNEL, one), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-6)

    def grad(index, log_alpha):
        return jax.grad(lambda a: jnp.sum(variational_dropout(KEY, X, KERNEL, a)[index] ** 2))(log_alpha)

    np.testing.assert_array_equal(grad(1, above), 0)
    np.testing.assert_allclose(grad(0, above), grad(0, one), rtol=1e-4, atol=1e-5)
    assert (grad(0, above) != 0).all()


def test_no_noise_and_no_input_have_finite_gradients():
    def of(x, kernel, log_alpha):
        y, penalty = variational_dropout(KEY, x, kernel, log_alpha)
        return jnp.sum(y**2) + penalty

    quiet = jnp.full((5, 3), -300.0)
    np.testing.assert_allclose(
        variational_dropout(KEY, X, KERNEL, quiet)[0], X @ KERNEL, rtol=1e-5, atol=1e-6
    )
    for x, kernel, log_alpha in (
        (X, KERNEL, quiet),
        (jnp.zeros_like(X), KERNEL, LOG_ALPHA),
        (X, jnp.zeros_like(KERNEL), LOG_ALPHA),
    ):
        grads = jax.grad(of, (0, 1, 2))(x, kernel, log_alpha)
        assert all(np.isfinite(grad).all() for grad in grads)


def test_float16_inputs_whose_squares_overflow():
    x = jnp.full((2, 4), 500.0, jnp.float16)
    y, _ = variational_dropout(KEY, x, jnp.full((4, 2), 0.1), jnp.array(-2.0))
    assert np.isfinite(y).all()


def test_inputs_of_other_ranks():
    y, _ = variational_dropout(KEY, jnp.ones(5), KERNEL, LOG_ALPHA)
    assert y.shape == (3,)
    y, _ = variational_dropout(KEY, jnp.ones((2, 7, 5)), KERNEL, LOG_ALPHA)
    assert y.shape == (2, 7, 3)
    assert len(np.unique(y[..., 0])) == 14


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"kernel": jnp.ones((4, 3))},
            "`kernel` must be of shape [I, O] for `x` of [..., I], got (4, 3) and (16, 5).",
        ),
        (
            {"kernel": jnp.ones(5)},
            "`kernel` must be of shape [I, O] for `x` of [..., I], got (5,) and (16, 5).",
        ),
        ({"log_alpha": jnp.ones((2, 3))}, "`log_alpha` must broadcast to shape (5, 3), got (2, 3)."),
    ],
)
def test_shapes_that_do_not_fit(arrays, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        variational_dropout(KEY, **{"x": X, "kernel": KERNEL, "log_alpha": LOG_ALPHA, **arrays})


@pytest.mark.parametrize("name", ["x", "kernel", "log_alpha"])
def test_integers(name):
    arrays = {"x": X, "kernel": KERNEL, "log_alpha": LOG_ALPHA}
    arrays[name] = arrays[name].astype(jnp.int32)
    with pytest.raises(TypeError, match=re.escape(f"`{name}` must be a floating-point array, got int32.")):
        variational_dropout(KEY, **arrays)
