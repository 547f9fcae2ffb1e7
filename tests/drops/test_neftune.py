"""NEFTune: the scale of the noise with and without padding, against the formulas of others."""

import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(34)
LENGTHS = np.array([7, 40, 0])
MASK = jnp.asarray(np.arange(40) < LENGTHS[:, None])
X = standard_normal(KEY, (3, 40, 64))


def noise(x=X, **options):
    return np.asarray(jaxdrop.neftune(KEY, x, 5.0, **options), np.float64) - np.asarray(x, np.float64)


def test_uniform_noise_of_the_scale_of_trainers():
    """Of `alpha / sqrt(L * D)`, L with padding: mean, variance, ends."""
    found, scale = noise(), 5 / np.sqrt(40 * 64)
    assert scale * 0.99 < np.abs(found).max() <= scale * (1 + 1e-5)
    n = found.size
    assert abs(found.mean()) < 5 * scale / np.sqrt(3 * n)
    assert abs((found**2).mean() - scale**2 / 3) < 5 * scale**2 * np.sqrt((1 / 5 - 1 / 9) / n)


def test_a_mask_counts_tokens_and_spares_padding():
    """The paper's code in float64, on the same uniform draws."""
    unit = noise() / (5 / np.sqrt(40 * 64))
    magnitude = 5 / np.sqrt(np.maximum(LENGTHS, 1) * 64)
    expected = unit * np.asarray(MASK)[..., None] * magnitude[:, None, None]
    found = noise(mask=MASK)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(found[~np.asarray(MASK)], 0)
    np.testing.assert_array_equal(noise(mask=MASK[1]), noise())


def test_half_precision_and_gradients():
    """A count of 300, which bfloat16 does not have; the embeddings' gradient is that of the identity."""
    x = jnp.zeros((1, 300, 2), jnp.bfloat16)
    y = jaxdrop.neftune(KEY, x, 5.0, mask=jnp.ones((1, 300), bool))
    assert y.dtype == jnp.bfloat16
    wide = jaxdrop.neftune(KEY, x.astype(jnp.float32), 5.0)
    np.testing.assert_array_equal(y, wide.astype(jnp.bfloat16))
    grads = jax.grad(lambda x, alpha: jaxdrop.neftune(KEY, x, alpha, mask=MASK).sum(), (0, 1))(X, 5.0)
    np.testing.assert_array_equal(grads[0], 1)
    np.testing.assert_allclose(grads[1], noise(mask=MASK).sum() / 5, rtol=1e-3)


def test_a_program_of_any_length_and_a_traced_scale():
    """The length is that of the call; a traced scale that is not valid cannot raise."""
    shape = (*jax.export.symbolic_shape("b, l"), 4)
    kinds = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    program = jax.jit(lambda x, alpha: jaxdrop.neftune(jax.random.key(0), x, alpha))
    exported = jax.export.export(program)(*kinds)
    for length in (5, 20):
        expected = jaxdrop.neftune(jax.random.key(0), X[:, :length, :4], 5.0)
        np.testing.assert_allclose(exported.call(X[:, :length, :4], 5.0), expected, rtol=3e-6, atol=3e-7)
    assert np.isnan(exported.call(X[:, :5, :4], -1.0)).all()


@pytest.mark.parametrize(
    ("error", "x", "mask", "message"),
    [
        (TypeError, X, MASK.astype(int), "`mask` must be a boolean array, got int32."),
        (ValueError, X, MASK[:, :3], "`mask` must broadcast to shape (3, 40), got (3, 3)."),
        (ValueError, X[0, 0], None, "`x` must be of shape [..., L, D], got (64,)."),
    ],
)
def test_bad_input(error, x, mask, message):
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.neftune(KEY, x, 5.0, mask=mask)
    with pytest.raises(ValueError, match=re.escape("`alpha` must be finite and at least 0, got -1.")):
        jaxdrop.neftune(KEY, X, -1.0)
