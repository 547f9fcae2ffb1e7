"""Normal quantiles of every draw, against SciPy's in float64."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import jaxdrop
from jaxdrop._quantiles import normal_quantile

DRAWS = 2**24


@functools.cache
def exact() -> tuple[np.ndarray, np.ndarray]:
    """The quantiles of the draws above the median, and the gaps to the next draw's."""
    quantiles = -special.ndtri((np.arange(DRAWS // 2)[::-1] + 0.5) / DRAWS)
    return quantiles, np.exp(quantiles**2 / 2) * math.sqrt(2 * math.pi) / DRAWS


@functools.cache
def computed() -> np.ndarray:
    return np.asarray(jax.jit(normal_quantile)(jnp.arange(DRAWS, dtype=jnp.uint32)))


def test_symmetric_and_strictly_increasing():
    quantiles = computed()
    assert quantiles.dtype == np.float32
    np.testing.assert_array_equal(quantiles, -quantiles[::-1])
    assert (np.diff(quantiles) > 0).all()
    assert quantiles[-1] < 5.41


def test_the_error_is_about_a_gap_or_less():
    quantiles, gap = exact()
    error = np.abs(computed()[DRAWS // 2 :] - quantiles)
    assert (error / gap).max() < 1.2
    relative = error / quantiles
    assert relative[quantiles < 3].max() < 2.0**-20
    assert relative.max() < 0.003


def test_moments_are_those_of_the_exact_quantiles():
    """The odd ones are zero by symmetry."""
    wide = computed()[DRAWS // 2 :].astype(np.float64)
    for power, tolerance in ((2, 1e-6), (4, 1e-5)):
        assert abs((wide**power).mean() - (exact()[0] ** power).mean()) < tolerance


def test_a_sum_does_not_take_the_polynomial_into_its_loop():
    """XLA for CPUs would write an array for each coefficient, and took three times as long."""

    def total(x: jax.Array) -> jax.Array:
        return jaxdrop.gaussian_dropout(jax.random.key(0), x, 0.1).sum()

    compiled = jax.jit(jax.value_and_grad(total)).lower(jnp.zeros((256, 256))).compile()
    assert compiled.as_text().split("ENTRY")[1].count("f32[256,256]") <= 8  # 19 with a plain product
