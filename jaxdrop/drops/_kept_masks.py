"""Masks kept for the backward pass on a GPU; elsewhere the backward pass draws them again.

For a GPU, XLA compiles a softmax with Triton, which cannot draw a mask in its kernels: its integers
have no right shift. So the mask of attention weights is written to memory in any case. It is
written once, the decisions of a block in one byte, and the kernels of both passes read the bytes.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Key

# The draw, and the scale of what is kept.
_Scaled = tuple[_checks.Draw, ArrayLike]


def drop_with_kept_mask(key: Key, x: jax.Array, scaled: _Scaled, *, shape: tuple[int, ...]) -> jax.Array:
    """Zeroes dropped elements of `x` and scales the others; the mask is that of `dropout`."""
    return _drop(_checks.check_key(key), x, scaled, shape=shape)


@partial(jax.jit, static_argnames="shape")
def _drop(key: Key, x: jax.Array, scaled: _Scaled, *, shape: tuple[int, ...]) -> jax.Array:
    # The backward pass gets the seed and the kept mask, and uses one of them.
    def dropped(seed: _bits.Seed, kept: jax.Array, x: jax.Array, scaled: _Scaled) -> jax.Array:
        draw, scale = scaled
        return _draw.select_and_scale(x, _mask(seed, kept, draw, shape), scale, draw.width)

    seed = _bits.consume(key)
    return jax.checkpoint(dropped)(seed, _keep(seed, scaled[0], shape), x, scaled)


def _keep(seed: _bits.Seed, draw: _checks.Draw, shape: tuple[int, ...]) -> jax.Array:
    """The mask in bytes on a GPU; elsewhere zeros, which nothing reads and `jit` removes."""

    def drawn(seed: _bits.Seed, draw: _checks.Draw) -> jax.Array:
        if _has_blocks(draw, shape):
            return _bits.bernoulli_blocks(seed, draw.threshold, shape, draw.width)
        return _draw.draw_mask(seed, draw, shape)

    like = jax.eval_shape(drawn, seed, draw)

    def zeros(seed: _bits.Seed, draw: _checks.Draw) -> jax.Array:
        # In `shard_map`, they must vary over the mesh as the mask would.
        zero = jnp.zeros_like(seed.words[0], like.dtype) | jnp.zeros_like(draw.threshold, like.dtype)
        return jnp.broadcast_to(zero, like.shape)

    return lax.platform_dependent(seed, draw, cuda=drawn, rocm=drawn, default=zeros)


def _mask(seed: _bits.Seed, kept: jax.Array, draw: _checks.Draw, shape: tuple[int, ...]) -> jax.Array:
    """The mask, read on a GPU and drawn elsewhere."""

    def read(seed: _bits.Seed, kept: jax.Array, draw: _checks.Draw) -> jax.Array:
        return _unpack(kept, shape, _bits.lanes(draw.width)) if _has_blocks(draw, shape) else kept

    def drawn(seed: _bits.Seed, kept: jax.Array, draw: _checks.Draw) -> jax.Array:
        return _draw.draw_mask(seed, draw, shape)

    return lax.platform_dependent(seed, kept, draw, cuda=read, rocm=read, default=drawn)


def _has_blocks(draw: _checks.Draw, shape: tuple[int, ...]) -> bool:
    """Whether one threshold holds for whole blocks; else a decision is kept as a boolean."""
    lanes = _bits.lanes(draw.width)
    return lanes > 1 and shape != () and shape[-1] % lanes == 0 and np.ndim(draw.threshold) == 0


def _unpack(blocks: jax.Array, shape: tuple[int, ...], lanes: int) -> jax.Array:
    """The decisions; an AND with constants, because XLA's Triton has no right shift."""
    bits = (np.uint8(1) << np.arange(lanes, dtype=np.uint8)).reshape((1,) * blocks.ndim + (lanes,))
    return (blocks[..., None] & bits != 0).reshape(shape)
