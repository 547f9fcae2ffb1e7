"""Regularizers of parts that belong together: channels, blocks, branches, tokens."""

from collections.abc import Sequence
from typing import Any

from jaxdrop import drops
from jaxdrop._types import ArrayLike, Bits, Numeric
from jaxdrop.nnx._shell import Shell


class SpatialDropout(Shell):
    """`jaxdrop.spatial_dropout` as a module.

    Args:
      rate: The probability of dropping a channel, in [0, 1]; a scalar or an array; may be traced.
      channel_axis: The axis of the channels; not 0, which is the batch.
      bits: Random bits a channel: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    channel_axis: int = -1
    bits: Bits = None
    _pure = staticmethod(drops.spatial_dropout)


class FeatureAlphaDropout(Shell):
    """`jaxdrop.feature_alpha_dropout` as a module.

    Args:
      rate: The probability of dropping a channel, in [0, 1]; a scalar or an array; may be traced.
      channel_axis: The axis of the channels; not 0, which is the batch.
      bits: Random bits a channel: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    channel_axis: int = -1
    bits: Bits = None
    _pure = staticmethod(drops.feature_alpha_dropout)


class DropPath(Shell):
    """`jaxdrop.drop_path` as a module: `x + DropPath(rate)(branch(x))`.

    Args:
      rate: The probability of dropping, in [0, 1]; a scalar or an array; may be traced.
      mode: "row" for one decision an example, "batch" for one decision in all.
      bits: Random bits a decision: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    mode: str = "row"
    bits: Bits = None
    _pure = staticmethod(drops.drop_path)


class DropBlock(Shell):
    """`jaxdrop.drop_block` as a module.

    Args:
      rate: The probability of dropping, in [0, 1]; a scalar or an array; may be traced.
      block_size: The side of a block, or its sides: odd, at most the map's.
      channel_axis: The axis of the channels; not 0, which is the batch.
      broadcast_dims: Axes along which one decision is shared.
    """

    block_size: int | Sequence[int]
    channel_axis: int = -1
    broadcast_dims: Sequence[int] = ()
    _pure = staticmethod(drops.drop_block)


class PatchDropout(Shell):
    """`jaxdrop.patch_dropout` as a module: the result has fewer tokens than the inputs.

    Where deterministic all tokens are kept.

    Args:
      rate: The share of tokens to leave out, in [0, 1): a number, not traced.
      prefix_tokens: How many first tokens, such as a class token, are always kept.
      return_indices: Whether to return the kept places too.
    """

    prefix_tokens: int = 0
    return_indices: bool = False
    _pure = staticmethod(drops.patch_dropout)
    rates_without_key = (0,)

    def _deterministic_output(self, inputs: ArrayLike, *_: Any) -> Any:
        return self._pure(None, inputs, 0.0, **self._options())


class Cutout(Shell):
    """`jaxdrop.cutout` as a module.

    Args:
      rate: The probability that an example is cut, in [0, 1]; a scalar or an array; may be traced.
      size: The side of the box, or its sides, in pixels: at most the map's.
      fill: What the box is filled with; a scalar, or an array that broadcasts to the inputs.
      channel_axis: The axis of the channels; not 0, which is the batch.
    """

    size: int | Sequence[int]
    fill: Numeric = 0.0
    channel_axis: int = -1
    _pure = staticmethod(drops.cutout)
    rates_without_key = (0,)
