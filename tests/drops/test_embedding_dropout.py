"""Embedding dropout: whole words, wherever they occur."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(16)


def test_whole_rows():
    table = standard_normal(KEY, (2000, 8))
    y = np.asarray(jaxdrop.embedding_dropout(KEY, table, 0.2))
    kept = (y != 0).all(1)
    assert ((y == 0).all(1) | kept).all()
    np.testing.assert_allclose(y[kept], np.asarray(table)[kept] / 0.8, rtol=1e-4)
    assert abs(kept.mean() - 0.8) < 5 * np.sqrt(0.2 * 0.8 / 2000)


def test_a_word_goes_wherever_it_occurs():
    words = jnp.array([[1, 2, 1], [2, 1, 0]])
    y = jaxdrop.embedding_dropout(KEY, jnp.ones((3, 4)), 0.5)[words]
    assert (y[0, 0] == y[0, 2]).all()
    assert (y[0, 0] == y[1, 1]).all()
