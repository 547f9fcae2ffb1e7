"""Losses against float64 NumPy, by hand, and in half precision."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxdrop import losses
from jaxdrop.drops.dropout import dropout
from tests.normals import standard_normal

KEY = jax.random.key(2)
H = standard_normal(3, (4, 6, 5))


def test_activation_regularization():
    expected = 2.0 * (np.asarray(H, np.float64) ** 2).mean()
    np.testing.assert_allclose(losses.activation_regularization(H, 2.0), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(losses.activation_regularization)(H, 2.0), expected, rtol=1e-6)
    grad = jax.grad(losses.activation_regularization)(H, 2.0)
    np.testing.assert_allclose(grad, 4 * np.asarray(H) / H.size, rtol=1e-5)


@pytest.mark.parametrize("time_axis", [0, 1, -1])
def test_temporal_activation_regularization(time_axis):
    expected = 0.5 * (np.diff(np.asarray(H, np.float64), axis=time_axis) ** 2).mean()
    result = losses.temporal_activation_regularization(H, 0.5, time_axis=time_axis)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_a_sequence_that_does_not_change_costs_nothing():
    assert losses.temporal_activation_regularization(jnp.ones((2, 3, 4)), 1.0) == 0
    with pytest.raises(ValueError, match=re.escape("`h` must have at least 2 steps along axis 1, got")):
        losses.temporal_activation_regularization(jnp.ones((2, 1, 4)), 1.0)


@pytest.mark.parametrize(
    "penalty", [losses.activation_regularization, losses.temporal_activation_regularization]
)
def test_half_precision_is_summed_in_single(penalty):
    """A mean of squares above float16's largest number, of inputs below its root."""
    signs = jnp.where(jnp.arange(4000) % 2 == 0, 1.0, -1.0)[None, :, None]
    h = (300 * signs).astype(jnp.float16)
    result = penalty(h, 1.0)
    assert result.dtype == jnp.float32
    expected = 90_000 if penalty is losses.activation_regularization else 360_000
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_a_bad_strength(strength):
    message = re.escape(f"`strength` must be finite and at least 0, got {strength:g}.")
    for penalty in (losses.activation_regularization, losses.temporal_activation_regularization):
        with pytest.raises(ValueError, match=message):
            penalty(H, strength)


def test_integer_activations():
    with pytest.raises(TypeError, match=re.escape("`h` must be a floating-point array, got int32.")):
        losses.activation_regularization(jnp.ones(3, int), 1.0)


def symmetric_divergence(logits, other):
    p, q = (special.softmax(np.asarray(a, np.float64), axis=-1) for a in (logits, other))
    return 0.5 * (special.rel_entr(p, q).sum(-1) + special.rel_entr(q, p).sum(-1))


def test_r_drop():
    logits, other = H, 2 * jax.random.normal(KEY, H.shape)
    result = losses.r_drop(logits, other)
    np.testing.assert_allclose(result, symmetric_divergence(logits, other), rtol=1e-5)
    np.testing.assert_array_equal(losses.r_drop(other, logits), result)
    np.testing.assert_array_equal(losses.r_drop(logits, logits), jnp.zeros((4, 6)))
    np.testing.assert_allclose(losses.r_drop(logits + 7, other - 3), result, rtol=1e-4)


def test_r_drop_by_hand():
    """Of (1/2, 1/2) and (1/4, 3/4): half of (1/4) log 2 + (1/4) log 1.5 together, log(3) / 8."""
    result = losses.r_drop(jnp.zeros((1, 2)), jnp.log(jnp.array([[1.0, 3.0]])))
    np.testing.assert_allclose(result, [np.log(3) / 8], rtol=1e-6)


def test_r_drop_of_sure_and_absent_classes():
    """Logits far apart, and classes that are masked in both, have finite values and gradients."""
    far = jnp.array([[1000.0, -1000.0, 0.0]]), jnp.array([[-1000.0, 1000.0, 0.0]])
    np.testing.assert_allclose(losses.r_drop(*far), [2000.0])
    masked = jnp.array([[1.0, 2.0, -jnp.inf]]), jnp.array([[2.0, 1.0, -jnp.inf]])
    expected = losses.r_drop(masked[0][:, :2], masked[1][:, :2])
    np.testing.assert_allclose(losses.r_drop(*masked), expected, rtol=1e-6)
    for logits, other in (far, masked):
        grads = jax.grad(lambda a, b: losses.r_drop(a, b).sum(), (0, 1))(logits, other)
        assert np.isfinite(grads).all()
    assert losses.r_drop(jnp.zeros((1, 2)), jnp.array([[0.0, -jnp.inf]]))[0] == jnp.inf


