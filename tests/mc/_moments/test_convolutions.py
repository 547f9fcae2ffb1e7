"""Convolutions of the moments: JAX's values and derivatives, in the order of channels that is fast."""

import re
from functools import partial

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdrop.mc._moments import convolutions
from tests.normals import standard_normal

KEYS = jax.random.split(jax.random.key(0), 4)
IMAGES = ("NHWC", "HWIO", "NHWC")


def equation(fun, array: jax.Array, kernel: jax.Array) -> jex.JaxprEqn:
    return jax.make_jaxpr(fun)(array, kernel).jaxpr.eqns[-1]


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 2, 4, 3), {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": IMAGES}),
        ((3, 3, 4, 3), {"window_strides": (2, 1), "padding": "VALID", "dimension_numbers": IMAGES}),
        (
            (3, 2, 4, 3),
            {
                "window_strides": (1, 1),
                "padding": "SAME",
                "rhs_dilation": (2, 1),
                "dimension_numbers": IMAGES,
            },
        ),
        (
            (2, 2, 2, 6),
            {
                "window_strides": (1, 1),
                "padding": "SAME",
                "feature_group_count": 2,
                "dimension_numbers": IMAGES,
            },
        ),
        ((3, 7, 3, 3), {"window_strides": (1, 1), "padding": "SAME"}),
    ],
    ids=["same", "strides", "dilation", "groups", "channels-first"],
)
def test_values_and_derivatives_are_those_of_jax(shape: tuple, options: dict):
    array, kernel = standard_normal(KEYS[0], (2, 7, 6, 4)), jax.random.normal(KEYS[1], shape)
    plain = partial(lax.conv_general_dilated, **options)
    bound = partial(convolutions.bind, equation(plain, array, kernel))
    steps = jax.random.normal(KEYS[2], array.shape), jax.random.normal(KEYS[3], shape)
    found, expected = (jax.jvp(fun, (array, kernel), steps) for fun in (bound, plain))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    back, other = (jax.vjp(fun, array, kernel)[1](expected[0]) for fun in (bound, plain))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-3), back, other)


@pytest.mark.slow
def test_derivatives_in_a_loop_have_a_kernel_that_is_fast_on_cpus():
    array, kernel = standard_normal(KEYS[0], (2, 7, 6, 4)), standard_normal(KEYS[1], (3, 3, 4, 5))
    plain = partial(lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=IMAGES)
    bound = partial(convolutions.bind, equation(plain, array, kernel))

    def labels(fun) -> set[str]:
        def pulled(array: jax.Array, kernel: jax.Array) -> jax.Array:
            value, pull = jax.vjp(lambda array: fun(array, kernel), array)
            return lax.map(lambda factor: pull(value * factor)[0], jnp.arange(3.0))

        return set(
            re.findall(r"dim_labels=(\S+?),", jax.jit(pulled).lower(array, kernel).compile().as_text())
        )

    assert labels(bound) == {"b01f_01io->b01f"}
    assert len(labels(plain)) == 2  # once it is one, the rule is not needed
