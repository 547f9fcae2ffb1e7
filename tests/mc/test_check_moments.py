"""The measured error of moments, and how often its intervals cover the true one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc
from tests.mc import nets


class Found(NamedTuple):
    mean: jax.Array
    variance: jax.Array


class Moments(NamedTuple):
    mean: jax.Array
    covariance: jax.Array


X = nets.inputs(16)
HIDDEN, LAST = nets.bound().args[0]
PREDICT = nets.bound()
EXACT = mc.last_layer(jax.nn.relu(X @ HIDDEN), LAST, rate=0.5)
VARIANCE = jnp.diagonal(EXACT.covariance, axis1=1, axis2=2)
# Means off by 0.3 standard deviations, and standard deviations that are a fifth too large.
OFF = Moments(EXACT.mean + 0.3 * jnp.sqrt(VARIANCE), 1.44 * EXACT.covariance)
KEYS = jax.random.split(jax.random.key(0), 200)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_intervals_cover_the_true_error(shared: bool):
    """Of 200 repeats, also where one mask serves all examples; for right moments and for wrong ones."""
    options = {"num_samples": 32, "chunk_size": 32, "shared": shared}

    def run(key: jax.Array) -> tuple[mc.MomentsCheck, mc.MomentsCheck]:
        return tuple(
            mc.check_moments(found, PREDICT, key, X, **options) for found in (Moments(*EXACT), OFF)
        )  # the same samples

    checks = jax.jit(lambda keys: jax.lax.map(run, keys, batch_size=50))(KEYS)
    for check, bias, ratio in zip(checks, (0.0, 0.09 / 1.44), (0.0, np.log(1.2)), strict=True):
        for value, error, true in ((*check[:2], bias), (*check[2:], ratio)):
            assert 0.93 <= np.mean(np.abs(value - true) <= 2 * error) <= 1
            # The estimates are not biased, and the errors are of the right size.
            deviation = np.std(value)
            assert np.abs(np.mean(value) - true) < 5 * deviation / len(KEYS) ** 0.5 + 0.1 * deviation
            assert 0.8 < np.mean(error) / deviation < 1.6


def test_the_line():
    check = mc.MomentsCheck(*map(jnp.float32, (0.04, 0.01, -0.05, 0.01)))
    assert str(check) == "mean off by 0.200 sd (0.141 to 0.245), sd by -4.9 % (-6.8 to -3.0)"
    none = mc.MomentsCheck(*map(jnp.float32, (-0.01, 0.01, 0.0, 0.01)))
    assert (float(none.bias), float(none.bias_range()[0])) == (0, 0)


@pytest.mark.slow
def test_variances_alone_and_constant_outputs_which_do_not_count():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        y = PREDICT(key, x)
        return jnp.concatenate([y, jnp.ones_like(y[:, :1])], 1)

    mean = jnp.concatenate([OFF.mean, jnp.ones((len(X), 1))], 1)
    variance = jnp.concatenate([1.44 * VARIANCE, jnp.zeros((len(X), 1))], 1)
    found = mc.check_moments(Found(mean, variance), predict, KEYS[0], X)
    expected = mc.check_moments(OFF, PREDICT, KEYS[0], X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), found, expected)
    one = Found(OFF.mean[:, 0], VARIANCE[:, 0])  # one output per example
    jax.eval_shape(lambda key: mc.check_moments(one, lambda key, x: PREDICT(key, x)[:, 0], key, X), KEYS[0])
    with pytest.raises(ValueError, match="`found` must have variances above 0 where the samples vary, got 0"):
        mc.check_moments(Found(mean, variance.at[0, 0].set(0)), predict, KEYS[0], X)


@pytest.mark.parametrize(
    ("found", "kind", "message"),
    [
        (
            mc.Moments(),
            TypeError,
            "`found` must have fields `mean` and `variance` or `covariance`, got Moments",
        ),
        ((1, 2), TypeError, "`found` must have fields `mean` and `variance` or `covariance`, got tuple"),
        (
            Found(EXACT.mean, -VARIANCE),
            ValueError,
            "`found.variance` must have variances of at least 0, got -",
        ),
        (
            Moments(EXACT.mean, VARIANCE),
            ValueError,
            r"covariance \[B, K, K\], got \(16, 3\) and `found.covariance` \(16, 3\)",
        ),
        (
            Found(EXACT.mean[:, :2], VARIANCE[:, :2]),
            ValueError,
            r"`predict` must return the shape of `found.mean`",
        ),
    ],
)
def test_what_is_refused(found: tuple, kind: type, message: str):
    with pytest.raises(kind, match=message):
        mc.check_moments(found, PREDICT, KEYS[0], X)


def test_too_few_samples_and_moments_that_are_not_finite():
    with pytest.raises(ValueError, match="`num_samples` must be at least 8, got 7"):
        mc.check_moments(OFF, PREDICT, KEYS[0], X, num_samples=7)
    with pytest.raises(ValueError, match="`samples` must be finite"):
        mc.check_moments(OFF, lambda key, x: jnp.log(jaxdrop.dropout(key, x[:, :3], 0.5)), KEYS[0], abs(X))


def test_a_predictor_that_ignores_its_key_is_refused_without_an_option_that_is_not_there():
    with pytest.raises(ValueError, match=r"outputs that depend on its key, .*nnx\.stochastic`\.$"):
        mc.check_moments(OFF, lambda key, x: x[:, :3], KEYS[0], X)