def test_r_drop_of_half_precision():
    logits, other = (a.astype(jnp.bfloat16) for a in (H, 2 * H))
    result = losses.r_drop(logits, other)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, symmetric_divergence(logits, other), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_r_drop_of_two_draws_trains_towards_agreement():
    """Its gradient lowers it."""
    weights = standard_normal(KEY, (5, 3))

    def disagreement(weights):
        one, other = (dropout(key, H[0], 0.5) @ weights for key in jax.random.split(KEY))
        return losses.r_drop(one, other).mean()

    value, grad = jax.value_and_grad(disagreement)(weights)
    assert 0 < disagreement(weights - 0.1 * grad) < value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (jnp.ones((2, 3)), jnp.ones((2, 4))),
            "`other` must have the shape of `logits`, (2, 3), got (2, 4).",
        ),
        ((jnp.ones(()), jnp.ones(())), "`logits` must be of shape [..., K], got ()."),
    ],
)
def test_logits_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        losses.r_drop(*arguments)


def test_multi_sample_is_the_mean_of_a_loop():
    def loss_fn(key):
        y = dropout(key, H, 0.5)
        return {"loss": jnp.mean(y**2), "each": y.sum((1, 2)), "kept": jnp.sum(y != 0)}

    result = losses.multi_sample(KEY, loss_fn, 8)
    looped = [loss_fn(key) for key in jax.random.split(KEY, 8)]
    for name in ("loss", "each", "kept"):
        expected = np.mean([np.asarray(draw[name], np.float64) for draw in looped], axis=0)
        np.testing.assert_allclose(result[name], expected, rtol=1e-5)
        assert result[name].dtype == jnp.float32
    jitted = jax.jit(lambda key: losses.multi_sample(key, loss_fn, 8))(KEY)
    np.testing.assert_allclose(jitted["loss"], result["loss"], rtol=1e-5)


def test_multi_sample_computes_what_is_shared_once():
    calls = []

    def loss_fn(key):
        calls.append(key)
        return jnp.mean(dropout(key, H, 0.5))

    with jax.debug_key_reuse(True):
        jax.grad(lambda scale: scale * losses.multi_sample(jax.random.key(1), loss_fn, 16))(1.0)
    assert len(calls) == 1


def test_multi_sample_has_less_variance():
    """The variance over keys falls as one over the number of samples."""
    keys = jax.random.split(KEY, 2000)

    def spread(samples):
        draw = lambda key: dropout(key, jnp.ones(()), 0.5)  # noqa: E731
        return float(jax.jit(jax.vmap(lambda key: losses.multi_sample(key, draw, samples)))(keys).var())

    # The variance of a variance of 2000 draws is below 3 % of its square root.
    np.testing.assert_allclose(spread(4), 1 / 4, rtol=5 * np.sqrt(2 / 2000))


def test_multi_sample_of_half_precision():
    result = losses.multi_sample(KEY, lambda key: dropout(key, jnp.ones((), jnp.bfloat16), 0.5), 7)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result * 7 / 2, np.round(result * 7 / 2), atol=1e-5)


@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (0, ValueError, "`num_samples` must be at least 1, got 0."),
        (2.0, TypeError, "`num_samples` must be an integer, got 2.0."),
    ],
)
def test_a_bad_number_of_samples(count, error, message):
    with pytest.raises(error, match=re.escape(message)):
        losses.multi_sample(KEY, lambda key: jnp.zeros(()), count)


def test_expectation_linear():
    stochastic, deterministic = H, jax.random.normal(KEY, H.shape)
    expected = ((np.asarray(H, np.float64) - np.asarray(deterministic)) ** 2).sum((1, 2)).mean()
    np.testing.assert_allclose(losses.expectation_linear(stochastic, deterministic), expected, rtol=1e-6)
    np.testing.assert_allclose(losses.expectation_linear(jnp.ones(4), jnp.zeros(4)), 1.0)
    half = losses.expectation_linear(jnp.full((1, 1000), 300, jnp.float16), jnp.zeros((1, 1000), jnp.float16))
    np.testing.assert_allclose(half, 90_000_000, rtol=1e-5)


