"""Moments over the values of whole-example decisions, against all of those values by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc
from jaxdrop.mc._moments import conditions
from tests.normals import standard_normal

RATES = (0.25, 0.5, 0.75)
WEIGHTS = standard_normal(0, (3, 6, 6))
LAST = standard_normal(1, (6, 2))
X = standard_normal(2, (4, 6))


def branches(kept: list[float], x: np.ndarray) -> np.ndarray:
    """Residual branches, each kept or dropped for all of an example."""
    for keep, rate, w in zip(kept, RATES, WEIGHTS, strict=True):
        x = x + keep / (1 - rate) * np.sin(x @ np.asarray(w, np.float64))
    return x


@pytest.mark.slow
def test_given_decisions_the_rest_is_exact():
    """Three residual branches of stochastic depth, then dropout before the last layer."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        *keys, last = jax.random.split(key, 4)
        for one, rate, w in zip(keys, RATES, WEIGHTS, strict=True):
            x = x + jaxdrop.drop_path(one, jnp.sin(x @ w), rate)
        return jaxdrop.dropout(last, x, 0.25) @ LAST

    found = mc.moments(predict, X)
    x, v = np.asarray(X, np.float64), np.asarray(LAST, np.float64)
    cases = list(itertools.product((0, 1), repeat=3))
    weights = [np.prod(np.where(case, 1 - np.array(RATES), RATES)) for case in cases]
    hidden = [branches(list(case), x) for case in cases]
    means = np.stack([h @ v for h in hidden])
    within = np.stack([np.einsum("bi,ik,il->bkl", h**2 / 3, v, v) for h in hidden])
    mean = np.tensordot(weights, means, 1)
    between = np.einsum("m,mbk,mbl->bkl", weights, means - mean, means - mean)
    assert found.rules == ()
    np.testing.assert_allclose(found.mean, mean, atol=1e-5)
    np.testing.assert_allclose(
        found.covariance, np.tensordot(weights, within, 1) + between, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(sum(found.shares.values()), found.variance, rtol=1e-5)
    # The share of a decision is the variance of the mean given its value.
    by_first = np.stack(
        [
            np.tensordot(np.divide(w, sum(w)), m, 1)
            for w, m in ((weights[:4], means[:4]), (weights[4:], means[4:]))
        ]
    )
    first = next(share for name, share in found.shares.items() if name.startswith("bernoulli"))
    np.testing.assert_allclose(first, 0.25 * 0.75 * (by_first[1] - by_first[0]) ** 2, rtol=1e-4, atol=1e-5)


def test_decisions_alone_are_exact():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.exp(jaxdrop.drop_path(key, x, 0.25))

    found = jax.jit(mc.moments, static_argnums=0)(predict, X)
    x = np.asarray(X, np.float64)
    mean = 0.25 + 0.75 * np.exp(x / 0.75)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(
        found.variance, 0.25 * 0.75 * (np.exp(x / 0.75) - 1) ** 2, rtol=1e-4, atol=1e-6
    )
    assert found.rules == ()


@pytest.mark.slow
def test_pairs_of_many_decisions():
    """A square of a sum has joint effects of pairs alone, so that these are all."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 8)
        total = sum(jaxdrop.drop_path(one, x * (i + 1), 0.1) for i, one in enumerate(keys))
        return total**2

    found = mc.moments(predict, X[:, :3])
    assert found.rules == ("decisions: joint effects of three or more left out",)
    assert conditions.rule(conditions.subsets(5), 5) is conditions.rule([], 0) is None
    assert len(conditions.subsets(8)) == 37
    assert conditions.subsets(0) == []
    cases = np.array(list(itertools.product((0, 1), repeat=8)))
    weights = np.prod(np.where(cases, 0.9, 0.1), 1)
    values = (cases @ np.arange(1, 9) / 0.9) ** 2
    mean = weights @ values
    x = np.asarray(X[:, :3], np.float64) ** 2
    np.testing.assert_allclose(found.mean, mean * x, rtol=1e-4)
    np.testing.assert_allclose(found.variance, (weights @ (values - mean) ** 2) * x**2, rtol=1e-3)


def test_more_decisions_are_refused():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        return sum(jaxdrop.drop_path(one, x, 0.1) for one in jax.random.split(key, 9))

    with pytest.raises(ValueError, match=r"must make at most 8 decisions for whole examples, .*, got 9"):
        mc.moments(predict, X)
