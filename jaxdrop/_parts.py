"""Masks of a part of an array: the mask of the whole array, drawn only where the part is.

The mask of an element depends on the key and on its index in the whole array, so parts can be drawn
one at a time, in any order and on any device.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from jaxdrop import _bits, _checks, _indices, _visible
from jaxdrop._types import ArrayLike, Numeric

_U32 = np.uint32


def can_draw_parts(seed: _bits.Seed, draw: _checks.Draw, whole: Sequence[int]) -> bool:
    """Whether parts can be drawn alone; JAX's own draws can only where they are functions of an index.

    Visible draws, of which moments are computed, are whole.
    """
    if seed.impl == _visible.IMPL:
        return False
    return draw.width != _checks.FLAX_WIDTH or _bits.draws_of_flax_have_indices(seed, whole)


def draw_part(
    seed: _bits.Seed,
    draw: _checks.Draw,
    shape: tuple[int, ...],
    whole: tuple[int, ...],
    starts: Sequence[Numeric],
) -> jax.Array:
    """The part of `draw_mask(seed, draw, whole)` that has this shape and begins at `starts`.

    Args:
      seed: The words of a used key.
      draw: Its threshold is a scalar, or an array that broadcasts to the part.
      shape: The shape of the part.
      whole: The shape of the whole mask, for which `can_draw_parts` holds.
      starts: The index of the part's first element in the whole mask, which may be traced; on each
        axis a multiple of the part's size. Elements beyond the end of an axis have arbitrary decisions.
    """
    if draw.width == _checks.FLAX_WIDTH:
        index = _indices.row_major(_moved(shape, starts), whole)
        return _bits.bernoulli_like_flax_at(seed, draw.threshold, index)
    # Axes of size one do not count.
    axes = [axis for axis, size in enumerate(whole) if not (isinstance(size, int) and size == 1)]
    dense, sizes = tuple(shape[axis] for axis in axes) or (1,), tuple(whole[axis] for axis in axes) or (1,)
    begins = tuple(starts[axis] for axis in axes) or (0,)
    threshold = draw.threshold
    if np.ndim(threshold):
        threshold = jnp.broadcast_to(threshold, shape).reshape(dense)
    *leading, place = _moved(dense, begins)
    row = _indices.row_major(leading, sizes[:-1])
    lanes = _bits.lanes(draw.width)
    cropped = dense[-1] % lanes != 0
    unaligned = cropped and not (isinstance(begins[-1], int) and begins[-1] == 0)
    # Cropping blocks would need communication where the last axis is sharded.
    if np.ndim(threshold) or unaligned or (cropped and jax.device_count() > 1):
        return _bits.bernoulli_at(seed, threshold, row, place, draw.width).reshape(shape)
    return _below_by_blocks(seed.words, threshold, dense, sizes, begins, draw.width).reshape(shape)


def _below_by_blocks(
    words: jax.Array,
    threshold: ArrayLike,
    shape: tuple[int, ...],
    whole: tuple[int, ...],
    starts: tuple[Numeric, ...],
    width: int,
) -> jax.Array:
    """A mask whose blocks are drawn once each, into bytes."""
    lanes = _bits.lanes(width)
    firsts = jnp.stack([jnp.asarray(start).astype(_U32) for start in starts])
    packed = lax.platform_dependent(
        words,
        threshold,
        firsts,
        cpu=partial(_packed_apart, shape=shape, whole=whole, width=width),
        default=partial(_packed, shape=shape, whole=whole, width=width),
    )
    # An AND with constants: on a GPU, XLA's Triton has no right shift.
    bits = (np.uint8(1) << np.arange(lanes, dtype=np.uint8)).reshape((1,) * len(shape) + (lanes,))
    mask = (packed[..., None] & bits != 0).reshape(*shape[:-1], packed.shape[-1] * lanes)
    return mask if mask.shape == shape else mask[..., : shape[-1]]


@partial(jax.jit, static_argnames=("shape", "whole", "width"))
def _packed(
    words: jax.Array,
    threshold: ArrayLike,
    starts: jax.Array,
    *,
    shape: tuple[int, ...],
    whole: tuple[int, ...],
    width: int,
) -> jax.Array:
    lanes = _bits.lanes(width)
    blocks = (*shape[:-1], -(-shape[-1] // lanes))
    firsts = [*starts[:-1], starts[-1] // _U32(lanes)]
    *leading, place = _moved(blocks, firsts)
    return _bits.below_packed_at(words, threshold, _indices.row_major(leading, whole[:-1]), place, width)


def _packed_apart(*args: ArrayLike, **options: tuple[int, ...] | int) -> jax.Array:
    """`_packed` in a separate loop; XLA would inline it into that of the elements."""
    with set_xla_metadata(inlineable="false"):
        return _packed(*args, **options)


def _moved(shape: tuple[int, ...], starts: Sequence[Numeric]) -> list[jax.Array]:
    """The coordinates of a part's elements in the whole array."""
    return [
        coordinate + jnp.asarray(start).astype(_U32)
        for coordinate, start in zip(_indices.coordinates(shape), starts, strict=True)
    ]
