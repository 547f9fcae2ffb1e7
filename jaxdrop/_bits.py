"""Counter-mode random bits: Threefry-2x32 with 20 rounds, laid out along the array's own shape.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011. A block turns a key and a
64-bit counter into 64 bits. The counter of an element consists of its row (the row-major index over
the leading axes) and its place along the last axis. So an element depends only on the key and its
own index: it is the same on every backend, with or without `jit`, and under any sharding. Axes of
size one do not count.

One block serves as many neighbors along the last axis as its two words have draws of a width:
eight of 8 bits, four of 16, two of 24. The draws lie in a word from its low end, those of 24 bits
at its high end.
"""

import math
import operator
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from jaxdrop import _balanced, _indices, _visible
from jaxdrop._quantiles import normal_quantile
from jaxdrop._types import ArrayLike, Key, Numeric

# Threefry's own constants.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
# How many elements a block serves, by the width of a draw.
_LANES = {8: 8, 16: 4, 24: 2}
_VECTOR = 32  # bytes of a mask that LLVM's loop computes at once
_U32 = np.uint32


@partial(jax.tree_util.register_dataclass, data_fields=["words"], meta_fields=["impl"])
@dataclass(frozen=True)
class Seed:
    """The words of a used key, which can be read repeatedly."""

    words: jax.Array
    impl: Hashable


def consume(key: Key) -> Seed:
    """Uses the key once, as JAX's key-reuse checker counts, and returns its words.

    The draw of size zero registers the use and costs nothing. A repeated draw, as in a backward
    pass, reads the words and raises no false alarm.
    """
    jax.random.bits(key, (0,))
    return Seed(words=jax.random.key_data(key), impl=jax.random.key_impl(key))


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
    """The two words that key the blocks; four words, as `rbg` has, are hashed to two.

    Draws of a balanced key need `_balanced.turned` on the words of their blocks.
    """
    if words.shape[-1] == 2 or _balanced.is_balanced(words):
        return words[0], words[1]
    return threefry((words[0], words[1]), (words[2], words[3]))


def block_key(seed: Seed) -> jax.Array:
    """The two words that key the blocks, `[2]`, for kernels that compute blocks themselves."""
    return jnp.stack(_key_pair(seed.words))


def _draw(word: jax.Array, index: Numeric, width: int) -> jax.Array:
    """The draw number `index` of a word."""
    if width == 24:
        return word >> _U32(8)
    return (word >> (index * _U32(width))) & _U32(2**width - 1)


