"""ShakeDrop: factors forward and backward, what shares them, and the mean that evaluation uses."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests import gpu
from tests.normals import standard_normal

KEY = jax.random.key(33)
X = jnp.ones((6, 3, 4))


def factors(x, rate, **options):
    """The factors of the output and of the gradient."""
    y, vjp = jax.vjp(lambda x: jaxdrop.shake_drop(KEY, x, rate, **options), x)
    return np.asarray(y / x, np.float64), np.asarray(vjp(jnp.ones_like(x))[0], np.float64)


@pytest.mark.slow
def test_the_formula_in_float64():
    """Forward b + a - b * a, backward b + g - b * g, with b of `drop_path`; other ranges, the same draws."""
    x = standard_normal(KEY, (512, 3))
    b = np.asarray(jaxdrop.drop_path(KEY, x, 0.4) != 0, np.float64)
    a, g = factors(x, 1.0, alpha=(0, 1))
    a = a * 5 - 2
    forward, backward = factors(x, 0.4, alpha=(-2, 3))
    np.testing.assert_allclose(forward, b + a - b * a, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(backward, b + g - b * g, rtol=1e-5, atol=1e-6)
    forward, backward = factors(x, 0.4, alpha=(0, 0), beta=(0.5, 0.5))
    np.testing.assert_array_equal(forward, b)
    np.testing.assert_array_equal(backward, (1 + b) / 2)


@pytest.mark.slow
def test_draws_are_uniform_and_independent():
    n = 20_000
    kept = np.asarray(jaxdrop.keep_mask(KEY, (n, 1), 0.5))[:, 0]
    a, g = (part[:, 0] for part in factors(jnp.ones((n, 1)), 1.0))
    for draws, low, high in ((a, -1, 1), (g, 0, 1)):
        unit = (draws - low) / (high - low)
        assert unit.min() > 0
        assert unit.max() < 1
        for moment in (1, 2, 3):
            error = np.sqrt(1 / (2 * moment + 1) - 1 / (moment + 1) ** 2)
            assert abs((unit**moment).mean() - 1 / (moment + 1)) < 5 * error / np.sqrt(n)
    correlations = np.corrcoef([a, g, kept])[np.triu_indices(3, 1)]
    assert (np.abs(correlations) < 5 / np.sqrt(n)).all()


@pytest.mark.parametrize(
    ("level", "shape"), [("batch", (1, 1, 1)), ("image", (6, 1, 1)), ("pixel", (6, 3, 4))]
)
def test_what_shares_a_pair_of_factors(level, shape):
    for found in factors(X, 1.0, level=level):
        distinct = found[tuple(slice(size) for size in shape)]
        np.testing.assert_array_equal(found, np.broadcast_to(distinct, X.shape))
        assert len(np.unique(distinct)) == distinct.size


@pytest.mark.parametrize("axis", [1, -1])
def test_one_pair_of_factors_per_channel(axis):
    y = np.moveaxis(np.asarray(jaxdrop.shake_drop(KEY, X, 1.0, level="channel", channel_axis=axis)), axis, 1)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :, :1], y.shape))
    assert len(np.unique(y[:, :, 0])) == y[:, :, 0].size


def test_one_decision_per_batch():
    draw = jax.jit(jax.vmap(lambda key: jaxdrop.shake_drop(key, X[..., 0], 0.3, mode="batch")))
    kept = np.asarray(draw(jax.random.split(KEY, 2000)) == 1).reshape(2000, -1)
    assert (kept == kept[:, :1]).all()
    assert abs(kept[:, 0].mean() - 0.7) < 5 * np.sqrt(0.3 * 0.7 / 2000)


def test_forward_mode_agrees_with_backward_mode_and_the_second_derivative_is_zero():
    x, direction = jnp.array([[1.0], [-3.0], [5.0], [2.0]]), jnp.array([[2.0], [3.0], [-1.0], [1.0]])

    def slope(x):
        return jax.jvp(lambda x: jaxdrop.shake_drop(KEY, x, 0.6), (x,), (direction,))[1]

    np.testing.assert_allclose(slope(x), factors(x, 0.6)[1] * direction, rtol=1e-6)
    np.testing.assert_array_equal(jax.vjp(slope, x)[1](jnp.ones_like(x))[0], 0)


def test_the_mean_is_the_mean():
    """By hand, and over 20000 examples."""
    rates = jnp.array([[0.0], [0.25], [1.0]])
    for low in (-1.0, 0.0):
        mean = jaxdrop.shake_drop_mean(jnp.full((3, 1), 2.0), rates, alpha=(low, 1.0))
        np.testing.assert_allclose(mean, 2 * (1 - rates + rates * (low + 1) / 2), rtol=1e-6)
    x = jnp.ones((20_000, 1))
    y = jaxdrop.shake_drop(KEY, x, 0.3, alpha=(0.0, 1.0))
    error = 5 * y.std() / np.sqrt(y.size)
    assert abs(y.mean() - jaxdrop.shake_drop_mean(x, 0.3, alpha=(0.0, 1.0))[0, 0]) < error
    assert jaxdrop.shake_drop_mean(x.astype(jnp.bfloat16), 0.3, mode="batch").dtype == jnp.bfloat16
    assert np.isnan(jax.jit(jaxdrop.shake_drop_mean)(x[:2], 1.5)).all()


def test_a_traced_rate_that_is_out_of_range_is_seen_in_the_gradient_too():
    grad = jax.jit(jax.grad(lambda x, rate: jaxdrop.shake_drop(KEY, x, rate).sum()))(X, 1.5)
    assert np.isnan(grad).all()


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (ValueError, {"mode": "rows"}, "`mode` must be one of 'row', 'batch', got 'rows'."),
        (
            ValueError,
            {"level": "row"},
            "`level` must be one of 'batch', 'image', 'pixel', 'channel', got 'row'.",
        ),
        (ValueError, {"level": "channel", "channel_axis": 0}, "`channel_axis` must not be the batch axis 0"),
        (ValueError, {"alpha": (1, -1)}, "`alpha` must be finite and in order, got (1, -1)."),
        (ValueError, {"beta": (0, np.inf)}, "`beta` must be finite and in order, got (0, inf)."),
        (TypeError, {"alpha": 1.0}, "`alpha` must be a pair of numbers, got 1.0."),
        (TypeError, {"alpha": ("a", 1)}, "`alpha` must be a real number"),
    ],
)
def test_bad_input(error, options, message):
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.shake_drop(KEY, X, 0.5, **options)


def test_bad_rates():
    for function in (
        lambda rate: jaxdrop.shake_drop(KEY, X, rate),
        lambda rate: jaxdrop.shake_drop_mean(X, rate),
    ):
        with pytest.raises(ValueError, match=re.escape("`rate` must broadcast to shape (6, 1, 1)")):
            function(jnp.full((6, 3, 4), 0.5))
    with pytest.raises(ValueError, match=re.escape("`rate` must broadcast to shape (1, 1, 1)")):
        jaxdrop.shake_drop_mean(X, jnp.full((6, 1, 1), 0.5), mode="batch")


@gpu.needs_plugin
def test_a_gpu_stores_no_array_of_factors():
    """One pair of factors per element, forward and backward: all draws are made where they are used."""

    def both(key, x, cotangent):
        y, vjp = jax.vjp(lambda x: jaxdrop.shake_drop(key, x, 0.1, level="pixel"), x)
        return y, vjp(cotangent)[0]

    x = jnp.ones((64, 64, 128))
    assert gpu.compiled(both, KEY, x, x).temporary_bytes < 4096
