"""Stopping rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from tests.mc import nets

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
PREDICT, X = nets.bound(), nets.inputs()


def run(rule: mc.Until, **options) -> mc.Estimate:
    return mc.estimate(PREDICT, KEY, X, num_samples=rule, reducers=mc.Moments(), **options)


def of_the_mean(error: dict) -> jax.Array:
    return error["mean"]


@pytest.mark.slow
def test_it_stops_when_every_example_is_sure():
    rule = mc.Until(0.05, 10_000, of=of_the_mean)
    found = run(rule)
    count = int(found.num_samples)
    assert 64 < count < 10_000
    assert count % 64 == 0
    assert found.standard_error["mean"].max() <= 0.05
    # The error was still too large at the check before.
    before = mc.estimate(PREDICT, KEY, X, num_samples=count - 64, reducers=mc.Moments())
    looks = [64]
    while looks[-1] < count:
        looks.append(looks[-1] + max(64, looks[-1] // 4 // 64 * 64))
    assert count in looks
    before = mc.estimate(PREDICT, KEY, X, num_samples=looks[-2], reducers=mc.Moments())
    assert before.standard_error["mean"].max() > 0.05


@pytest.mark.slow
def test_the_size_of_the_chunks_makes_no_difference():
    rule = mc.Until(0.05, 10_000, of=of_the_mean)
    one, other = run(rule), run(rule, chunk_size=7)
    assert int(one.num_samples) == int(other.num_samples)
    np.testing.assert_allclose(one.value["mean"], other.value["mean"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_it_stops_in_any_case():
    assert int(run(mc.Until(1e-9, 100)).num_samples) == 100


@pytest.mark.slow
def test_another_strictness_is_the_same_program():
    counts = [int(run(mc.Until(level, 5000, of=of_the_mean)).num_samples) for level in (0.2, 0.1, 0.05)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (mc.Until(0.0, 100), "`standard_error` must be above 0, got 0."),
        (mc.Until(-1.0, 100), "`standard_error` must be above 0, got -1."),
        (mc.Until(0.1, 0), "`max_samples` must be at least 1, got 0."),
        (mc.Until(0.1, 10, every=0), "`every` must be at least 1, got 0."),
        (mc.Until(0.1, 10, min_samples=0), "`min_samples` must be at least 1, got 0."),
    ],
)
def test_bad_rules(rule: mc.Until, message: str):
    with pytest.raises(ValueError, match=message):
        run(rule)


@pytest.mark.slow
def test_few_samples_are_not_sure():
    """Their standard error is no more known than the value."""
    found = run(mc.Until(10.0, 100, every=2))
    assert 32 <= int(found.num_samples) < 40
    assert int(run(mc.Until(10.0, 100, every=2, min_samples=6)).num_samples) == 6
    assert int(run(mc.Until(10.0, 20, every=2)).num_samples) == 20


def test_samples_that_agree_are_not_certain():
    """No sample shows a class of a share below 1 / T."""

    def predict(key, x):
        return jnp.where(jax.random.uniform(key, x.shape) < 1e-9, -50.0, 50.0) * jnp.array([[1.0, -1.0]])

    options = {"reducers": mc.Categorical(), "num_samples": mc.Until(0.01, 1000, every=4)}
    found = mc.estimate(predict, KEY, jnp.ones((3, 2)), **options)
    np.testing.assert_array_equal(found.standard_error["mean"], 0)
    assert 100 <= int(found.num_samples) < 200
