"""Word dropout: replaces whole tokens at random. Iyyer et al., 2015; Bowman et al., 2016."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdrop import _checks, masks
from jaxdrop._types import ArrayLike, Bits, Key, Rate


def word_dropout(
    key: Key,
    tokens: ArrayLike,
    rate: Rate,
    *,
    replacement: int,
    protected: Sequence[int] = (),
    bits: Bits = None,
) -> jax.Array:
    """Replaces each token with probability `rate`, for instance by the unknown word.

    Rate 0 is the identity, rate 1 replaces all that is not protected. Integers have no NaN: under
    a traced rate outside [0, 1] every token is kept.

    Args:
      key: A PRNG key, used once.
      tokens: An integer array of any shape.
      rate: The probability of replacing, in [0, 1]; may be traced, or an array that broadcasts to
        `tokens`.
      replacement: The token to put in place.
      protected: Tokens that are never replaced, such as padding and the marks of begin and end.
      bits: Random bits a token: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      An array of the shape and dtype of `tokens`.

    Raises:
      TypeError: If `tokens` or `replacement` are not integers.
      ValueError: If a concrete rate is outside [0, 1] or does not broadcast, or `replacement` does
        not fit the dtype.

    References:
      Iyyer et al., "Deep unordered composition rivals syntactic methods for text classification",
      2015; Bowman et al., "Generating sentences from a continuous space", 2016.

    >>> word_dropout(jax.random.key(1), jnp.arange(6), 0.5, replacement=9, protected=(3,))
    Array([0, 1, 2, 3, 9, 5], dtype=int32)
    """
    tokens = jnp.asarray(tokens)
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"`tokens` must be an integer array, got {tokens.dtype}.")
    limits = jnp.iinfo(tokens.dtype)
    replacement = _checks.check_integer(replacement, "replacement")
    if not limits.min <= replacement <= limits.max:
        raise ValueError(f"`replacement` must fit {tokens.dtype}, got {replacement}.")
    rate = _checks.check_broadcastable(_checks.check_rate(rate), tokens.shape, "rate")
    _checks.choose_width(bits, rate)
    if _checks.is_scalar(rate, 0):
        return tokens
    keep = masks.keep_mask(key, tokens.shape, rate, bits=bits)
    for token in protected:
        keep = keep | (tokens == token)
    return jnp.where(keep, tokens, jnp.asarray(replacement, tokens.dtype))
