"""Names of draws and places in the source."""

import jax
import jax.numpy as jnp

from jaxdrop.mc._moments import places


def equation(scope: str):
    def fun(x: jax.Array) -> jax.Array:
        with jax.named_scope(scope):
            return jnp.sin(x)

    return jax.make_jaxpr(fun)(1.0).jaxpr.eqns[0]


def test_the_line_is_that_of_the_caller():
    assert places.place([equation("a")]).startswith("test_places.py:")


def test_names_are_the_longest_path_that_fits():
    paths = ("Dropout_0", "block/Dropout_0", "block")
    assert places.name([equation("Net/block/Dropout_0")], "bernoulli", paths) == "block/Dropout_0"
    assert places.name([equation("Net/Dropout_0")], "bernoulli", paths) == "Dropout_0"
    assert places.name([equation("Net/Other")], "bernoulli", paths).startswith("bernoulli at test_places.py:")
