"""Word dropout: replaces whole tokens at random. Iyyer et al., 2015; Bowman et al., 2016."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdrop import _checks, masks
from jaxdrop._types import ArrayLike, Bits, Key, Rate

__all__ = ["word_dropout"]


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

    Rate 0 is the identity, rate 1 replaces all tokens that are not protected. Integers have no NaN:
    a traced rate outside [0, 1] keeps every token.

    Args:
      key: A PRNG key, used once.
      tokens: Integer array of any shape.
      rate: Probability of replacing, in [0, 1]: a scalar, or an array that broadcasts to `tokens`;
        may be traced; no gradient.
      replacement: Token that replaces the others.
      protected: Tokens that are never replaced, such as padding and begin and end marks.
      bits: Random bits per token: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape and dtype of `tokens`.

    Raises:
      TypeError: If `tokens` or `replacement` is not integer.
      ValueError: If a concrete rate is outside [0, 1] or does not broadcast, or `replacement` does
        not fit the dtype.

    References:
      Iyyer et al., "Deep unordered composition rivals syntactic methods for text classification",
      2015; Bowman et al., "Generating sentences from a continuous space", 2016.

    Examples:
      >>> word_dropout(jax.random.key(1), jnp.arange(6), 0.5, replacement=9, protected=(3,))
      Array([0, 1, 2, 3, 9, 5], dtype=int32)
    """
    tokens = _checks.check_array(tokens, "tokens", "an integer array")
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
