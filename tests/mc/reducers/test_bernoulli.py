"""Statistics of binary labels against the definitions in float64, and those of two classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxdrop import mc, uncertainty
from tests.mc.reducers.states import streamed

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

LOGITS = (3 * np.random.default_rng(0).normal(size=(60, 5, 2))).astype(np.float32)
PROBABILITIES = scipy.special.expit(LOGITS.astype(np.float64))


@pytest.mark.slow
@pytest.mark.parametrize(("from_logits", "shape"), [(True, (5, 2)), (False, (10,))])
def test_float64(from_logits: bool, shape: tuple):
    given = jnp.asarray(LOGITS if from_logits else PROBABILITIES, jnp.float32).reshape(60, *shape)
    value, error = streamed(mc.Bernoulli(from_logits, log_mean=True), given, [32, 28])
    p = PROBABILITIES.reshape(60, *shape)
    mean = p.mean(0)
    total = scipy.stats.entropy([1 - mean, mean], axis=0)
    expected = scipy.stats.entropy([1 - p, p], axis=0).mean(0)
    ones = (p > 0.5).mean(0)
    np.testing.assert_allclose(value["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(value["total_entropy"], total, rtol=1e-5)
    np.testing.assert_allclose(value["expected_entropy"], expected, rtol=1e-5)
    np.testing.assert_allclose(value["mutual_information"], total - expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value["variation_ratio"], np.minimum(ones, 1 - ones), rtol=1e-5, atol=1e-6)
    logs = np.log(np.stack([1 - mean, mean], -1))
    np.testing.assert_allclose(value["log_mean"], logs, rtol=1e-4, atol=1e-6)
    assert jax.tree.map(jnp.shape, error) == jax.tree.map(jnp.shape, value)


@pytest.mark.slow
def test_a_label_is_a_pair_of_classes():
    """With the same standard errors; those of the mean are near the textbook's."""
    found = streamed(mc.Bernoulli(), jnp.asarray(LOGITS), [32, 28])
    pairs = jnp.stack([jnp.zeros(LOGITS.shape), jnp.asarray(LOGITS)], -1)
    expected = streamed(mc.Categorical(), pairs, [32, 28])
    for ours, theirs in zip(found, expected, strict=True):
        for name in ("total_entropy", "expected_entropy", "mutual_information", "variation_ratio"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(ours["mean"], theirs["mean"][..., 1], rtol=1e-4)
    textbook = PROBABILITIES.std(0, ddof=1) / 60**0.5
    np.testing.assert_allclose(found[1]["mean"], textbook, rtol=5 * (1 / 62) ** 0.5)


@pytest.mark.slow
def test_logits_of_200_are_calibrated():
    """The logs of the mean probabilities are logits of two classes for `uncertainty`."""
    logits = jnp.tile(jnp.array([200.0, -200.0, 200.0, -200.0]), (40, 1))
    value, error = streamed(mc.Bernoulli(log_mean=True), logits, [40])
    np.testing.assert_allclose(value["log_mean"][0], [-200, 0], rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(error["log_mean"], 0, atol=1e-4)
    fitted = uncertainty.fit_temperature(value["log_mean"], jnp.array([1, 0, 0, 0]))
    np.testing.assert_allclose(fitted(value["log_mean"])[:, 1], [0.75, 0.25, 0.75, 0.25], rtol=1e-4)


@pytest.mark.slow
def test_sure_labels():
    """Infinite logits, and probabilities of 0 and 1, are certain; one half counts as 0."""
    for given, reducer in (
        (jnp.array([jnp.inf, -jnp.inf]), mc.Bernoulli()),
        (jnp.array([1.0, 0.0]), mc.Bernoulli(False)),
    ):
        value, error = streamed(reducer, jnp.tile(given, (40, 1)), [40])
        np.testing.assert_array_equal(value["mean"], [1, 0])
        np.testing.assert_array_equal(value["total_entropy"], [0, 0])
        np.testing.assert_array_equal(error["mean"], [0, 0])
    half, _ = streamed(mc.Bernoulli(), jnp.array([[0.0], [0.0], [0.0], [1.0]]), [4])
    assert half["variation_ratio"] == 0.25


@pytest.mark.parametrize(
    ("outputs", "reducer", "message"),
    [
        (lambda x: x + 1, mc.Bernoulli(from_logits=False), r"must return probabilities, in \[0, 1\]"),
        (lambda x: {"logit": x}, mc.Bernoulli(), r"`Part` selects a part of a tree\), got a dict"),
        (lambda x: x, mc.Bernoulli(groups=-1), "`groups` must be at least 0, got -1."),
    ],
)
def test_bad_outputs(outputs, reducer, message):
    with pytest.raises(ValueError, match=message):
        mc.estimate(
            lambda key, x: outputs(x),
            jax.random.key(0),
            jnp.ones(3),
            num_samples=4,
            reducers=reducer,
            allow_deterministic=True,
        )
