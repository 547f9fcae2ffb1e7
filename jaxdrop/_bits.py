"""Counter-mode random bits: Threefry-2x32 with 20 rounds, laid out along the array's own shape.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011. A block turns a key and a
64-bit counter into 64 bits. The counter of an element is made of its row (the row-major index
over the leading axes) and its place along the last axis, so an element is a function of the key
and of its own index: the same on every backend, under `jit` or not, under any sharding. Axes of
size one do not count.

One block serves as many neighbors along the last axis as its two words have draws of a width:
eight of 8 bits, four of 16, two of 24. The draws lie in a word from its low end, those of 24 bits
at its high end.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from jaxdrop._types import ArrayLike, Key, Numeric

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_LIMIT = 2**32
# How many elements a block serves, by the width of a draw.
_LANES = {8: 8, 16: 4, 24: 2}
_U32 = np.uint32


@partial(jax.tree_util.register_dataclass, data_fields=["words"], meta_fields=["impl"])
@dataclass(frozen=True)
class Seed:
    """What is left of a key once it is used: its words, which may be read again and again."""

    words: jax.Array
    impl: str


def consume(key: Key) -> Seed:
    """Uses the key once, in the eyes of JAX's key-reuse checker, and keeps its words.

    The draw of size zero registers the use and costs nothing. A repeated draw, as in a backward
    pass, reads the words and raises no false alarm.
    """
    jax.random.bits(key, (0,))
    return Seed(words=jax.random.key_data(key), impl=str(jax.random.key_impl(key)))


def threefry(
    key: tuple[jax.Array, jax.Array], counter: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32-20, unrolled: the rolled loop that JAX emits on the CPU does not vectorize."""
    k0, k1 = key
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = counter[0] + k0, counter[1] + k1
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << _U32(rotation)) | (x1 >> _U32(32 - rotation)))
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + _U32(group + 1)
    return x0, x1


