"""The one way in which a regularizer meets its key: drawn in the forward pass, drawn again in
the backward pass, never stored."""

from collections.abc import Callable
from functools import partial, wraps

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks


def redrawn(*static: str) -> Callable[[Callable], Callable[..., jax.Array]]:
    """Makes `f(key, x, level, **static)` of `f(seed, x, level, **static)`.

    The key is used once, outside the part that the backward pass repeats; of the draw itself
    only the seed is kept, 8 bytes. `jax.checkpoint` rather than a custom derivative, so that
    `jvp` and higher derivatives work. Jitted, so that eager calls do not store the bits either.
    """

    def decorate(fun: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        @partial(jax.jit, static_argnames=static)
        @wraps(fun)
        def call(key: chex.PRNGKey, x: jax.Array, level: jax.Array, **options) -> jax.Array:
            return jax.checkpoint(partial(fun, **options))(_bits.consume(key), x, level)

        return call

    return decorate


def trivial(x: jax.Array, rate: chex.Numeric) -> jax.Array | None:
    """The result where a concrete scalar rate leaves nothing to draw: all kept, or all dropped."""
    if _checks.is_concrete(rate) and np.ndim(rate) == 0:
        if rate == 0:
            return x
        if rate == 1:
            return jnp.zeros_like(x)
    return None
