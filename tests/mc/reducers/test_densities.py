"""Log predictive densities against the definitions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxdrop import mc
from tests.mc.reducers.states import streamed
from tests.normals import standard_normal

RNG = np.random.default_rng(0)


@pytest.mark.slow
def test_categorical():
    logits, labels = (3 * RNG.normal(size=(50, 6, 4))).astype(np.float32), np.arange(6) % 4
    value, _ = streamed(mc.CategoricalLogDensity(), jnp.asarray(logits), [32, 18], jnp.asarray(labels))
    p = scipy.special.softmax(logits.astype(np.float64), -1)[:, np.arange(6), labels]
    np.testing.assert_allclose(value["log_density"], np.log(p.mean(0)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(6,), (6, 2)])
def test_gal(shape: tuple):
    """`logsumexp_t(-tau/2 (y - y_t)**2) - log T - 1/2 log(2 pi) + 1/2 log tau`, of the outputs together."""
    samples, y = RNG.normal(size=(50, *shape)).astype(np.float32), RNG.normal(size=shape).astype(np.float32)
    value, _ = streamed(mc.GaussianLogDensity(2.5), jnp.asarray(samples), [32, 18], jnp.asarray(y))
    logs = scipy.stats.norm.logpdf(y, samples.astype(np.float64), 2.5**-0.5).reshape(50, 6, -1).sum(-1)
    expected = scipy.special.logsumexp(logs, 0) - np.log(50)
    np.testing.assert_allclose(value["log_density"], expected, rtol=1e-4, atol=1e-5)


def test_predicted_variance():
    mean, variance = RNG.normal(size=(50, 6)), RNG.uniform(0.5, 2, size=(50, 6))
    y = RNG.normal(size=6)
    outputs = tuple(jnp.asarray(part, jnp.float32) for part in (mean, variance))
    value, _ = streamed(mc.GaussianLogDensity(), outputs, [50], jnp.asarray(y, jnp.float32))
    expected = scipy.special.logsumexp(scipy.stats.norm.logpdf(y, mean, variance**0.5), 0) - np.log(50)
    np.testing.assert_allclose(value["log_density"], expected, rtol=1e-4, atol=1e-5)


def test_far_targets_do_not_underflow():
    samples = jnp.asarray(RNG.normal(size=(64, 1)), jnp.float32)
    value, error = streamed(mc.GaussianLogDensity(1.0), samples, [64], jnp.array([1000.0]))
    assert -6e5 < float(value["log_density"][0]) < -4e5
    assert np.isfinite(error["log_density"]).all()


@pytest.mark.parametrize("from_logits", [True, False])
def test_a_class_that_is_out_of_the_question(from_logits: bool):
    outputs = jnp.tile(jnp.array([[[0.0, -jnp.inf]]]), (40, 1, 1))
    outputs = outputs if from_logits else jnp.exp(outputs)
    value, error = streamed(mc.CategoricalLogDensity(from_logits), outputs, [40], jnp.array([1]))
    assert value["log_density"] == -np.inf
    assert error["log_density"] == 0


def test_means_and_variances_must_be_of_one_shape():
    outputs = jax.ShapeDtypeStruct((3, 1), jnp.float32), jax.ShapeDtypeStruct((3,), jnp.float32)
    with pytest.raises(ValueError, match=r"a pair \(mean, variance\) of arrays of one shape"):
        mc.GaussianLogDensity().check(outputs, jnp.zeros((3, 1)))


@pytest.mark.slow
def test_the_precision_may_be_traced():
    samples, y = jnp.asarray(RNG.normal(size=(32, 3)), jnp.float32), jnp.zeros(3)

    def density(tau):
        return streamed(mc.GaussianLogDensity(tau), samples, [32], y)[0]["log_density"]

    taus = jnp.array([0.5, 2.0])
    np.testing.assert_allclose(jax.vmap(density)(taus)[1], density(2.0), rtol=1e-5)


def test_a_precision_for_each_example_is_of_the_shape_of_the_outputs():
    outputs = jax.ShapeDtypeStruct((3,), jnp.float32)
    mc.GaussianLogDensity(jnp.ones(3)).check(outputs, jnp.zeros(3))
    with pytest.raises(ValueError, match=r"`precision` must broadcast to shape \(3,\), got \(3, 1\)"):
        mc.GaussianLogDensity(jnp.ones((3, 1))).check(outputs, jnp.zeros(3))


def test_a_traced_label_out_of_range_gives_nan():
    samples = standard_normal(0, (32, 3, 4))
    found = jax.jit(lambda y: streamed(mc.CategoricalLogDensity(), samples, [32], y)[0])(
        jnp.array([-1, 3, 4])
    )
    np.testing.assert_array_equal(np.isnan(found["log_density"]), [True, False, True])


@pytest.mark.slow
def test_a_variance_of_zero_has_no_density_elsewhere():
    """A sample with variance 0 leaves the density of the others; a negative variance is an error."""
    mean, variance = jnp.zeros((40, 1)), jnp.ones((40, 1)).at[7].set(0.0)
    value, error = streamed(mc.GaussianLogDensity(), (mean, variance), [40], jnp.ones(1))
    expected = scipy.stats.norm.logpdf(1.0) + np.log(39 / 40)
    np.testing.assert_allclose(value["log_density"], [expected], rtol=1e-5)
    assert np.isfinite(error["log_density"]).all()
    at_mean, _ = streamed(mc.GaussianLogDensity(), (mean, variance), [40], jnp.zeros(1))
    assert at_mean["log_density"] == np.inf

    def predict(key, x):
        return x + jax.random.normal(key), -jnp.ones_like(x)

    with pytest.raises(ValueError, match="`predict` must return variances of at least 0"):
        mc.estimate(
            predict,
            jax.random.key(0),
            jnp.zeros(2),
            num_samples=4,
            reducers=mc.GaussianLogDensity(),
            targets=jnp.zeros(2),
        )


def test_labels_of_a_narrow_dtype():
    logits = standard_normal(0, (32, 3, 256))
    labels = jnp.array([0, 7, 255])
    wide, narrow = (
        streamed(mc.CategoricalLogDensity(), logits, [32], labels.astype(dtype))[0]["log_density"]
        for dtype in (jnp.int32, jnp.uint8)
    )
    np.testing.assert_array_equal(narrow, wide)


def logs_in_float64(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The log of the mean probability of each label; NaN for a label out of range."""
    known = (labels >= 0) & (labels < logits.shape[-1])
    p = scipy.special.softmax(logits.astype(np.float64), -1).mean(0)
    found = np.take_along_axis(p, np.where(known, labels, 0)[..., None].astype(int), -1)[..., 0]
    return np.where(known, np.log(found), np.nan)


