"""Structured dropout: whole channels, blocks, residual branches or tokens."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax

from jaxdrop import drops
from jaxdrop._modules.base import AtRateZero, Rated
from jaxdrop._types import ArrayLike, Bits, Numeric, Rate


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class SpatialDropout(Rated):
    """Spatial dropout: zeroes whole channels. Module form of `jaxdrop.spatial_dropout`.

    Attributes:
      rate: Probability of dropping a channel, in [0, 1]: a scalar, or an array that broadcasts to
        the mask. May be traced; has no gradient.
      channel_axis: Axis of the channels; not 0, the batch axis.
    """

    channel_axis: int = -1
    bits: Bits = None
    _pure = staticmethod(drops.spatial_dropout)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class FeatureAlphaDropout(Rated):
    """Feature alpha dropout: alpha dropout of whole channels. Module form of `jaxdrop.feature_alpha_dropout`.

    Attributes:
      rate: Probability of dropping a channel, in [0, 1]: a scalar, or an array that broadcasts to
        the mask. May be traced; has no gradient.
      channel_axis: Axis of the channels; not 0, the batch axis.
    """

    channel_axis: int = -1
    bits: Bits = None
    _pure = staticmethod(drops.feature_alpha_dropout)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class DropPath(Rated):
    """Drop path (stochastic depth): zeroes residual branches. Module form of `jaxdrop.drop_path`.

    Use it as `x + DropPath(rate)(branch(x))`.

    Attributes:
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask.
        May be traced; has no gradient.
      mode: "row" for one decision per example, "batch" for one decision for the batch.
    """

    mode: Literal["row", "batch"] = "row"
    bits: Bits = None
    _pure = staticmethod(drops.drop_path)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class ShakeDrop(Rated):
    """ShakeDrop: random factors of residual branches. Module form of `jaxdrop.shake_drop`.

    Use it as `x + ShakeDrop(rate)(branch(x))`. If deterministic, returns `jaxdrop.shake_drop_mean`, not
    the inputs.

    Attributes:
      rate: Probability of perturbing, in [0, 1]: a scalar, or an array that broadcasts to the
        decisions. May be traced; has no gradient.
      mode: "row" for one decision per example, "batch" for one decision for the batch.
      level: What shares one pair of factors: "batch", "image", "channel" or "pixel".
      channel_axis: Axis of the channels, for "channel"; not 0, the batch axis.
      alpha: Lowest and highest forward factor.
      beta: Lowest and highest backward factor.
    """

    mode: Literal["row", "batch"] = "row"
    level: Literal["batch", "image", "channel", "pixel"] = "image"
    channel_axis: int = -1
    alpha: tuple[float, float] = (-1.0, 1.0)
    beta: tuple[float, float] = (0.0, 1.0)
    bits: Bits = None
    _pure = staticmethod(drops.shake_drop)
    rates_without_key = (0,)

    def _deterministic_output(self, inputs: ArrayLike, rate: Rate) -> jax.Array:
        return drops.shake_drop_mean(inputs, rate, mode=self.mode, alpha=self.alpha, bits=self.bits)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class DropBlock(Rated):
    """DropBlock: zeroes blocks of feature maps. Module form of `jaxdrop.drop_block`.

    Attributes:
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask.
        May be traced; has no gradient.
      block_size: Side of a block, or its sides: odd, at most those of the map.
      channel_axis: Axis of the channels; not 0, the batch axis.
      broadcast_dims: Axes along which one decision is shared.
    """

    block_size: int | Sequence[int]
    channel_axis: int = -1
    broadcast_dims: Sequence[int] = ()
    _pure = staticmethod(drops.drop_block)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class PatchDropout(AtRateZero, Rated):
    """PatchDropout: keeps a random subset of the tokens. Module form of `jaxdrop.patch_dropout`.

    The result has fewer tokens than the inputs. If deterministic, keeps all tokens.

    Attributes:
      rate: Share of tokens to drop, in [0, 1): a number, not traced.
      prefix_tokens: Number of leading tokens that are always kept, such as a class token.
      return_indices: If true, also returns the positions of the kept tokens.
    """

    prefix_tokens: int = 0
    return_indices: bool = False
    _pure = staticmethod(drops.patch_dropout)
    rates_without_key = (0,)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Cutout(Rated):
    """Cutout: fills a random box of each example. Module form of `jaxdrop.cutout`.

    Attributes:
      rate: Probability of cutting an example, in [0, 1]: a scalar, or an array that broadcasts to
        `[B, 1, ..., 1]`. May be traced; has no gradient.
      size: Side of the box, or its sides, in pixels: at most those of the map.
      fill: Value of the box: a scalar, or an array that broadcasts to the inputs.
      channel_axis: Axis of the channels; not 0, the batch axis.
    """

    size: int | Sequence[int]
    fill: Numeric = 0.0
    channel_axis: int = -1
    _pure = staticmethod(drops.cutout)
    rates_without_key = (0,)
