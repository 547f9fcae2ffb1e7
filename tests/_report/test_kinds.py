"""What a predictor predicts, told from shapes, targets and words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from jaxdrop._report import kinds

KEY = jax.random.key(0)
LABELS, PIXELS, NUMBERS = np.zeros(9, np.int32), np.zeros((9, 2, 3), np.int32), np.zeros(9)


def returning(*shapes):
    """A predictor of zeros."""
    parts = [jnp.zeros((4, *shape)) for shape in shapes]
    return lambda key, x: parts[0] if len(parts) == 1 else tuple(parts)


def told(predict, targets, outputs=None, ignore=None):
    return kinds.told(predict, KEY, np.zeros((4, 1)), targets, outputs, ignore)


@pytest.mark.parametrize(
    ("shapes", "targets", "outputs", "found"),
    [
        ([(5,)], LABELS, "logits", kinds.Kind("logits", 5)),
        ([(5,)], LABELS, None, kinds.Kind("logits", 5)),
        ([()], LABELS, "probabilities", kinds.Kind("probabilities", 2, True)),
        ([(1,)], LABELS, "logits", kinds.Kind("logits", 2, True)),
        ([(2, 3, 4)], PIXELS, "logits", kinds.Kind("logits", 4, False, (2, 3))),
        ([(2, 3)], PIXELS, "logits", kinds.Kind("logits", 2, True, (2, 3))),
        ([()], NUMBERS, None, kinds.Kind("mean", 0)),
        ([(1,), (1,)], NUMBERS, "mean_variance", kinds.Kind("mean_variance", 0)),
        ([(), ()], NUMBERS, "mean_stddev", kinds.Kind("mean_stddev", 0)),
    ],
)
def test_kinds(shapes, targets, outputs, found):
    assert told(returning(*shapes), targets, outputs) == found


def test_probabilities_are_told_from_logits_by_a_sample():
    probs = jnp.full((4, 2), 0.5)
    assert told(lambda key, x: probs, LABELS).outputs == "probabilities"
    assert told(lambda key, x: probs - 1, LABELS).outputs == "logits"
    assert told(lambda key, x: probs[:, 0] - 1, LABELS).outputs == "logits"
    assert told(lambda key, x: probs / 2, LABELS).outputs == "logits"
    with pytest.raises(ValueError, match="for sums of 1 to within"):
        told(lambda key, x: probs * 1.01, LABELS)  # of half precision


@pytest.mark.parametrize(
    ("shapes", "targets", "outputs", "words"),
    [
        ([(5,)], LABELS, "logit", "`outputs` must be one of 'logits', 'probabilities', 'mean'"),
        ([()], LABELS, None, "`outputs` must be 'logits' or 'probabilities' for one output per"),
        ([(5,)], LABELS, "mean", "`outputs` must be 'logits' or 'probabilities' for targets of dtype int32"),
        ([(), ()], LABELS, None, "`predict` must return one array of logits"),
        ([(2, 3, 4)], LABELS, None, r"must return an array of shape \[B, K\] for labels of shape \[N\], got"),
        ([(3, 2, 4)], PIXELS, None, r"must return an array of shape \[B, 2, 3, K\] for labels of shape"),
        ([(), ()], NUMBERS, None, "`outputs` must be 'mean_variance' or 'mean_stddev' for a pair"),
        ([(), ()], NUMBERS, "mean", "`outputs` must fit what `predict` returns, a pair, got 'mean'"),
        ([()], NUMBERS, "mean_variance", "`outputs` must fit what `predict` returns, one array"),
        ([()], NUMBERS, "logits", "`outputs` must be one of mean, mean_variance, mean_stddev"),
        ([(3,)], NUMBERS, None, r"`predict` must return a mean, or a pair .* got \(4, 3\) for 4 examples"),
    ],
)
def test_what_cannot_be_told_is_refused(shapes, targets, outputs, words):
    with pytest.raises(ValueError, match=words):
        told(returning(*shapes), targets, outputs)


def test_targets_are_checked():
    assert kinds.check_targets(np.array([True, False]), 2).tolist() == [1, 0]
    for targets, words in [
        (np.zeros((2, 1)), "`targets` of a regression must be of shape"),
        (np.array([1.0, np.nan]), "`targets` must be finite, got nan"),
        (np.zeros(3, int), "`targets` must have the 2 examples of the data, got shape"),
        (np.array([0, 2**40]), "must be labels of at most"),
    ]:
        with pytest.raises(ValueError, match=words):
            kinds.check_targets(targets, 2)
    with pytest.raises(TypeError, match="`targets` must be labels or numbers, got dtype <U1"):
        kinds.check_targets(np.array(["a", "b"]), 2)
    whole = kinds.check_targets(np.arange(2), 2, "mean_variance")
    assert (whole.dtype.kind, whole.tolist()) == ("f", [0, 1])
    with pytest.raises(ValueError, match=r"labels in \[0, 2\) \(whole numbers are those of a regression if"):
        kinds.check_labels(kinds.Kind("logits", 2, True), np.array([0, 151]))
    pixels = kinds.Kind("logits", 3, False, (2,), ignore=255)
    kinds.check_labels(pixels, np.array([[255, 2], [0, 1]]))
    with pytest.raises(ValueError, match=r"labels in \[0, 3\), got 3"):
        kinds.check_labels(pixels, np.array([[255, 3]]))
    with pytest.raises(ValueError, match="a label that counts in each example, got none in example 1"):
        kinds.check_labels(pixels, np.array([[255, 1], [255, 255]]))


def test_data_are_counted():
    assert kinds.count({"a": np.zeros((3, 1)), "b": np.zeros(3)}) == 3
    for data, error in [(np.zeros((0, 2)), ValueError), ([1.0], TypeError), (np.array(["a"]), TypeError)]:
        with pytest.raises(error, match="`data` must"):
            kinds.count(data)
    assert kinds.count(jnp.zeros((3, 1), jnp.bfloat16)) == 3
    with pytest.raises(TypeError, match="`data` must hold numbers, got dtype"):
        kinds.count(np.zeros(3, [("age", int)]))
    with pytest.raises(ValueError, match="`data` must have one number of examples, at least 1, got 2, 3"):
        kinds.count([np.zeros(2), np.zeros(3)])


def test_the_estimates_of_a_pair():
    """The mean of squares is the square of the mean and the variance."""
    mean, stddev = np.array([[1.0, 2.0], [3.0, 2.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    value = {"mean": (mean.mean(0), stddev.mean(0)), "variance": (mean.var(0), stddev.var(0))}
    error = {"mean": (np.zeros(2), np.full(2, 0.3)), "variance": (np.array([0.1, 0.2]), np.full(2, 0.4))}
    found = kinds.read_numbers(kinds.Kind("mean_stddev", 0), mc.Estimate(value, error, 2), slice(None))
    np.testing.assert_allclose(found.aleatoric, (stddev**2).mean(0))
    np.testing.assert_allclose(found.stddev**2, (stddev**2).mean(0) + mean.var(0))
    square = error["variance"][0] ** 2 + (2 * stddev.mean(0) * 0.3) ** 2 + 0.4**2
    np.testing.assert_allclose(found.error, np.sqrt(square) / (2 * found.stddev))


@pytest.mark.parametrize("outputs", ["mean_variance", "mean_stddev"])
def test_the_error_of_a_deviation_has_that_of_the_predicted_noise(outputs):
    """It is the spread over examples that are alike."""

    def predict(key, x):
        one, two = jax.random.normal(key, (2, *x.shape))
        return 0.2 * one, 1 + 0.3 * two

    estimate = mc.estimate(predict, KEY, np.zeros(400), num_samples=64, reducers=mc.Moments())
    found = kinds.read_numbers(kinds.Kind(outputs, 0), estimate, slice(None))
    spread = found.stddev.std(ddof=1)
    assert np.sqrt((found.error**2).mean()) == pytest.approx(spread, rel=5 * np.sqrt(1 / 800))


def test_a_negative_spread_is_refused():
    """Its square, or its sum with the variance of the means, would look right."""
    value = {"mean": (np.zeros(3), np.array([1.0, -0.1, 1])), "variance": (np.ones(3), np.ones(3))}
    for outputs, name in (("mean_variance", "variances"), ("mean_stddev", "standard deviations")):
        with pytest.raises(ValueError, match=f"`predict` must return {name} of at least 0, got .* of -0.1"):
            kinds.read_numbers(kinds.Kind(outputs, 0), mc.Estimate(value, value, 2), slice(None))