@pytest.mark.parametrize(("ignore", "dtype"), [(255, np.uint8), (-100, np.int32), (0, np.int32)])
def test_labels_to_ignore(ignore: int, dtype: type):
    """An unknown label has probability 1: its log is 0, without an error, and a mean can leave it out."""
    logits = (3 * RNG.normal(size=(50, 2, 3, 4))).astype(np.float32)
    labels = np.array([[1, ignore, 3], [ignore, 2, 1]], dtype)
    reducer = mc.CategoricalLogDensity(ignore=ignore)
    reducer.check(jax.ShapeDtypeStruct((2, 3, 4), jnp.float32), labels)
    value, error = (part["log_density"] for part in streamed(reducer, jnp.asarray(logits), [32, 18], labels))
    known = labels != ignore
    expected = logs_in_float64(logits, labels)
    np.testing.assert_allclose(value[known], expected[known], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(value[~known], 0)
    np.testing.assert_array_equal(error[~known], 0)
    assert (error[known] > 0).all()
    np.testing.assert_allclose(value.mean(where=known), expected[known].mean(), rtol=1e-4)


@pytest.mark.slow
def test_what_lies_at_a_label_to_ignore_makes_no_difference():
    logits = jnp.zeros((40, 2, 3)).at[:, 1].set(-jnp.inf).at[:, 1, 0].set(0.0)
    value, error = streamed(mc.CategoricalLogDensity(ignore=1), logits, [40], jnp.array([1, 1]))
    np.testing.assert_array_equal(value["log_density"], 0)
    np.testing.assert_array_equal(error["log_density"], 0)
    value, _ = streamed(mc.CategoricalLogDensity(ignore=-1), logits, [40], jnp.array([-1, 1]))
    np.testing.assert_array_equal(value["log_density"], [0, -np.inf])


def test_other_labels_out_of_range_stay_errors():
    outputs, labels = jax.ShapeDtypeStruct((3, 4), jnp.float32), np.array([0, -100, 4])
    message = r"`targets` must lie in \[0, 3\] or be -100, to be ignored, got 4\."
    with pytest.raises(ValueError, match=message):
        mc.CategoricalLogDensity(ignore=-100).check(outputs, labels)
    with pytest.raises(ValueError, match=r"`targets` must lie in \[0, 3\], got -100\."):
        mc.CategoricalLogDensity().check(outputs, labels)
    with pytest.raises(ValueError, match=r"`targets` must have the shape of `outputs` without its last axis"):
        mc.CategoricalLogDensity(ignore=-100).check(outputs, labels[:2])
    samples = standard_normal(0, (32, 3, 4))
    found = jax.jit(lambda y: streamed(mc.CategoricalLogDensity(ignore=-100), samples, [32], y))(labels)
    for part in found:
        np.testing.assert_array_equal(np.isnan(part["log_density"]), [False, False, True])


@pytest.mark.parametrize(
    ("ignore", "error", "message"),
    [
        ("void", TypeError, "`ignore` must be an integer, got 'void'."),
        (2**31, ValueError, r"`ignore` must lie in \[-2\*\*31, 2\*\*31\), got 2147483648."),
    ],
)
def test_ignore_is_a_label(ignore, error, message):
    with pytest.raises(error, match=message):
        mc.CategoricalLogDensity(ignore=ignore).check(jnp.zeros((2, 3)), np.zeros(2, int))


@pytest.mark.slow
@pytest.mark.parametrize("from_logits", [True, False])
def test_bernoulli(from_logits: bool):
    logits = (3 * RNG.normal(size=(50, 3, 2))).astype(np.float32)
    p = scipy.special.expit(logits.astype(np.float64))
    labels = np.array([[0, 1], [1, 0], [-1, 1]])
    reducer = mc.BernoulliLogDensity(from_logits, ignore=-1)
    reducer.check(jax.ShapeDtypeStruct((3, 2), jnp.float32), labels)
    given = jnp.asarray(logits if from_logits else p, jnp.float32)
    value, error = (part["log_density"] for part in streamed(reducer, given, [32, 18], labels))
    expected = np.where(labels < 0, 0, np.log(np.where(labels == 1, p, 1 - p).mean(0)))
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    assert value[2, 0] == error[2, 0] == 0
    far, _ = streamed(mc.BernoulliLogDensity(), jnp.full((40, 2), 200.0), [40], np.array([0, 1]))
    np.testing.assert_allclose(far["log_density"], [-200, 0], rtol=1e-6, atol=1e-5)


def test_binary_labels_are_integers_or_booleans():
    outputs = jax.ShapeDtypeStruct((3, 2), jnp.float32)
    truth = np.array([[0, 1], [1, 0], [1, 1]])
    samples = standard_normal(0, (32, 3, 2))
    mc.BernoulliLogDensity().check(outputs, truth.astype(bool))
    found = [streamed(mc.BernoulliLogDensity(), samples, [32], truth.astype(t)) for t in (bool, int)]
    jax.tree.map(np.testing.assert_array_equal, *found)
    for targets, error, message in (
        (truth + 1, ValueError, r"`targets` must lie in \[0, 1\], got 2."),
        (truth[:, 0], ValueError, r"`targets` must have the shape of `outputs`, \(3, 2\), got \(3,\)"),
        (truth.astype(np.float32), TypeError, "`targets` must be an array of integers, got float32."),
        (None, ValueError, "`targets` must be an array of the labels of the examples, got none."),
    ):
        with pytest.raises(error, match=message):
            mc.BernoulliLogDensity().check(outputs, targets)
    with pytest.raises(ValueError, match=r"`predict` must return probabilities, in \[0, 1\]"):
        mc.BernoulliLogDensity(False).explain_nan({"log_density": jnp.array([jnp.nan])})
