"""Confidence intervals: quantiles against SciPy, and coverage by simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxdrop import mc
from jaxdrop.mc import _estimates
from tests.mc.reducers.states import streamed

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RUNS = 2000


def covered(reducer: mc.Reducer, samples: jax.Array, name: str, truth: float) -> np.ndarray:
    """Whether each interval of 95 % covers the truth."""
    count = len(samples)
    found = mc.Estimate(*streamed(reducer, samples, [count]), count)
    lower, upper = jax.jit(lambda found: found.interval(0.95))(found)
    return np.asarray((lower[name] <= truth) & (truth <= upper[name]))


def standard_errors(hits: np.ndarray, level: float) -> float:
    return (hits.mean() - level) / np.sqrt(level * (1 - level) / len(hits))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 5, 10, 63])
def test_the_mean_of_normal_outputs_is_covered_exactly(count: int):
    samples = 3 + jax.random.normal(jax.random.key(count), (count, RUNS))
    off = standard_errors(covered(mc.Moments(), samples, "mean", 3.0), 0.95)
    # From 33 samples on the degrees of freedom are those of the groups, which is a little wider.
    assert -5 < off < 5 if count <= 32 else off > -5


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 5, 10, 63])
def test_a_rare_class_is_covered(count: int):
    """A class of 5 %, that most samples agree not to be; 1.96 standard errors would cover 10 to 80 %."""
    votes = jax.random.bernoulli(jax.random.key(count), 0.05, (count, RUNS))
    probs = jax.nn.one_hot(votes.astype(int), 2)
    hits = covered(mc.Categorical(from_logits=False), probs, "mean", 0.05)[:, 1]
    assert standard_errors(hits, 0.95) > -5


@pytest.mark.slow
def test_shares_of_sets_are_covered_by_narrower_intervals():
    """Four sets of 16 votes, of a rare class and of a frequent one; samples that agree; one set."""
    draws, chance = np.random.default_rng(0), np.array([0.02, 0.3])
    sets = (draws.random((60, 4, 16, 2)) < chance).mean(2)
    mean, error = np.float32(sets.mean(1)), np.float32(sets.std(1, ddof=1) / 2)
    of = mc.Estimate(
        {"mean": mean, "variation_ratio": mean}, {"mean": error, "variation_ratio": error}, jnp.int32(4)
    )
    ends = jax.jit(lambda found: found.interval(balanced=16))(of)
    lower, upper = (np.asarray(end["mean"]) for end in ends)
    low = np.nan_to_num(scipy.stats.beta.ppf(0.025, 4 * mean, 5 - 4 * mean))
    high = np.nan_to_num(scipy.stats.beta.ppf(0.975, 4 * mean + 1, 4 - 4 * mean), nan=1)
    assert (((lower <= chance) & (chance <= upper)).mean(0) > 0.95).all()
    assert (lower >= low - 1e-4).all() & (upper <= high + 1e-4).all()
    assert ((upper - lower).mean(0) < 0.7 * (high - low).mean(0)).all()
    share, far = jnp.array([0.0, 1.0, 0.5, 0.5]), jnp.array([0.0, 1e-9, 0.0, jnp.nan])
    votes = _estimates._effective_votes(share, far, jnp.float32(4), 16, jnp.float32(0.025))
    np.testing.assert_array_equal(votes, [64, 64, 64, 4])


@pytest.mark.slow
@pytest.mark.parametrize("count", [5, 10, 63])
def test_a_variance_is_covered_better(count: int):
    """The logarithm of a variance is less skewed; still it is not exact for few samples."""
    samples = jax.random.normal(jax.random.key(count), (count, RUNS))
    assert standard_errors(covered(mc.Moments(), samples, "variance", 1.0), 0.9) > -5


@pytest.mark.slow
def test_quantiles_against_scipy():
    level, freedom = np.meshgrid([0.5, 0.95, 0.999], [1, 2, 4, 9, 31])
    tail = (1 - level) / 2
    found = jax.jit(_estimates._student)(jnp.float32(freedom), jnp.float32(tail))
    np.testing.assert_allclose(found, scipy.stats.t.isf(tail, freedom), rtol=1e-4)
    cases = [(k, n, tail) for n in (1, 10, 63, 10_000) for k in {0, 1, n // 20, n} for tail in (0.25, 5e-4)]
    hits, count, tail = np.array(cases).T
    shares = jnp.float32(hits / count), jnp.float32(count), jnp.float32(tail)
    lower, upper = jax.jit(_estimates._clopper_pearson)(*shares)
    exact = [
        scipy.stats.beta.ppf(q, a, b)
        for q, a, b in ((tail, hits, count - hits + 1), (1 - tail, hits + 1, count - hits))
    ]
    np.testing.assert_allclose(lower, np.where(hits > 0, exact[0], 0), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(upper, np.where(hits < count, exact[1], 1), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_trees_and_data_sets_under_jit():
    shares = {"mean": jnp.full((3, 2), 0.5), "variation_ratio": jnp.zeros(3), "total_entropy": jnp.ones(3)}
    value = [shares, {"mean": (jnp.ones(3), jnp.ones((3, 4))), "variance": (jnp.ones(3), jnp.ones((3, 4)))}]
    error = jax.tree.map(lambda leaf: 0.1 * jnp.ones_like(leaf), value)
    found = mc.Estimate(value, error, jnp.array([1, 5, 100]))
    ends = jax.jit(lambda found: found.interval(0.9))(found)
    for end in ends:
        assert jax.tree.map(jnp.shape, end) == jax.tree.map(jnp.shape, value)
    upper = ends[1]
    expected = 1 + 0.1 * scipy.stats.t.isf(0.05, [4, 31])
    np.testing.assert_allclose(upper[1]["mean"][1][1:, 0], expected, rtol=1e-5)
    assert np.isnan(upper[1]["mean"][1][0]).all()  # of one sample nothing is known
    np.testing.assert_allclose(
        upper[0]["variation_ratio"], 1 - 0.05 ** (1 / np.array([1, 5, 100])), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"level": 1.0}, ValueError, r"`level` must lie in \(0, 1\), got 1\."),
        ({"level": jnp.ones(2) / 2}, ValueError, r"`level` must be a scalar, got shape \(2,\)\."),
        ({"groups": 1}, ValueError, "`groups` must be at least 2, got 1."),
        ({"groups": 2.5}, TypeError, "`groups` must be an integer, got 2.5."),
        ({"balanced": 7}, ValueError, "`balanced` must be one of 8, 16, .*, got 7."),
    ],
)
def test_bad_input(options: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        mc.Estimate({"mean": jnp.zeros(1)}, {"mean": jnp.ones(1)}, 4).interval(**options)