def _key_pair(words: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two words that key the blocks; four words, as `rbg` has, are hashed to two."""
    if words.shape[-1] == 2:
        return words[0], words[1]
    return threefry((words[0], words[1]), (words[2], words[3]))


def _coordinates(shape: tuple[int, ...]) -> list[jax.Array]:
    return [lax.broadcasted_iota(_U32, shape, axis) for axis in range(len(shape))]


def _row_major(coordinates: Sequence[jax.Array], sizes: Sequence[int]) -> jax.Array:
    """The row-major index of coordinates along axes of some sizes, modulo 2**32."""
    index, stride = jnp.zeros((), _U32), 1
    for coordinate, size in zip(reversed(coordinates), reversed(sizes), strict=True):
        # A size that only the call knows, as in an exported function, is an array.
        known = isinstance(stride, int)
        index = index + coordinate * (_U32(stride % _LIMIT) if known else jnp.asarray(stride).astype(_U32))
        stride *= size
    return index


def _row_and_place(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """For each element, the index of its row and its place along the last axis."""
    known = all(isinstance(size, int) for size in shape)
    if known and (math.prod(shape[:-1]) > _LIMIT or shape[-1] > _LIMIT):
        raise ValueError(f"`shape` must have at most 2**32 rows of at most 2**32 elements, got {shape}.")
    *leading, place = _coordinates(shape)
    return _row_major(leading, shape[:-1]), place


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape without its axes of size one; a scalar counts as one element."""
    return tuple(size for size in shape if size != 1) or (1,)


def _draw(word: jax.Array, index: Numeric, width: int) -> jax.Array:
    """The draw number `index` of a word."""
    if width == 24:
        return word >> _U32(8)
    return (word >> (index * _U32(width))) & _U32(2**width - 1)


def _draw_of_lane(block: tuple[jax.Array, jax.Array], lane: jax.Array, width: int) -> jax.Array:
    """The draw number `lane` of a block."""
    half = _U32(_LANES[width] // 2)
    return _draw(jnp.where(lane < half, *block), lane % half, width)


def _draws_at(words: jax.Array, row: jax.Array, place: jax.Array, width: int) -> jax.Array:
    """The draws of `width` bits of chosen elements: each computes its own block."""
    lanes = _U32(_LANES[width])
    return _draw_of_lane(threefry(_key_pair(words), (row, place // lanes)), place % lanes, width)


@partial(jax.jit, static_argnames=("shape", "width"))
def _bits_by_element(words: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """The draw of each element, which computes its own block."""
    return _draws_at(words, *_row_and_place(shape), width)


@partial(jax.jit, static_argnames=("shape", "width"))
def _bits_by_block_gpu(words: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """The same for a GPU, where a thread of XLA's loops has four neighbors: it computes a block once.

    The compiler must see that their block is one: so the last axis is counted by blocks and lanes,
    if it is a multiple of a block's elements. The indices, not the draws, get their shape again:
    behind a reshape XLA fuses nothing that is used twice, such as the argument of `erf_inv`, and
    would keep the draws in an array. And all that depends on one index alone is veiled.
    """
    lanes = _LANES[width]
    whole = shape[-1] % lanes == 0
    counted = (*shape[:-1], shape[-1] // lanes, lanes) if whole else shape
    coordinates = [coordinate.reshape(shape) for coordinate in _coordinates(counted)]
    first, second = _key_pair(words)
    together = reduce(operator.xor, coordinates) + first
    *leading, last = (_hide_dependence_from_xla(coordinate, together) for coordinate in coordinates)
    if whole:
        *leading, place = leading
        lane = last
    else:
        place, lane = last // _U32(lanes), last % _U32(lanes)
    block = threefry(
        (_hide_dependence_from_xla(first, place), second), (_row_major(leading, shape[:-1]), place)
    )
    return _draw_of_lane(block, lane, width)


def _hide_dependence_from_xla(index: jax.Array, other: jax.Array) -> jax.Array:
    """The index itself, which XLA takes for a function of `other`, too.

    What varies along one axis alone, or with the key alone, XLA computes in a kernel of its own and
    reads from memory; and of what is read, nothing is known to be the same for neighbors. LLVM,
    whose turn is later, cancels both operations.
    """
    return (index ^ other) ^ other


def _element_draws(words: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """A draw for each element, in a form that fuses with what is done with it."""
    alone = partial(_bits_by_element, shape=shape, width=width)
    shared = partial(_bits_by_block_gpu, shape=shape, width=width)
    return lax.platform_dependent(words, cuda=shared, rocm=shared, default=alone)


@partial(jax.jit, static_argnames=("shape", "width"))
def _below_packed(words: jax.Array, threshold: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """`draw < threshold`, the decisions of a block to a byte.

    XLA compiles these operations anew for every place that draws, and they are most of what a
    draw costs to compile: none but `lax`'s own, no function of `jax.numpy` that is one of several.
    """
    lanes = _LANES[width]
    blocks = (*shape[:-1], -(-shape[-1] // lanes))
    packed = jnp.zeros(blocks, _U32)
    for half, word in enumerate(threefry(_key_pair(words), _row_and_place(blocks))):
        for index in range(lanes // 2):
            kept = (_draw(word, _U32(index), width) < threshold).astype(_U32)
            packed = packed | (kept << _U32(half * lanes // 2 + index))
    return packed.astype(jnp.uint8)


def _below_by_blocks(
    words: jax.Array, threshold: jax.Array, *, shape: tuple[int, ...], width: int
) -> jax.Array:
    """Draws a whole block for its elements in a loop of its own, and unpacks where it is used.

    Left to itself, XLA would paste the blocks into the loop over the elements and compute each
    of them anew for every element.
    """
    with set_xla_metadata(inlineable="false"):
        packed = _below_packed(words, threshold, shape, width)
    lanes = lax.broadcasted_iota(jnp.uint8, (*packed.shape, _LANES[width]), packed.ndim)
    mask = (packed[..., None] >> lanes) & jnp.uint8(1) != 0
    mask = mask.reshape(*shape[:-1], packed.shape[-1] * _LANES[width])
    return mask if mask.shape == shape else mask[..., : shape[-1]]


def _below_by_elements(
    words: jax.Array, threshold: ArrayLike, *, shape: tuple[int, ...], width: int
) -> jax.Array:
    return _element_draws(words, shape, width) < threshold


def bernoulli_packed(seed: Seed, threshold: ArrayLike, shape: Sequence[int], width: int) -> jax.Array:
    """Whether each draw of `width` (8, 16 or 24) bits is below the threshold: a boolean mask.

    `threshold` lies in [0, 2**width]; it is a scalar, or an array that broadcasts to `shape`.
    Two implementations give the same mask: blocks that are drawn once for their elements where
    the threshold is a scalar and the backend a CPU; draws that fuse with what is done with them
    everywhere else. So too where the last axis is no multiple of a block's elements and might be
    sharded: to cut the blocks to size would make neighboring devices talk.
    """
    dense = _squeezed(shape)
    if threshold.ndim:
        threshold = jnp.broadcast_to(threshold, shape).reshape(dense)
    if threshold.ndim or (dense[-1] % _LANES[width] != 0 and jax.device_count() > 1):
        return _below_by_elements(seed.words, threshold, shape=dense, width=width).reshape(shape)
    options = {"shape": dense, "width": width}
    mask = lax.platform_dependent(
        seed.words,
        threshold,
        cpu=partial(_below_by_blocks, **options),
        default=partial(_below_by_elements, **options),
    )
    return mask.reshape(shape)


def bernoulli_at(seed: Seed, threshold: ArrayLike, row: jax.Array, place: jax.Array, width: int) -> jax.Array:
    """`bernoulli_packed` for elements that are named by a row and a place, and may be named twice."""
    return _draws_at(seed.words, row, place, width) < threshold


def bernoulli_like_flax(seed: Seed, p: ArrayLike, shape: Sequence[int]) -> jax.Array:
    """`jax.random.bernoulli(key, p, shape)`, bit for bit: the mask of Flax's Dropout.

    It promises what JAX promises, no more: with a key of another implementation, or of Threefry
    that is not partitionable, a mask may depend on `vmap` and on the sharding.

    Where JAX would spend a Threefry block an element, so does this, but unrolled.
    """
    config: Any = jax.config
    own = seed.impl == "threefry2x32" and config.jax_threefry_partitionable
    known = all(isinstance(size, int) for size in shape)
    if not own or config.jax_enable_x64 or not known or math.prod(shape) > _LIMIT:
        return jax.random.bernoulli(jax.random.wrap_key_data(seed.words, impl=seed.impl), p, shape)
    index = _row_major(_coordinates(tuple(shape)), shape)
    high, low = threefry(_key_pair(seed.words), (jnp.zeros((), _U32), index))
    return ((high ^ low) >> _U32(9)) < jnp.ceil(p * 2.0**23).astype(_U32)


@partial(jax.jit, static_argnames="count")
def split(key: Key, count: int) -> list[jax.Array]:
    """Some keys of one key, of Threefry whatever the key is, so that `vmap` is the loop.

    Their blocks have a place along the last axis that no element's block has.
    """
    pair = _key_pair(consume(key).words)
    last = jnp.full((), _LIMIT - 1, _U32)
    blocks = (jnp.stack(threefry(pair, (jnp.full((), i, _U32), last))) for i in range(count))
    return [jax.random.wrap_key_data(block, impl="threefry2x32") for block in blocks]


def words(seed: Seed, shape: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """Two uint32 words an element, a block for each: enough to order or to place things by."""
    first, second = threefry(_key_pair(seed.words), _row_and_place(_squeezed(shape)))
    return first.reshape(shape), second.reshape(shape)


def order(seed: Seed, shape: Sequence[int]) -> jax.Array:
    """For each row, the places along the last axis in a random order, all orders equally likely.

    Sorted by 64 bits, so that ties are beyond notice.
    """
    places = lax.broadcasted_iota(jnp.int32, tuple(shape), len(shape) - 1)
    return lax.sort((*words(seed, shape), places), num_keys=2)[2]


def uniform(seed: Seed, shape: Sequence[int]) -> jax.Array:
    """Float32 draws in the open interval (0, 1), symmetric about a half: odd multiples of 2**-24."""
    draws = _element_draws(seed.words, _squeezed(shape), 24) >> _U32(1)
    return ((draws.astype(jnp.float32) + 0.5) * np.float32(2.0**-23)).reshape(shape)


def normal(seed: Seed, shape: Sequence[int]) -> jax.Array:
    """Standard normal float32 draws, two to a block, symmetric about zero and within 5.42.

    The inverse of the distribution function at the odd multiples of 2**-24 in (-1, 1), whose
    mean is zero exactly.
    """
    bits = _element_draws(seed.words, _squeezed(shape), 24)
    centered = bits.astype(jnp.int32) * 2 - (2**24 - 1)
    uniform = centered.astype(jnp.float32) * np.float32(2.0**-24)
    return (np.float32(math.sqrt(2)) * lax.erf_inv(uniform)).reshape(shape)
