"""What mixing draws: the law of the weights, at every alpha, and their precision."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxdrop
from jaxdrop.drops import _mixing
from tests import gpu

KEY = jax.random.key(3)


def test_the_smaller_part_is_that_of_a_beta_draw():
    """Kolmogorov-Smirnov: the distance stays below its 1e-5 quantile, alphas 0.05 to 1000."""
    words = jax.random.bits(KEY, (2, 20_000))
    alphas = np.float32([0.05, 0.2, 1, 20, 1000])
    parts = np.asarray(jax.vmap(lambda alpha: _mixing.smaller_part(*words, alpha))(alphas), np.float64)
    for alpha, part in zip(alphas.astype(np.float64), parts, strict=True):
        assert ((part >= 0) & (part <= 0.5)).all()
        law = stats.beta(alpha, alpha)
        # Far below what float32 adds to an example, parts are set to one value.
        found = stats.ks_1samp(np.maximum(part, 1e-20), lambda p, law=law: 2 * law.cdf(p))
        lumped = 2 * law.cdf(1e-20)
        assert found.statistic < 2.5 / np.sqrt(part.size) + lumped, alpha


def test_the_smaller_part_is_precise():
    """Against float64, to 1e-5 of its value: also where it is far below 1, or next to 1/2."""
    words = np.asarray(jax.random.bits(KEY, (2, 1000)))
    u, v = ((word >> 9) + 0.5 for word in words.astype(np.float64).astype(np.uint32))
    u, v = (np.asarray(value, np.float64) / 2**23 for value in (u, v))
    for alpha in (0.3, 1e4):
        square = np.expm1(-np.log1p(-u) / alpha) * np.sin(np.pi / 2 * v) ** 2
        root = np.sqrt(square / (1 + square))
        expected = 1 / (2 * (1 + square) * (1 + root))
        np.testing.assert_allclose(_mixing.smaller_part(*words, np.float32(alpha)), expected, rtol=2e-5)


def test_pairs_do_not_depend_on_how_much_is_drawn():
    one = _mixing.draw(KEY, 0.5, size=6, per_example=False)
    more = _mixing.draw(jax.random.clone(KEY), 0.5, size=6, per_example=True, more=2)
    np.testing.assert_array_equal(one.rows, more.rows)
    np.testing.assert_array_equal(one.part, more.part[:1])
    assert (one.rows.dtype, more.part.shape, more.words[0].shape) == (jnp.int32, (6,), (6, 3))


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        (-0.5, "`alpha` must be finite and at least 0, got -0.5."),
        (float("inf"), "`alpha` must be finite and at least 0, got inf."),
        (np.ones(2), "`alpha` must be a scalar, got shape (2,)."),
    ],
)
def test_bad_alphas(alpha, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        _mixing.check_alpha(alpha)
    if np.ndim(alpha) == 0:
        assert jnp.isnan(jax.jit(_mixing.check_alpha)(alpha))


@gpu.needs_plugin
@pytest.mark.parametrize("mix", [jaxdrop.mixup, jaxdrop.cutmix])
def test_a_gpu_mixes_in_one_kernel(mix):
    """Partners are read where they are mixed: no copy of the batch is written."""
    x, y = jax.ShapeDtypeStruct((64, 32, 32, 3), jnp.bfloat16), jax.ShapeDtypeStruct((64, 10), jnp.float32)
    program = gpu.compiled(lambda key, x, y: mix(key, x, y, 1.0), KEY, x, y)
    assert len(program.writers(x.size)) == 1
    assert program.loops == []
    assert program.temporary_bytes < 2**15
