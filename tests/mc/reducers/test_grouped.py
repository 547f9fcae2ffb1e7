"""Standard errors from groups: against closed forms, and for few samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from tests.mc.reducers.states import streamed

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_no_groups_no_errors():
    samples = jnp.asarray(np.random.default_rng(3).normal(size=(10, 3)), jnp.float32)
    value, error = streamed(mc.Moments(groups=0), samples, [4, 6])
    np.testing.assert_allclose(value["mean"], samples.mean(0), rtol=1e-5, atol=1e-6)
    assert np.isnan(error["variance"]).all()


@pytest.mark.slow
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


RNG = np.random.default_rng(5)
LOGITS = jnp.asarray(3 * RNG.normal(size=(100, 2, 3)), jnp.float32)
# The density of one group is far above all others, and theirs is spread as well.
PEAKED = LOGITS - 300.0 * jnp.asarray(RNG.random((100, 2, 3)), jnp.float32)
POOLED = {
    "moments": (mc.Moments(), LOGITS, None),
    "covariance": (mc.Moments(covariance=True), LOGITS, None),
    "far from zero": (mc.Moments(), LOGITS + 1000, None),
    "classes": (mc.Categorical(log_mean=True), PEAKED, None),
    "density": (mc.CategoricalLogDensity(ignore=255), PEAKED, jnp.array([2, 255])),
    "no density": (mc.CategoricalLogDensity(), LOGITS.at[:, 0, 0].set(-jnp.inf), jnp.array([0, 1])),
}


@pytest.mark.parametrize("count", [5, 100])
@pytest.mark.parametrize("name", POOLED)
def test_pooled_groups_are_joined_ones(name: str, count: int):
    """All groups, and all but each: at once, as by `join`, and of the samples themselves."""
    reducer, samples, targets = POOLED[name]
    state = reducer.summarize(samples[:count], jnp.arange(count), targets)
    found, joined = jax.jit(lambda s: (reducer._pool(s), mc.Grouped._pool(reducer, s)))(state)
    group = jnp.arange(count) % reducer.groups
    used = np.arange(1 + min(count, reducer.groups))
    weights = jnp.stack([group != g - 1 for g in used]).astype(jnp.float32)
    direct = jax.jit(jax.vmap(lambda w: reducer.summary(samples[:count], w, targets)))(weights)
    for others in (jax.tree.map(lambda leaf: leaf[used], joined), direct):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[used], b, rtol=3e-5, atol=2e-5), found, others)


def test_any_number_of_groups_is_joined():
    for groups in (1, 2, 5):
        samples = np.random.default_rng(6).normal(size=(40, 3)).astype(np.float32)
        reducer = Mean()
        reducer.groups = groups
        pooled = jax.jit(reducer._pool)(reducer.summarize(jnp.asarray(samples), jnp.arange(40), None))
        rows = [samples] + [samples[np.arange(40) % groups != g] for g in range(groups)]
        np.testing.assert_array_equal(pooled["n"], [len(part) for part in rows])
        expected = [part.mean(0) if len(part) else np.zeros(3) for part in rows]
        np.testing.assert_allclose(pooled["mean"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunks", [[40], [7, 13, 20]])
def test_a_sample_belongs_to_the_group_of_its_number(chunks: list[int]):
    """However the samples are divided: the state of each group is that of its samples."""
    samples = np.random.default_rng(7).normal(size=(40, 3)).astype(np.float32)
    reducer, start, state = Mean(), 0, None
    for size in chunks:
        part = jnp.asarray(samples[start : start + size])
        own = reducer.summarize(part, jnp.arange(start, start + size), None)
        state = own if state is None else reducer.merge(state, own)
        start += size
    expected = [samples[np.arange(40) % 32 == g] for g in range(32)]
    np.testing.assert_array_equal(state["n"], [len(part) for part in expected])
    np.testing.assert_allclose(state["mean"], [part.mean(0) for part in expected], rtol=1e-5, atol=1e-6)
