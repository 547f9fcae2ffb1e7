"""Rematerialization of random draws: the backward pass draws again, so no mask is stored."""

from collections.abc import Callable, Sequence
from functools import partial, wraps

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks
from jaxdrop._types import ArrayLike, Bits, Key, PyTree, Rate


def redraw_in_backward(
    *static: str, keeps: str | None = None
) -> Callable[[Callable], Callable[..., jax.Array]]:
    """Turns `f(seed, x, level, **static)` into `f(key, x, level, **static)`, redrawn in the backward pass.

    The key is used once, outside the part that the backward pass repeats. Only the seed, 8 bytes,
    is stored. `jax.checkpoint` keeps `jvp` and higher derivatives, which a custom derivative would
    lose. Under `jit`, eager calls do not store the bits either.

    The two words of a Threefry key are stored as scalars: as an array, XLA would copy the words of
    every site together in a separate GPU kernel.

    Args:
      *static: Names of the static options.
      keeps: The name, by `checkpoint_name`, of values that are stored too.
    """
    policy = None if keeps is None else jax.checkpoint_policies.save_only_these_names(keeps)

    def decorate(fun: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        @partial(jax.jit, static_argnames=static)
        @wraps(fun)
        def call(key: Key, x: jax.Array, level: jax.Array, **options) -> jax.Array:
            seed = _bits.consume(key)
            words = tuple(seed.words) if seed.words.shape == (2,) else seed.words

            def draw_and_apply(
                words: jax.Array | tuple[jax.Array, ...], x: jax.Array, level: jax.Array
            ) -> jax.Array:
                own = _bits.Seed(jnp.asarray(words), seed.impl)
                return fun(own, x, level, **options)

            return jax.checkpoint(draw_and_apply, policy=policy)(words, x, level)

        def checked(key: Key, *data_and_level: PyTree, **options: PyTree) -> jax.Array:
            return call(_checks.check_key(key), *data_and_level, **options)

        return checked

    return decorate


def all_or_nothing(x: jax.Array, rate: Rate) -> jax.Array:
    """Returns `x` for rate 0 and zeros for rate 1."""
    return x if _checks.is_scalar(rate, 0) else jnp.zeros_like(x)


def drop_elements(
    drop: Callable[..., jax.Array],
    key: Key,
    x: ArrayLike,
    rate: Rate,
    broadcast_dims: Sequence[int],
    bits: Bits,
) -> jax.Array:
    """Checks the arguments of `dropout` and calls `drop(key, x, (draw, scale), shape=)`."""
    x = _checks.check_floating(x)
    shape = _checks.check_shared(x.shape, broadcast_dims)
    rate = _checks.check_rate(rate)
    draw = _checks.prepare(rate, shape, bits)
    if _checks.is_trivial_rate(rate):
        return all_or_nothing(x, rate)
    scale = _checks.scale_of(draw, x.dtype)
    return drop(key, x, (draw, scale), shape=shape)
