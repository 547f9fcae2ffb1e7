"""Drop node: whole rows go, one graph at a time, and the removal of nodes with their edges."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(31)
ENDS = {"senders": jnp.array([0, 1, 1, 2, 3, 0]), "receivers": jnp.array([1, 0, 2, 1, 0, 3])}


def test_a_node_goes_or_stays_as_a_whole():
    x = standard_normal(KEY, (512, 6))
    y = np.asarray(jaxdrop.drop_node(KEY, x, 0.25))
    kept = (y != 0).all(1)
    assert ((y == 0).all(1) | kept).all()
    np.testing.assert_allclose(y[kept], np.asarray(x)[kept] / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / 512)
    rates = jnp.array([[0.0], [1.0]] * 256)
    np.testing.assert_array_equal((jaxdrop.drop_node(KEY, x, rates) != 0).all(1), rates[:, 0] == 0)


def test_removal_of_nodes_with_their_edges():
    """The docstring's recipe is the rule of torch-geometric: an edge stays if both of its nodes do."""
    kept = jaxdrop.keep_mask(KEY, (4,), 0.5)
    assert 0 < kept.sum() < 4
    weights = jnp.where(kept[ENDS["senders"]] & kept[ENDS["receivers"]], jnp.ones(6), 0)
    dense = np.zeros((4, 4))
    dense[ENDS["senders"], ENDS["receivers"]] = weights
    full = np.zeros((4, 4))
    full[ENDS["senders"], ENDS["receivers"]] = 1
    np.testing.assert_array_equal(dense, full * np.outer(kept, kept))
    y = jaxdrop.drop_edge(KEY, weights, 0.0, renormalize=True, num_nodes=4, **ENDS)
    degree = np.maximum(dense.sum(1), 1)
    expected = (dense / np.sqrt(np.outer(degree, degree)))[ENDS["senders"], ENDS["receivers"]]
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (2, 4, 3)])
def test_bad_input(shape):
    """A batch of graphs would drop whole graphs."""
    with pytest.raises(ValueError, match=re.escape(f"`x` must be of shape [N, F], got {shape}.")):
        jaxdrop.drop_node(KEY, jnp.ones(shape), 0.5)
    with pytest.raises(ValueError, match=re.escape("`rate` must broadcast to shape (4, 1), got (4, 3).")):
        jaxdrop.drop_node(KEY, jnp.ones((4, 3)), jnp.full((4, 3), 0.5))