def _draw_of_lane(
    words: jax.Array, block: tuple[jax.Array, jax.Array], lane: jax.Array, width: int
) -> jax.Array:
    """The draw number `lane` of a block of the key with these words."""
    half = _U32(_LANES[width] // 2)
    return _draw(_balanced.turned(jnp.where(lane < half, *block), words, width), lane % half, width)


def _draws_at(words: jax.Array, row: jax.Array, place: jax.Array, width: int) -> jax.Array:
    """The draws of `width` bits at these indices; each computes its own block."""
    lanes = _U32(_LANES[width])
    block = threefry(_key_pair(words), (row, place // lanes))
    return _draw_of_lane(words, block, place % lanes, width)


@partial(jax.jit, static_argnames=("shape", "width"))
def _bits_by_element(words: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """One draw per element; each computes its own block."""
    return _draws_at(words, *_indices.row_and_place(shape), width)


@partial(jax.jit, static_argnames=("shape", "width"))
def _bits_by_block_gpu(words: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """`_bits_by_element` for GPUs, where a thread handles four neighbors and computes their block once.

    The compiler must see that neighbors share a block, so the last axis is indexed by parts of a
    block, as large as divide the axis, and lanes of a part. The parts of an odd axis are single
    elements, and each computes its block. Four neighbors may then lie in three blocks, and the
    compiler sees that only in flat arrays, which a fusion with others of the shape undoes.

    The indices are reshaped, not the draws: XLA does not fuse values that are used twice, as by
    `normal_quantile`, across a reshape. Values that depend on one index alone are hidden from XLA.
    """
    lanes = _LANES[width]
    size = max(size for size in (1, 2, 4, 8) if lanes % size == 0 and shape[-1] % size == 0)
    parts = lanes // size
    coordinates = [
        coordinate.reshape(shape)
        for coordinate in _indices.coordinates((*shape[:-1], shape[-1] // size, size))
    ]
    first, second = _key_pair(words)
    together = reduce(operator.xor, coordinates) + first
    *leading, part, lane = (_hide_dependence_from_xla(coordinate, together) for coordinate in coordinates)
    place, lane = part // _U32(parts), part % _U32(parts) * _U32(size) + lane
    block = threefry(
        (_hide_dependence_from_xla(first, place), second), (_indices.row_major(leading, shape[:-1]), place)
    )
    return _draw_of_lane(words, block, lane, width)


def _hide_dependence_from_xla(index: jax.Array, other: jax.Array) -> jax.Array:
    """Returns `index`, in a form that XLA takes for a function of `other` too.

    XLA computes values that vary along one axis only, or with the key only, in a separate kernel and
    reads them from memory, where it cannot tell that neighbors are equal. LLVM, which runs later,
    cancels both operations.
    """
    return (index ^ other) ^ other


def _element_draws(words: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """One draw per element, in a form that fuses with its consumer."""
    alone = partial(_bits_by_element, shape=shape, width=width)
    shared = partial(_bits_by_block_gpu, shape=shape, width=width)
    return lax.platform_dependent(words, cuda=shared, rocm=shared, default=alone)


@partial(jax.jit, static_argnames=("shape", "width"))
def _below_packed(words: jax.Array, threshold: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """`draw < threshold`, with the decisions of a block packed into a byte."""
    blocks = (*shape[:-1], -(-shape[-1] // _LANES[width]))
    return below_packed_at(words, threshold, *_indices.row_and_place(blocks), width)


def below_packed_at(
    words: jax.Array, threshold: ArrayLike, row: jax.Array, place: jax.Array, width: int
) -> jax.Array:
    """The decisions of whole blocks, given by row and place, each block's in one byte from its low bit.

    XLA compiles these operations again for every draw in a program, and they dominate its compile
    time. So they are single `lax` operations, without the composite functions of `jax.numpy`.
    """
    lanes = _LANES[width]
    packed = jnp.zeros(jnp.broadcast_shapes(row.shape, place.shape), _U32)
    for half, word in enumerate(threefry(_key_pair(words), (row, place))):
        word = _balanced.turned(word, words, width)
        for index in range(lanes // 2):
            kept = (_draw(word, _U32(index), width) < threshold).astype(_U32)
            packed = packed | (kept << _U32(half * lanes // 2 + index))
    return packed.astype(jnp.uint8)


@partial(jax.jit, static_argnames=("shape", "width"))
def _below_pairs(words: jax.Array, threshold: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """`_below_packed`, with two neighboring blocks in a byte, for a last axis of whole pairs.

    LLVM's loop is faster with two hashes; an axis for the pair keeps one in the program's text.
    """
    lanes = _LANES[width]
    *leading, pair, half = _indices.coordinates((*shape[:-1], shape[-1] // (2 * lanes), 2))
    row, place = _indices.row_major(leading, shape[:-1]), pair * _U32(2) + half
    packed = below_packed_at(words, threshold, row, place, width) << (half * _U32(lanes)).astype(jnp.uint8)
    return lax.reduce(packed, np.uint8(0), lax.bitwise_or, (len(shape),))


def _below_by_blocks(words: jax.Array, threshold: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """Draws the blocks in a separate loop, and unpacks them where they are used.

    Otherwise XLA would inline the blocks into the loop over the elements and compute each block
    again for every element. `_below_pairs` is slower where a device's rows are not whole vectors.
    """
    lanes, pack, dtype = _LANES[width], _below_packed, np.uint8
    whole = shape[-1] % (2 * lanes * _VECTOR * jax.device_count()) == 0
    if whole and lanes < 8 and not _balanced.is_balanced(words):
        lanes, pack, dtype = 2 * lanes, _below_pairs, _U32
    with set_xla_metadata(inlineable="false"):
        packed = pack(words, threshold, shape, width)
    lane = lax.broadcasted_iota(dtype, (*packed.shape, lanes), packed.ndim)
    mask = (packed[..., None].astype(dtype) >> lane) & dtype(1) != 0
    mask = mask.reshape(*shape[:-1], packed.shape[-1] * lanes)
    return mask if mask.shape == shape else mask[..., : shape[-1]]


def _below_by_elements(
    words: jax.Array, threshold: ArrayLike, *, shape: tuple[int, ...], width: int
) -> jax.Array:
    return _element_draws(words, shape, width) < threshold


def bernoulli_packed(seed: Seed, threshold: ArrayLike, shape: Sequence[int], width: int) -> jax.Array:
    """A boolean mask: whether each draw of `width` (8, 16 or 24) bits is below the threshold.

    `threshold` is in [0, 2**width]: a scalar, or an array that broadcasts to `shape`. Two
    implementations give the same mask. On a CPU with a scalar threshold, each block is drawn once
    for its elements. Elsewhere draws fuse with their consumer. They also do where the last axis may
    be sharded and is not a multiple of a block's elements: cropping blocks would need communication
    between neighboring devices.
    """
    if seed.impl == _visible.IMPL:
        return _visible.bernoulli(seed.words, jnp.float32(threshold) * np.float32(2.0**-width), shape)
    dense = _indices.squeezed(shape)
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
    """`bernoulli_packed` for elements given by row and place, possibly repeated."""
    return _draws_at(seed.words, row, place, width) < threshold


def lanes(width: int) -> int:
    """How many elements a block serves; 1 for a width that has no blocks."""
    return _LANES.get(width, 1)


def bernoulli_blocks(seed: Seed, threshold: ArrayLike, shape: tuple[int, ...], width: int) -> jax.Array:
    """The mask of `bernoulli_packed`, the decisions of a block in one byte from its low bit.

    For a scalar threshold and a last axis that is a multiple of a block's elements.
    """
    return _below_packed(seed.words, threshold, shape, width)


def bernoulli_like_flax(seed: Seed, p: ArrayLike, shape: Sequence[int]) -> jax.Array:
    """`jax.random.bernoulli(key, p, shape)`, bit for bit: the mask of Flax's Dropout.

    It has only JAX's guarantees: with keys of other implementations, or of Threefry that is not
    partitionable, a mask may depend on `vmap` and on the sharding.
    """
    if seed.impl == _visible.IMPL:
        return _visible.bernoulli(seed.words, p, shape)
    if not draws_of_flax_have_indices(seed, shape):
        return jax.random.bernoulli(jax.random.wrap_key_data(seed.words, impl=seed.impl), p, shape)
    return bernoulli_like_flax_at(seed, p, _indices.row_major(_indices.coordinates(tuple(shape)), shape))


def draws_of_flax_have_indices(seed: Seed, shape: Sequence[int]) -> bool:
    """Whether JAX computes one Threefry block per element, from its row-major index in 32 bits."""
    config: Any = jax.config  # its flags are attributes that no stub declares
    own = seed.impl == "threefry2x32" and config.jax_threefry_partitionable
    known = all(isinstance(size, int) for size in shape)
    return own and not config.jax_enable_x64 and known and math.prod(shape) <= _indices.LIMIT


def bernoulli_like_flax_at(seed: Seed, p: ArrayLike, index: jax.Array) -> jax.Array:
    """`bernoulli_like_flax` for elements given by their indices, where they have some; unrolled."""
    high, low = threefry(_key_pair(seed.words), (jnp.zeros((), _U32), index))
    return ((high ^ low) >> _U32(9)) < jnp.ceil(p * 2.0**23).astype(_U32)


@partial(jax.jit, static_argnames="count")
def split(key: Key, count: int) -> list[jax.Array]:
    """Splits a key into `count` Threefry keys, whatever its implementation, so that `vmap` equals a loop.

    Keys of a balanced set give such keys.
    """
    seed = consume(key)
    if seed.impl == _visible.IMPL:
        return list(map(_visible.key, _visible.split(seed.words, count)))
    return [jax.random.wrap_key_data(each.words, impl=each.impl) for each in split_seed(seed, count)]


def split_seed(seed: Seed, count: int) -> list[Seed]:
    """Threefry seeds whose blocks use a place along the last axis that no element of `seed` uses."""
    if seed.impl == _visible.IMPL:
        return [Seed(words, seed.impl) for words in _visible.split(seed.words, count)]
    pair = _key_pair(seed.words)
    last = jnp.full((), _indices.LIMIT - 1, _U32)
    blocks = (jnp.stack(threefry(pair, (jnp.full((), i, _U32), last))) for i in range(count))
    if _balanced.is_balanced(seed.words):
        return [Seed(jnp.concatenate([block, seed.words[2:]]), seed.impl) for block in blocks]
    return [Seed(block, "threefry2x32") for block in blocks]


def words(seed: Seed, shape: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """Two uint32 words per element, for random orders and positions."""
    block = threefry(_key_pair(seed.words), _indices.row_and_place(_indices.squeezed(shape)))
    first, second = (_balanced.turned(word, seed.words, 32).reshape(shape) for word in block)
    return first, second


def order(seed: Seed, shape: Sequence[int]) -> jax.Array:
    """A random permutation of the places along the last axis, per row; of 64 bits, so ties are negligible."""
    places = lax.broadcasted_iota(jnp.int32, tuple(shape), len(shape) - 1)
    return lax.sort((*words(seed, shape), places), num_keys=2)[2]


def uniform(seed: Seed, shape: Sequence[int]) -> jax.Array:
    """Float32 draws in the open interval (0, 1), symmetric about 0.5: odd multiples of 2**-24."""
    if seed.impl == _visible.IMPL:
        return _visible.uniform(seed.words, shape)
    draws = _element_draws(seed.words, _indices.squeezed(shape), 24) >> _U32(1)
    return ((draws.astype(jnp.float32) + 0.5) * np.float32(2.0**-23)).reshape(shape)


def normal(seed: Seed, shape: Sequence[int]) -> jax.Array:
    """Standard normal float32 draws, two to a block, symmetric about zero and within 5.41.

    Normal quantiles of the odd multiples of 2**-25 in (0, 1), whose mean is exactly zero.
    """
    if seed.impl == _visible.IMPL:
        return _visible.normal(seed.words, shape)
    return normal_quantile(_element_draws(seed.words, _indices.squeezed(shape), 24)).reshape(shape)
