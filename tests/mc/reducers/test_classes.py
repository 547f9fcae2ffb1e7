"""What counts as probabilities."""

import jax.numpy as jnp
import numpy as np
import pytest

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
    with pytest.raises(ValueError, match=r"`predict` must return an array of shape \[B, K\] of classes"):
        _classes.check_classes(jnp.zeros(3))
