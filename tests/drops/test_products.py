import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop.drops._products import check_product, noisy_product


def test_the_noise_is_that_of_independent_weights():
    """Mean and variance over many rows, within 5 standard errors."""
    x = jnp.full((20_000, 2), 3.0)
    y = np.asarray(noisy_product(jax.random.key(0), x, jnp.array([[1.0], [2.0]]), jnp.full((2, 1), 0.25)))
    variance = 2 * 9 * 0.25
    assert abs(y.mean() - 9) < 5 * (variance / len(y)) ** 0.5
    assert abs(y.var() - variance) < 5 * variance * (2 / len(y)) ** 0.5


def test_no_variance_is_the_product_and_its_gradient_is_finite():
    x, kernel = jnp.ones((4, 3)), jnp.ones((3, 2))

    def total(variance):
        return noisy_product(jax.random.key(0), x, kernel, variance).sum()

    assert total(jnp.zeros((3, 2))) == 24
    assert np.isfinite(jax.grad(total)(jnp.zeros((3, 2)))).all()


@pytest.mark.parametrize(("x", "kernel"), [((), (1, 2)), ((4, 3), (4, 2)), ((4, 3), (3,))])
def test_shapes_that_do_not_fit(x: tuple, kernel: tuple):
    message = f"`kernel` must be of shape [I, O] for `x` of [..., I], got {kernel} and {x}."
    with pytest.raises(ValueError, match=re.escape(message)):
        check_product(jnp.ones(x), jnp.ones(kernel))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "bfloat16"])
def test_factors_of_two_dtypes(dtype: str):
    """Also where JAX promotes neither: float8, and any in the strict mode."""
    x, kernel, variance = jnp.ones((4, 3), dtype), jnp.ones((3, 2)), jnp.ones((3, 2))
    with jax.numpy_dtype_promotion("strict"):
        y = noisy_product(jax.random.key(0), x, kernel, variance)
    assert y.dtype == dtype
    wide = noisy_product(jax.random.key(0), x.astype(jnp.float32), kernel, variance)
    np.testing.assert_array_equal(y, wide.astype(dtype))
