"""How every regularizer meets its key: drawn forward, drawn again backward, never stored."""

from collections.abc import Callable
from functools import partial, wraps

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks
from jaxdrop._types import Key, Rate


def redraw_in_backward(*static: str) -> Callable[[Callable], Callable[..., jax.Array]]:
    """Makes `f(key, x, level, **static)` of `f(seed, x, level, **static)`.

    The key is used once, outside the part that the backward pass repeats; of the draw itself
    only the seed is kept, 8 bytes. `jax.checkpoint` rather than a custom derivative, so that
    `jvp` and higher derivatives work. Jitted, so that eager calls do not store the bits either.
    """

    def decorate(fun: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        @partial(jax.jit, static_argnames=static)
        @wraps(fun)
        def call(key: Key, x: jax.Array, level: jax.Array, **options) -> jax.Array:
            return jax.checkpoint(partial(fun, **options))(_bits.consume(key), x, level)

        return call

    return decorate


def all_or_nothing(x: jax.Array, rate: Rate) -> jax.Array:
    """The result of a trivial rate: `x` itself where all is kept, zeros where all is dropped."""
    return x if _checks.is_scalar(rate, 0) else jnp.zeros_like(x)
