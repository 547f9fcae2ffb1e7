"""Feature alpha dropout: whole maps, at the two values of alpha dropout."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxdrop

KEY = jax.random.key(21)


def test_whole_channels_at_the_published_values():
    """For a half a = .8864, b = .7792: an input of 1 becomes a + b, what is dropped a s + b."""
    y = np.asarray(jaxdrop.feature_alpha_dropout(KEY, jnp.ones((200, 4, 3, 8)), 0.5))
    assert (y == y[:, :1, :1]).all()
    kept = y[:, 0, 0] > 0
    np.testing.assert_allclose(y[:, 0, 0][kept], 0.8864048947 + 0.7791939305, rtol=1e-6)
    np.testing.assert_allclose(y[:, 0, 0][~kept], 0.8864048947 * -1.7580993408 + 0.7791939305, rtol=1e-6)
    assert abs(kept.mean() - 0.5) < 5 * np.sqrt(0.25 / kept.size)


def test_channels_first():
    y = jaxdrop.feature_alpha_dropout(KEY, jnp.ones((4, 8, 5, 5)), 0.5, channel_axis=1)
    assert (y == y[:, :, :1, :1]).all()
    assert len(np.unique(y)) == 2
