"""Drop path: whole examples or the whole batch, and stacks of blocks."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(5)


def test_an_example_goes_or_stays_as_a_whole():
    x = standard_normal(KEY, (512, 6, 5))
    y = np.asarray(jaxdrop.drop_path(KEY, x, 0.25))
    kept = (y != 0).all((1, 2))
    assert ((y == 0).all((1, 2)) | kept).all()
    np.testing.assert_allclose(y[kept], np.asarray(x)[kept] / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / 512)


def test_batch_mode_decides_once():
    x = jnp.ones((4, 3))
    results = jax.vmap(lambda key: jaxdrop.drop_path(key, x, 0.25, mode="batch"))(jax.random.split(KEY, 2000))
    means = np.asarray(results.reshape(2000, -1))
    assert (means == means[:, :1]).all()
    assert set(np.unique(means).tolist()) <= {0.0, float(np.float32(1 / 0.75))}
    assert abs((means[:, 0] == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000)


@pytest.mark.parametrize(
    ("x", "mode", "message"),
    [
        (jnp.ones((2, 3)), "rows", "`mode` must be one of 'row', 'batch', got 'rows'."),
        (jnp.ones(()), "row", "`x` must be of shape [B, ...], got ()."),
    ],
)
def test_bad_input(x, mode, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        jaxdrop.drop_path(KEY, x, 0.5, mode=mode)
