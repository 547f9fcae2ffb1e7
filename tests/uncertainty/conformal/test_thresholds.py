"""Thresholds of all examples, of groups and of weighted examples: what a call must be given."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop.uncertainty import GroupQuantile, WeightedQuantile
from jaxdrop.uncertainty.conformal import _thresholds

SCORES = np.arange(8.0)
GROUPED = GroupQuantile(jnp.arange(6.0).reshape(2, 3))
WEIGHTED = WeightedQuantile(jnp.arange(3.0), jnp.arange(1.0, 4), jnp.float32(0.5))


def test_thresholds_have_the_rank_of_the_predictions():
    assert _thresholds.at(jnp.arange(3.0), None, None, (4, 3)).shape == (1, 3)
    at = jax.jit(
        lambda *thresholds: [
            _thresholds.at(thresholds[0], np.array([1, 0]), None, (2, 3)),
            _thresholds.at(thresholds[1], None, np.array([0.0, 2, 9]), (3,)),
        ]
    )
    grouped, weighted = at(GROUPED, WEIGHTED)
    np.testing.assert_array_equal(grouped, [[3, 4, 5], [0, 1, 2]])
    np.testing.assert_array_equal(weighted, [1, 2, np.inf])


def test_the_kind_of_a_threshold_follows_from_what_the_fit_is_given():
    def kind(groups=None, num_groups=None, weights=None):
        options = {"groups": groups, "num_groups": num_groups, "weights": weights}
        return type(jax.eval_shape(lambda scores: _thresholds.fit(scores, 0.5, None, **options), SCORES))

    assert kind() is jax.ShapeDtypeStruct
    assert kind(np.arange(8) % 2, 2) is GroupQuantile
    assert kind(weights=np.ones(8)) is WeightedQuantile


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: _thresholds.fit(SCORES, 0.5, None, None, 2, None),
            "`num_groups` must be None, as `groups` is, got 2.",
        ),
        (
            lambda: _thresholds.fit(SCORES, 0.5, None, np.arange(8) % 2, 2, np.ones(8)),
            "`weights` must be None with `groups`, got an array.",
        ),
        (
            lambda: _thresholds.at(GROUPED, None, None, (2, 3)),
            "`groups` must be given, as it was for the fit, got None.",
        ),
        (
            lambda: _thresholds.at(jnp.zeros(()), None, np.ones(2), (2, 3)),
            "`weights` must be None, as it was for the fit, got an array.",
        ),
        (
            lambda: _thresholds.at(GROUPED, np.array([0, 1, 0]), None, (2, 3)),
            "`groups` must have one value per example, shape (2,), got (3,).",
        ),
        (
            lambda: _thresholds.at(GROUPED, np.array([0, 1]), None, (2, 4)),
            "`threshold` must broadcast to shape (2, 4), got (2, 3).",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
