"""Dropout of attention: weights, keys or heads."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrop import _checks, drops
from jaxdrop._modules.base import AtRateZero, Rated
from jaxdrop._types import Bits, BlockSize, Key, Numeric, PyTree
from jaxdrop.drops._drop_key import have_weight


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
    promoted: Callable[..., Sequence[jax.Array]],
    regularizer: Callable[..., jax.Array],
    block_size: BlockSize,
    options: dict[str, Any],
) -> Callable[..., jax.Array]:
    """Makes an `attention_fn` of an API.

    Args:
      plain: Flax's attention, without dropout; its signature is the result's, as Flax's attention
        module passes on the arguments that it finds in the signature.
      weighted: Flax's attention with a function of its weights as first argument.
      promoted: Query, key and value in Flax's common dtype; takes a `dtype`.
      regularizer: `jaxdrop.drop_key`, or a function of key, weights and rate.
      block_size: As of `jaxdrop.dot_product_attention`; None: the result is made by Flax's own attention.
      options: Options of the regularizer.

    Returns:
      A function with the arguments of `plain`.
    """
    known = (drops.attention_dropout, drops.drop_key)
    if isinstance(regularizer, functools.partial) and regularizer.func in known and not regularizer.args:
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
        rate = 0.0 if deterministic else dropout_rate
        none = _checks.is_scalar(rate, 0)
        if none and block_size is None:
            return plain(query, key, value, bias, mask, **rest)
        if dropout_rng is None and not none:
            raise ValueError("`dropout_rng` must be given unless deterministic, got None.")
        # At rate 0 no key is used.
        rng = jax.random.key(0) if dropout_rng is None else dropout_rng
        if block_size is not None:
            _refuse_whole_weights(rest, takes)
            queries, keys, values = promoted(query, key, value, **rest)
            return drops.dot_product_attention(
                rng,
                queries,
                keys,
                values,
                rate,
                bias=bias,
                mask=None if mask is None else jnp.asarray(mask, bool),
                is_causal=rest.get("is_causal", False),
                precision=rest.get("precision"),
                regularizer=regularizer,
                block_size=block_size,
                **options,
            )
        draw = functools.partial(regularizer, rng, rate=rate, **options)
        if regularizer is not drops.drop_key:
            return weighted(draw, query, key, value, bias=bias, mask=mask, **rest)
        shape = (*query.shape[:-3], query.shape[-2], query.shape[-3], key.shape[-3])
        # Linen's attention does not take `is_causal`, and so refuses it in each mode.
        causal = "is_causal" in takes and rest.pop("is_causal", False)
        allowed = _allowed(mask, shape, causal)
        if bias is not None:
            queries, keys, _ = promoted(query, key, value, **rest)
            allowed = _with_weight(queries, keys, bias, allowed)
        mask = drops.drop_key_mask(rng, shape, rate, mask=allowed, **options)
        return plain(query, key, value, bias, mask, **rest)

    return attend


def _allowed(mask: jax.Array | None, shape: tuple[int, ...], is_causal: bool) -> jax.Array | None:
    """A mask as booleans, without the future if causal; None allows all."""
    allowed = None if mask is None else jnp.asarray(mask, bool)
    if not is_causal:
        return allowed
    causal = jnp.tril(jnp.ones(shape[-2:], bool))
    return causal if allowed is None else allowed & causal


def _with_weight(query: jax.Array, key: jax.Array, bias: jax.Array, allowed: jax.Array | None) -> jax.Array:
    """The allowed keys to which a bias leaves a weight: one of -1e9, say, hides a key."""
    key = jnp.repeat(key, query.shape[-2] // key.shape[-2], axis=-2)
    scores = jnp.einsum("...qhd,...khd->...hqk", query * query.shape[-1] ** -0.5, key) + bias
    if allowed is not None:
        scores = jnp.where(allowed, scores, -jnp.inf)
    return have_weight(scores)


def _refuse_whole_weights(options: Mapping[str, PyTree], takes: Collection[str]) -> None:
    """Raises for options that need the whole array of weights, or that Flax's attention does not take."""
    for name in options:
        if name not in takes:
            raise TypeError(f"`{name}` must be left out: Flax's attention here has no such argument.")
    if options.get("module") is not None:
        raise ValueError("`block_size` must be None to sow weights: in blocks they are never all there.")
    own = [name for name, value in options.items() if "einsum" in name and value is not None]
    if own:
        raise ValueError(f"`block_size` must be None with `{own[0]}`, which makes all weights at once.")
