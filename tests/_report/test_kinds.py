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


@pytest.mark.parametrize(
    ("shapes", "targets", "outputs", "words"),
    [
        ([(5,)], LABELS, "logit", "`outputs` must be one of 'logits', 'probabilities', 'mean'"),
        ([()], LABELS, None, "`outputs` must be 'logits' or 'probabilities' for one output in"),
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
    with pytest.raises(ValueError, match="`data` must have one number of examples, at least 1, got 2, 3"):
        kinds.count([np.zeros(2), np.zeros(3)])


def test_the_estimates_of_a_pair():
    """The mean of squares is the square of the mean and the variance."""
    mean, stddev = np.array([[1.0, 2.0], [3.0, 2.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    value = {"mean": (mean.mean(0), stddev.mean(0)), "variance": (mean.var(0), stddev.var(0))}
    error = {"mean": None, "variance": (np.array([0.1, 0.2]), np.zeros(2))}
    found = kinds.read_numbers(kinds.Kind("mean_stddev", 0), mc.Estimate(value, error, 2), slice(None))
    np.testing.assert_allclose(found.aleatoric, (stddev**2).mean(0))
    np.testing.assert_allclose(found.stddev**2, (stddev**2).mean(0) + mean.var(0))
    np.testing.assert_allclose(found.error, error["variance"][0] / (2 * found.stddev))
