"""Dropout of attention: weights, keys or heads."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrop import _checks, drops
from jaxdrop._modules.base import AtRateZero, Rated
from jaxdrop._types import Bits, Key, Numeric


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class AttentionDropout(Rated):
    """Attention dropout: drops weights after the softmax. Module form of `jaxdrop.attention_dropout`.

    Attributes:
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask.
        May be traced; has no gradient.
      broadcast_dims: Axes along which one decision is shared.
    """

    broadcast_dims: Sequence[int] = ()
    bits: Bits = None
    _pure = staticmethod(drops.attention_dropout)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class DropKey(AtRateZero, Rated):
    """DropKey: hides keys before the softmax. Module form of `jaxdrop.drop_key`.

    Called with the logits; the call also takes a mask. If deterministic, hides only what the mask hides.

    Attributes:
      rate: Probability of hiding a key, in [0, 1): a scalar, or an array that broadcasts to the
        logits. May be traced; has no gradient.
      broadcast_dims: Axes along which one decision is shared; not the last.
    """

    broadcast_dims: Sequence[int] = ()
    bits: Bits = None
    _pure = staticmethod(drops.drop_key)
    _call_doc = """Hides keys; if deterministic, only those that `mask` hides.

    Args:
      inputs: Floating-point logits, `[..., Q, K]`.
      mask: Keys that a query may attend to: boolean, broadcasts to the inputs; True is allowed.

    Returns:
      Array of the shape and dtype of the inputs.
    """


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class DropHead(Rated):
    """DropHead: drops whole attention heads, before they are mixed. Module form of `jaxdrop.drop_head`.

    Attributes:
      rate: Probability of dropping a head, in [0, 1]: a scalar, or an array that broadcasts to the
        mask. May be traced; has no gradient.
      head_axis: Axis of the heads; not 0, the batch axis.
    """

    head_axis: int = -2
    bits: Bits = None
    _pure = staticmethod(drops.drop_head)


def make_attention(
    plain: Callable[..., jax.Array],
    weighted: Callable[..., jax.Array],
    regularizer: Callable[..., jax.Array],
    options: dict[str, Any],
) -> Callable[..., jax.Array]:
    """Makes an `attention_fn` of an API.

    Args:
      plain: Flax's attention, without dropout; its signature is the result's, as Flax's attention
        module passes on the arguments that it finds in the signature.
      weighted: Flax's attention with a function of its weights as first argument.
      regularizer: `jaxdrop.drop_key`, or a function of key, weights and rate.
      options: Options of the regularizer.

    Returns:
      A function with the arguments of `plain`.
    """
    if isinstance(regularizer, functools.partial) and regularizer.func is drops.drop_key:
        regularizer, options = regularizer.func, regularizer.keywords | options

    takes = inspect.signature(plain).parameters

    @functools.wraps(plain)
    def attend(
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        bias: jax.Array | None = None,
        mask: jax.Array | None = None,
        broadcast_dropout: bool = True,
        dropout_rng: Key | None = None,
        dropout_rate: Numeric = 0.0,
        deterministic: bool = False,
        **rest: Any,
    ) -> jax.Array:
        if deterministic or _checks.is_scalar(dropout_rate, 0):
            return plain(query, key, value, bias, mask, **rest)
        if dropout_rng is None:
            raise ValueError("`dropout_rng` must be given unless deterministic, got None.")
        draw = functools.partial(regularizer, dropout_rng, rate=dropout_rate, **options)
        if regularizer is not drops.drop_key:
            return weighted(draw, query, key, value, bias=bias, mask=mask, **rest)
        shape = (*query.shape[:-3], query.shape[-2], query.shape[-3], key.shape[-3])
        # Linen's attention does not take `is_causal`, and so refuses it in each mode.
        causal = "is_causal" in takes and rest.pop("is_causal", False)
        allowed = _allowed(mask, shape, causal)
        mask = drops.drop_key_mask(dropout_rng, shape, dropout_rate, mask=allowed, **options)
        return plain(query, key, value, bias, mask, **rest)

    return attend


def _allowed(mask: jax.Array | None, shape: tuple[int, ...], is_causal: bool) -> jax.Array | None:
    """A mask as booleans, without the future if causal; None allows all."""
    allowed = None if mask is None else jnp.asarray(mask, bool)
    if not is_causal:
        return allowed
    causal = jnp.tril(jnp.ones(shape[-2:], bool))
    return causal if allowed is None else allowed & causal