def test_expectation_linear_of_one_draw_is_gap_and_variance():
    """A linear layer has no gap: what is left is the variance, sum(x**2 * p / (1 - p))."""
    x = jnp.arange(1.0, 5.0)[None]
    value = jax.vmap(lambda key: losses.expectation_linear(dropout(key, x, 0.5), x))
    values = np.asarray(value(jax.random.split(KEY, 4000)))
    assert abs(values.mean() - 30) <= 5 * values.std() / np.sqrt(4000)
    draws = jax.vmap(lambda key: dropout(key, x, 0.5))(jax.random.split(KEY, 4000))
    assert losses.expectation_linear(draws.mean(0), x) < 0.1


def test_outputs_that_do_not_fit():
    message = "`deterministic` must have the shape of `stochastic`, (2, 3), got (3,)."
    with pytest.raises(ValueError, match=re.escape(message)):
        losses.expectation_linear(jnp.ones((2, 3)), jnp.ones(3))
    with pytest.raises(ValueError, match=re.escape("`stochastic` must be of shape [B, ...], got ().")):
        losses.expectation_linear(jnp.ones(()), jnp.ones(()))


def test_no_elements_cost_nothing():
    empty = jnp.ones((0, 2, 3))
    assert losses.activation_regularization(empty, 2.0) == 0
    assert losses.temporal_activation_regularization(empty, 2.0) == 0
    assert losses.expectation_linear(empty, empty) == 0
    assert not jax.grad(lambda h: losses.activation_regularization(h, 2.0))(empty).size


def test_multi_sample_takes_one_key():
    with pytest.raises(TypeError, match="`key` must be a PRNG key"):
        losses.multi_sample(3, lambda key: jnp.zeros(()), 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`key` must be one PRNG key"):
        losses.multi_sample(jax.random.split(KEY), lambda key: jnp.zeros(()), 2)


def squared(key, x, y):
    """A loss that depends on its key, its inputs and its labels."""
    return jnp.mean((dropout(key, x, 0.5).sum((1, 2)) - y[:, 0]) ** 2)


def test_reg_mixup_is_the_sum_of_a_clean_and_a_mixed_loss():
    x, y = H, jnp.eye(4)
    seen = []

    def loss_fn(key, x, y):
        seen.append((key, x, y))
        return squared(key, x, y)

    with jax.debug_key_reuse(True):
        found = losses.reg_mixup(jax.random.key(2), loss_fn, x, y, 10.0, strength=0.5)
    (one, clean_x, clean_y), (other, mixed_x, mixed_y) = seen
    np.testing.assert_array_equal(clean_x, x)
    np.testing.assert_array_equal(clean_y, y)
    assert (mixed_y.max(1) < 0.95).any()
    np.testing.assert_allclose(mixed_x, jnp.einsum("ij,jkl->ikl", mixed_y, x), rtol=1e-5, atol=1e-6)
    assert not np.array_equal(jax.random.key_data(one), jax.random.key_data(other))
    again = [squared(jax.random.clone(key), *batch) for key, *batch in seen]
    np.testing.assert_allclose(found, again[0] + 0.5 * again[1], rtol=1e-6)
    alone = losses.reg_mixup(KEY, lambda _, x, y: jnp.mean(x * y[:, :1, None], (1, 2)), x, y, 0.0)
    np.testing.assert_allclose(alone, 2 * jnp.mean(x * y[:, :1, None], (1, 2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("error", "changed", "message"),
    [
        (ValueError, {"strength": -1.0}, "`strength` must be finite and at least 0, got -1."),
        (ValueError, {"alpha": -1.0}, "`alpha` must be finite and at least 0, got -1."),
        (TypeError, {"y": jnp.arange(4)}, "`y` must be a floating-point array, such as `jax.nn.one_hot"),
        (
            TypeError,
            {"loss_fn": lambda *_: 1},
            "`loss_fn(key, x, y)` must be a floating-point array, got int",
        ),
        (TypeError, {"key": 3}, "`key` must be a PRNG key"),
    ],
)
def test_reg_mixup_of_wrong_arguments(error, changed, message):
    given = {"key": KEY, "loss_fn": squared, "x": H, "y": jnp.eye(4), "alpha": 1.0} | changed
    with pytest.raises(error, match=re.escape(message)):
        losses.reg_mixup(**given)
