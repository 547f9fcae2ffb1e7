"""Minibatches that a predictor draws; what the statistics are is tested for both APIs of Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop.mc import _minibatches

DATA = {"a": jnp.arange(10), "b": 2 * jnp.arange(10)}


def test_a_minibatch_has_different_examples_with_all_their_parts():
    predict = _minibatches.MinibatchPredictor({}, DATA, lambda variables, batch, x: batch, 6)
    batch = predict(jax.random.key(0), jnp.ones(3))
    assert len(set(batch["a"].tolist())) == 6
    np.testing.assert_array_equal(batch["b"], 2 * batch["a"])


def test_data_and_sizes_are_checked():
    assert _minibatches.check_data(DATA, 6)["a"].shape == (6,)
    with pytest.raises(ValueError, match="`batch_size` must be at least 2, got 1"):
        _minibatches.check_data(DATA, 1)
    with pytest.raises(ValueError, match="`data` must hold arrays that share one non-empty leading axis"):
        _minibatches.check_data({**DATA, "c": jnp.ones(3)}, 6)
