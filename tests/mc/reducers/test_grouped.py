"""Standard errors from groups: against closed forms, and for few samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from tests.mc.reducers.states import streamed


class Mean(mc.Grouped):
    """The mean alone, whose error is known."""

    groups = 32

    def summary(self, samples, weights, targets):
        return {
            "n": weights.sum(),
            "mean": jnp.tensordot(weights, samples, 1) / jnp.maximum(weights.sum(), 1),
        }

    def join(self, a, b):
        n = a["n"] + b["n"]
        return {"n": n, "mean": (a["n"] * a["mean"] + b["n"] * b["mean"]) / n}

    def values(self, state):
        return {"mean": state["mean"]}


def test_the_jackknife_of_single_samples_is_the_textbook_one():
    """With as many groups as samples, the error of a mean is the deviation over the square root of n."""
    samples = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32)
    _, error = streamed(Mean(), jnp.asarray(samples), [32])
    np.testing.assert_allclose(error["mean"], samples.std(0, ddof=1) / 32**0.5, rtol=1e-4)


@pytest.mark.parametrize("count", [5, 33, 1000])
def test_groups_of_different_sizes(count: int):
    """Within five standard errors of the error, one part in the square root of twice the groups."""
    samples = np.random.default_rng(1).normal(size=(count, 400)).astype(np.float32)
    _, error = streamed(Mean(), jnp.asarray(samples), [count])
    groups = min(count, 32)
    ratio = np.mean(np.square(error["mean"])) * count
    assert abs(ratio - 1) < 5 * (2 / (groups - 1) / 400) ** 0.5


def test_what_does_not_count_makes_no_difference():
    samples = jnp.asarray(np.random.default_rng(2).normal(size=(8, 3)), jnp.float32)
    padded = jnp.concatenate([samples, jnp.full((4, 3), jnp.nan)])
    index = jnp.where(jnp.arange(12) < 8, jnp.arange(12), -1)
    reducer = mc.Moments()
    value, error = reducer.finish(reducer.summarize(padded, index, None))
    expected = streamed(reducer, samples, [8])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), (value, error), expected
    )


def test_no_groups_no_errors():
    samples = jnp.asarray(np.random.default_rng(3).normal(size=(10, 3)), jnp.float32)
    value, error = streamed(mc.Moments(groups=0), samples, [4, 6])
    np.testing.assert_allclose(value["mean"], samples.mean(0), rtol=1e-5, atol=1e-6)
    assert np.isnan(error["variance"]).all()


def test_a_reducer_of_ones_own_needs_no_word_of_errors():
    class Largest(mc.Grouped):
        groups = 4

        def summary(self, samples, weights, targets):
            seen = jnp.where(weights[:, None] > 0, samples, -jnp.inf)
            return {"n": weights.sum(), "largest": seen.max(0)}

        def join(self, a, b):
            return {"n": a["n"] + b["n"], "largest": jnp.maximum(a["largest"], b["largest"])}

        def values(self, state):
            return {"largest": state["largest"]}

    samples = -jnp.abs(jnp.asarray(np.random.default_rng(4).normal(size=(20, 3)), jnp.float32))
    value, error = streamed(Largest(), samples, [7, 13])
    np.testing.assert_array_equal(value["largest"], samples.max(0))
    assert (error["largest"] > 0).all()
