"""Drop head: whole heads of each example."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(10)


def test_a_head_goes_or_stays_as_a_whole():
    x = standard_normal(KEY, (200, 5, 8, 4))
    y = np.asarray(jaxdrop.drop_head(KEY, x, 0.25))
    kept = (y != 0).all((1, 3))
    assert ((y == 0).all((1, 3)) | kept).all()
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / kept.size)
    np.testing.assert_allclose(y, np.where(kept[:, None, :, None], x / 0.75, 0), rtol=1e-6)


def test_the_axis_of_the_heads():
    y = jaxdrop.drop_head(KEY, jnp.ones((3, 8, 5, 4)), 0.5, head_axis=1)
    assert (y == y[:, :, :1, :1]).all()
    with pytest.raises(ValueError, match=re.escape("`head_axis` must not be the batch axis 0, got 0.")):
        jaxdrop.drop_head(KEY, jnp.ones((3, 8, 5, 4)), 0.5, head_axis=0)
