"""Standard errors between clusters, by hand, and the number of samples that intervals count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
X = jnp.zeros((2, 3))
OFF = standard_normal(1, (4, 2, 3))


def two_levels(row: jax.Array, key: jax.Array, t: jax.Array, x: jax.Array) -> jax.Array:
    return row + 0.1 * jax.random.normal(jax.random.fold_in(key, t), x.shape)


PREDICT = mc.Indexed(two_levels, OFF, clusters=4)


@pytest.mark.slow
def test_every_estimate_has_the_jackknife_of_whole_clusters():
    samples = np.asarray(mc.sample(PREDICT, KEY, X, num_samples=40), np.float64)
    reducers = {"moments": mc.Clustered(mc.Moments(), 4), "classes": mc.Clustered(mc.Categorical(), 4)}
    found = mc.estimate(PREDICT, KEY, X, num_samples=40, reducers=reducers, chunk_size=7)
    probs = np.exp(samples) / np.exp(samples).sum(-1, keepdims=True)

    def entropy(probs: np.ndarray) -> np.ndarray:
        return -(probs * np.log(probs)).sum(-1)

    for estimate, statistic in (
        (("moments", "mean"), lambda kept: samples[kept].mean(0)),
        (("moments", "variance"), lambda kept: samples[kept].var(0, ddof=1)),
        (("classes", "total_entropy"), lambda kept: entropy(probs[kept].mean(0))),
    ):
        name, key = estimate
        without = np.stack([statistic(np.arange(40) % 4 != cluster) for cluster in range(4)])
        expected = np.sqrt(3 / 4 * ((without - without.mean(0)) ** 2).sum(0))
        np.testing.assert_allclose(found.value[name][key], statistic(np.arange(40)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.standard_error[name][key], expected, rtol=2e-3, atol=1e-5)
    # Intervals and stopping rules count clusters.
    assert int(found.num_samples) == 4
    few = mc.estimate(PREDICT, KEY, X, num_samples=3, reducers=reducers["moments"])
    assert int(few.num_samples) == 3
    until = mc.Until(100.0, 48, every=8)
    assert int(mc.accumulate(PREDICT, KEY, X, num_samples=until, reducers=reducers["moments"]).count) == 48


@pytest.mark.parametrize(
    ("reducer", "message"),
    [
        (mc.Moments(), "must be `Clustered` in 4 clusters, .* got Moments without any"),
        (mc.Quantiles(), "must be `Clustered` in 4 clusters, .* got Quantiles without any"),
        (mc.Clustered(mc.Moments(), 3), "must be `Clustered` in 4 clusters, .* got 3"),
        (mc.Clustered(mc.Moments(), 1), "`clusters` must be at least 2, got 1"),
        (mc.Clustered(mc.Quantiles(), 4), "`reducer` must be one of `jaxdrop.mc` that has `groups`"),
    ],
)
def test_wrong_clusters(reducer, message: str):
    with pytest.raises((TypeError, ValueError), match=message):
        mc.estimate(PREDICT, KEY, X, num_samples=8, reducers=reducer)


def test_independent_samples_and_parts():
    plain = mc.Indexed(lambda row, key, t, x: (row, row), OFF)
    part = mc.Part(0, mc.Clustered(mc.Moments(), 4))
    with pytest.raises(
        ValueError, match=r"`reducers` must not be `Clustered` for independent samples, got 4 clusters"
    ):
        mc.estimate(plain, KEY, X, num_samples=4, reducers=part)
    both = mc.Indexed(lambda *args: (two_levels(*args), args[0]), OFF, clusters=4)
    found = mc.estimate(both, KEY, X, num_samples=8, reducers=part)
    assert int(found.num_samples) == 4
