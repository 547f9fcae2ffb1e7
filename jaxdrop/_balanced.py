"""Balanced draws: keys whose draws are spread evenly over the samples of a set.

A set has 2**m samples that share the two words of a Threefry key and differ in their place j. Each draw of
a sample is a word w of the shared hash, turned for this place: its top m bits are combined by exclusive or
with the product alpha j in the Galois field of 2**m elements, where alpha, never 0, is read from low bits
of w that stay as they are.

- For one place, turning is a bijection of words: a single sample has exactly the law of an independent one.
- For one word, alpha j takes each value once: the top m bits of each draw take each value once in the set.
- Two draws with different alphas are balanced jointly: their products with j differ.

Such keys are keys of JAX of their own kind, so that `jax.random` and the modules of Flax draw balanced too. A
key holds the products of j with the powers of two, one for each bit of alpha.

Owen, "Monte Carlo variance of scrambled net quadrature", 1997; MacWilliams and Sloane, "The theory of
error-correcting codes", 1977 (simplex codes).
"""

from collections.abc import Hashable
from functools import cache

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

# Primitive polynomials of the Galois fields, by the size of a set.
_POLYNOMIALS = {8: 0b1011, 16: 0b10011, 32: 0b100101, 64: 0b1000011, 128: 0b10001001, 256: 0b100011101}
SIZES = tuple(_POLYNOMIALS)
# Words of a Threefry key, which come first.
_WORDS = 2
# The next m bits of a draw are turned too, by alpha j times two to this power in the field: then the places
# of numbers within their interval of 2**-m are balanced as well.
_SECOND = 3
# Bits that choose alpha where the first ones are all 0, so that no alpha is much more frequent.
_SPARE = 2
_U32 = np.uint32


def balanced_key(words: jax.Array, place: jax.Array, size: int) -> jax.Array:
    """The key of one sample of a set.

    Args:
      words: The two words of a Threefry key, which the samples of the set share.
      place: The sample's place in the set, uint32, below `size`.
      size: The number of samples in the set, one of `SIZES`.
    """
    width, product, products = size.bit_length() - 1, place.astype(_U32), []
    for _ in range(width + _SECOND):
        products.append(product)
        carry = product >> _U32(width - 1)
        product = (product << _U32(1)) ^ carry * _U32(_POLYNOMIALS[size])
    high, low = (jnp.stack(products[start : start + width]) for start in (0, _SECOND))
    patterns = (high << _U32(32 - width)) | (low << _U32(32 - 2 * width))
    return jax.random.wrap_key_data(jnp.concatenate([words, patterns]), impl=_kind(size))


def is_balanced(words: jax.Array) -> bool:
    """Whether these are the words of a key of a set."""
    return words.shape[-1] > 4


def turned(word: jax.Array, words: jax.Array, width: int) -> jax.Array:
    """A word of draws of `width` bits, turned for the place of a key with these words.

    Draws of 8 and 16 bits are turned in all lanes of the word at once; others at its high end.
    """
    if not is_balanced(words):
        return word
    bits = words.shape[-1] - _WORDS
    lane = width if width in (8, 16) else 32
    free = lane - bits
    if free * 32 // lane < bits + _SPARE:
        raise ValueError(
            f"`bits` must be at least 16 for balanced sets of {2**bits} samples, got {width}; 8 bits serve "
            "for sets of up to 64."
        )
    ones = _U32(sum(1 << start for start in range(0, 32, lane)))

    def source(number: int) -> jax.Array:
        """One of the bits that stay, at the low end of each lane."""
        shift = _U32(number // free * lane + number % free)
        around = word >> shift if shift < lane else (word >> shift) | (word << _U32(32 - shift))
        return around & ones

    alpha = [source(number) for number in range(bits)]
    is_zero = ones
    for bit in alpha:
        is_zero = is_zero & ~bit
    spare = [is_zero, *(is_zero & source(bits + number) for number in range(_SPARE))]
    for place, bit in enumerate(spare):
        alpha[place] = alpha[place] | bit
    for bit, pattern in zip(alpha, words[_WORDS:], strict=True):
        kept = pattern if lane == 32 else pattern >> _U32(32 - bits) << _U32(free)
        word = word ^ bit * kept
    return word


@cache
def _kind(size: int) -> Hashable:
    """The implementation of the keys of sets of a size: Threefry, with draws turned for the place."""

    def threefry(words: jax.Array) -> jax.Array:
        return jax.random.wrap_key_data(words[:_WORDS], impl="threefry2x32")

    def derived(keys: jax.Array, words: jax.Array) -> jax.Array:
        """The words of other Threefry keys, for the same place."""
        data = jax.random.key_data(keys)
        patterns = words[_WORDS:]
        return jnp.concatenate([data, jnp.broadcast_to(patterns, (*keys.shape, *patterns.shape))], -1)

    def seed(number: jax.Array) -> jax.Array:
        data = jax.random.key_data(jax.random.key(number, impl="threefry2x32"))
        return jnp.pad(data, (0, size.bit_length() - 1))

    def random_bits(words: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
        bits = jax.random.bits(threefry(words), shape, f"uint{max(width, 32)}")
        if width == 64:
            high = turned((bits >> np.uint64(32)).astype(_U32), words, 32)
            return (high.astype(bits.dtype) << np.uint64(32)) | bits & np.uint64(0xFFFFFFFF)
        return (turned(bits, words, 32) >> _U32(32 - width)).astype(f"uint{width}")

    return jax.extend.random.define_prng_impl(
        key_shape=(_WORDS + size.bit_length() - 1,),
        seed=seed,
        split=lambda words, shape: derived(jax.random.split(threefry(words), shape), words),
        random_bits=random_bits,
        fold_in=lambda words, data: derived(jax.random.fold_in(threefry(words), data), words),
        name=f"balanced{size}",
        tag=f"balanced{size}",
    )
