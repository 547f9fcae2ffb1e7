"""Standout: probabilities of the network's own, and the mean that evaluation uses."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(22)


def test_each_element_has_its_own_probability():
    logits = jnp.array([-2.0, -0.5, 0.0, 1.0, 3.0])
    x = jnp.broadcast_to(jnp.arange(1.0, 6.0), (20000, 5))
    y = np.asarray(jaxdrop.standout(KEY, x, logits, alpha=2.0, beta=0.5))
    keep = 1 / (1 + np.exp(-(2 * np.asarray(logits, np.float64) + 0.5)))
    kept = y != 0
    np.testing.assert_array_equal(y, np.where(kept, x, 0))
    assert (np.abs(kept.mean(0) - keep) < 5 * np.sqrt(keep * (1 - keep) / 20000)).all()
    np.testing.assert_allclose(
        jaxdrop.standout_mean(x[0], logits, alpha=2.0, beta=0.5), np.arange(1, 6) * keep, rtol=1e-5
    )


def test_the_mask_has_no_gradient_and_is_drawn_again():
    x, logits = standard_normal(KEY, (2, 32, 16))
    grads = jax.grad(lambda x, logits: jaxdrop.standout(KEY, x, logits).sum(), (0, 1))(x, logits)
    np.testing.assert_array_equal(grads[0], jaxdrop.standout(KEY, jnp.ones_like(x), logits))
    assert not grads[1].any()


def test_alpha_and_beta_of_zero_are_a_fair_coin():
    y = jaxdrop.standout(KEY, jnp.ones((100, 64)), 50 * jnp.ones(64), alpha=0.0)
    assert abs(float(y.mean()) - 0.5) < 5 * np.sqrt(0.25 / 6400)


def test_the_values_of_the_logits_choose_no_bits():
    """So the mask is the same under jit, and an element's own whatever its neighbors are."""
    logits = 10 * standard_normal(KEY, (64, 16))
    y = jaxdrop.standout(KEY, jnp.ones_like(logits), logits)
    np.testing.assert_array_equal(y, jax.jit(jaxdrop.standout)(KEY, jnp.ones_like(logits), logits))
    np.testing.assert_array_equal(y, jaxdrop.standout(KEY, jnp.ones_like(logits), logits, bits=16))
    alone = jaxdrop.standout(KEY, jnp.ones_like(logits), logits.at[1:].set(0.0))
    np.testing.assert_array_equal(alone[0], y[0])


def test_bad_input():
    with pytest.raises(ValueError, match=re.escape("`logits` must broadcast to shape (2, 3), got (4,).")):
        jaxdrop.standout(KEY, jnp.ones((2, 3)), jnp.ones(4))
    with pytest.raises(TypeError, match=re.escape("`logits` must be a floating-point array, got int32.")):
        jaxdrop.standout_mean(jnp.ones((2, 3)), jnp.ones(3, jnp.int32))
