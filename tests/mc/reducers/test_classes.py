"""What counts as probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxdrop.mc.reducers import _classes


def test_logits_and_probabilities_agree():
    logits = jnp.log(jnp.array([[0.2, 0.3, 0.5]])) + 7
    for given, flag in ((logits, True), (jnp.exp(logits - 7), False)):
        logs, p = _classes.class_probabilities(given, flag)
        np.testing.assert_allclose(p, [[0.2, 0.3, 0.5]], rtol=1e-5)
        np.testing.assert_allclose(logs, np.log([[0.2, 0.3, 0.5]]), rtol=1e-5)


@pytest.mark.parametrize("wrong", [[0.5, 0.6], [1.2, -0.2], [0.5, 0.498]])
def test_others_are_told(wrong: list[float]):
    _, p = _classes.class_probabilities(jnp.array([wrong]), False)
    with pytest.raises(
        ValueError, match="`predict` must return probabilities, at least 0 and with sums of 1"
    ):
        _classes.check_valid(p, False)


def test_rounding_is_no_error():
    _, p = _classes.class_probabilities(jnp.array([[0.5, 0.5004]]), False)
    _classes.check_valid(p, False)


def test_outputs_must_be_of_classes():
    message = (
        r"`predict` must return an array of shape \[B, ..., K\] of at least 2 classes \(`{}` .*, got {}\."
    )
    for outputs, hint, got in (
        (jnp.zeros(3), "Bernoulli", r"shape \(3,\)"),
        (jnp.zeros((3, 1)), "Bernoulli", r"shape \(3, 1\)"),
        ({"logits": jnp.zeros((3, 2))}, "Part", "a dict"),
    ):
        with pytest.raises(ValueError, match=message.format(hint, got)):
            _classes.check_classes(outputs)
    with pytest.raises(ValueError, match=r"an array of shape \[B, ...\] \(`Part` selects .*, got a list\."):
        _classes.check_pairs([jnp.zeros(3)])


def test_binary_labels_are_pairs_of_classes():
    x = jnp.array([-jnp.inf, -200.0, 0.0, 3.0, jnp.inf])
    logs, p = _classes.class_probabilities(_classes.pairs(x, True), True)
    expected = np.stack([scipy.special.expit(-np.float64(x)), scipy.special.expit(np.float64(x))], -1)
    np.testing.assert_allclose(p, expected, rtol=1e-6, atol=1e-38)
    np.testing.assert_allclose(logs[1], [0, -200], rtol=1e-6)
    _, p = _classes.class_probabilities(_classes.pairs(p[:, 1], False), False)
    np.testing.assert_allclose(p, expected, rtol=1e-5, atol=1e-7)
    assert _classes.check_pairs(jax.ShapeDtypeStruct((5,), jnp.float32)).shape == (5, 2)


@pytest.mark.parametrize("wrong", [-0.01, 1.01])
def test_other_probabilities_of_binary_labels_are_told(wrong: float):
    _, p = _classes.class_probabilities(_classes.pairs(jnp.array([wrong]), False), False)
    with pytest.raises(ValueError, match=r"`predict` must return probabilities, in \[0, 1\]"):
        _classes.check_valid_pairs(p)
