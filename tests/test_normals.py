"""The values that tests draw by one program are those of JAX."""

import jax
import numpy as np
import pytest

from tests.normals import SIZE, standard_normal


@pytest.mark.parametrize("shape", [(), (3, 5), (SIZE,), (SIZE + 1,)])
def test_they_are_those_of_jax_to_the_bit(shape: tuple[int, ...]):
    key = jax.random.key(3)
    expected = jax.random.normal(key, shape)
    for found in (standard_normal(3, shape), standard_normal(key, shape)):
        np.testing.assert_array_equal(found, expected)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
