"""Sorted scores."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop.uncertainty import _ranks

RNG = np.random.default_rng(0)


def test_concrete_and_traced_scores_have_one_order():
    """NumPy sorts the one, XLA the other."""
    scores, where = jnp.asarray(RNG.permutation(40), jnp.float32), RNG.uniform(size=40) < 0.5
    scores = scores.at[3].set(jnp.inf)
    for mask in (None, where):
        concrete = _ranks.ascending(scores, mask)
        traced = jax.jit(_ranks.ascending)(scores, mask)
        count = int(concrete.count)
        np.testing.assert_array_equal(concrete.order[:count], traced.order[:count])
        assert sorted(np.asarray(concrete.order)) == list(range(40))
        for name in ("scores", "used", "count", "valid"):
            np.testing.assert_array_equal(getattr(concrete, name), getattr(traced, name))


def test_ties():
    first, stop = _ranks.ties(jnp.array([1, 1, 2, 3, 3, 3]))
    np.testing.assert_array_equal(first, [0, 0, 2, 3, 3, 3])
    np.testing.assert_array_equal(stop, [2, 2, 3, 6, 6, 6])


def test_counts_leave_masked_scores_out():
    of = _ranks.ascending(jnp.array([2.0, 9.0, 1.0, 2.0]), np.array([True, False, True, True]))
    scores = jnp.array([0.0, 2.0, 9.0])
    np.testing.assert_array_equal(_ranks.below(scores, of), [0, 1, 3])
    np.testing.assert_array_equal(_ranks.not_above(scores, of), [0, 3, 3])
