"""What attention drops: the draw of its decisions, by blocks, and the scale of what is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks, _draw, _parts
from jaxdrop._types import ArrayLike, Bits, Key, Numeric, Rate
from jaxdrop.drops._drop_key import prepare_keys
from jaxdrop.drops.attention_dropout import attention_dropout
from jaxdrop.drops.drop_key import drop_key

# The largest scale of weights in float16, whose largest number is 65504; weights are at most 1.
_LARGEST = 2.0**15


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["seed", "draw", "scale", "excess"],
    meta_fields=["shape", "of_keys"],
)
@dataclass(frozen=True)
class Dropping:
    """What is dropped.

    Attributes:
      seed: The words of a used key.
      draw: Its threshold broadcasts to the decisions.
      scale: Of the weights that are kept, as far as their dtype can hold it.
      excess: The factor that is left for the sums of weighted values; None for 1.
      shape: Shape of the decisions, of size 1 along the axes of the scores that share one.
      of_keys: Whether keys are hidden before the softmax, and not weights dropped after it.
    """

    seed: _bits.Seed
    draw: _checks.Draw
    scale: ArrayLike
    excess: ArrayLike | None
    shape: tuple[int, ...]
    of_keys: bool

    def kept(self, start: Numeric, count: int, first: Numeric = 0, places: int | None = None) -> jax.Array:
        """The decisions of `count` queries from `start` on, on `places` keys from `first` on.

        Starts are multiples of the counts. By default, decisions on all keys.
        """
        *leading, length, columns = self.shape
        count = 1 if length == 1 else count
        places = columns if places is None or columns == 1 else places
        if (count, places) == (length, columns):
            return _draw.draw_mask(self.seed, self.draw, self.shape)
        starts = (0,) * len(leading) + (start if length > 1 else 0, first if columns > 1 else 0)
        return _parts.draw_part(self.seed, self.draw, (*leading, count, places), self.shape, starts)


def make_dropping(
    key: Key,
    shape: tuple[int, ...],
    rate: Rate,
    regularizer: Callable[..., jax.Array],
    broadcast_dims: Sequence[int],
    bits: Bits,
    dtype: np.dtype,
) -> Dropping | None:
    """What is dropped, checked; uses the key. None for rate 0."""
    rate = _checks.check_rate(rate)
    if regularizer is attention_dropout:
        drawn = _checks.check_shared(shape, broadcast_dims)
        draw = _checks.prepare(rate, drawn, bits)
    elif regularizer is drop_key:
        draw, _, drawn = prepare_keys(shape, rate, None, broadcast_dims, bits)
    else:
        name = getattr(regularizer, "__name__", type(regularizer).__name__)
        raise ValueError(f"`regularizer` must be `attention_dropout` or `drop_key`, got {name}.")
    if _checks.is_scalar(rate, 0):
        return None
    seed, scale = _bits.consume(_checks.check_key(key)), _checks.scale_of(draw, dtype)
    excess = None
    if regularizer is attention_dropout and dtype == np.float16:
        scale, excess = _in_half(scale, draw.width)
    return Dropping(seed, draw, scale, excess, drawn, of_keys=regularizer is drop_key)


def _in_half(scale: ArrayLike, width: int) -> tuple[ArrayLike, ArrayLike | None]:
    """The scale of weights in float16, which must not overflow before they are summed, and the rest of it."""
    xp, divides = jnp if isinstance(scale, jax.Array) else np, width == _checks.FLAX_WIDTH
    excess = xp.max((1 / scale if divides else scale) / _LARGEST, initial=1)
    if _checks.is_concrete(excess) and excess == 1:
        return scale, None
    return (scale * excess if divides else scale / excess), excess.astype(np.float32)
