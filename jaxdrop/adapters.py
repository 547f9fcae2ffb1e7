"""Dropout with the conventions of other libraries: Keras's `noise_shape`, torch's channels-first layout.

Each function is `jaxdrop.dropout` with the equivalent `broadcast_dims`.
"""

import operator
from collections.abc import Sequence

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout

__all__ = ["dropout1d", "dropout2d", "dropout3d", "keras_dropout"]


def __dir__() -> list[str]:
    """The public names."""
    return __all__


def keras_dropout(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    noise_shape: Sequence[int | None] | None = None,
    bits: Bits = None,
) -> jax.Array:
    """Keras's `Dropout`: `dropout` with the shape of its decisions.

    Keras accepts any shape that broadcasts. Here every axis of `x` needs an entry, so that mistakes
    are found.

    Args:
      key: A PRNG key, used once.
      x: Floating-point array of any shape.
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask;
        may be traced; no gradient.
      noise_shape: One entry per axis: 1 for a decision shared along it, the size of `x` or None for
        separate decisions. None: no sharing.
      bits: Random bits per element: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point, or `noise_shape` not a sequence of integers or None.
      ValueError: If `noise_shape` does not fit `x`, a concrete rate is outside [0, 1], or `bits` is
        not valid or too few to tell a concrete rate from 0 and 1.

    Examples:
      >>> keras_dropout(jax.random.key(2), jax.numpy.ones((2, 3)), 0.5, noise_shape=(None, 1))
      Array([[0., 0., 0.],
             [2., 2., 2.]], dtype=float32)
    """
    x = _checks.check_floating(x)
    dims = () if noise_shape is None else _shared_dims(noise_shape, x.shape)
    return dropout(key, x, rate, broadcast_dims=dims, bits=bits)


def dropout1d(key: Key, x: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """Zeroes whole channels of sequences, as torch's `Dropout1d`.

    Args:
      key: A PRNG key, used once.
      x: Floating-point array, `[N, C, L]` or `[C, L]`.
      rate: Probability of dropping a channel, in [0, 1]: a scalar, or an array that broadcasts to the
        mask; may be traced; no gradient.
      bits: Random bits per channel: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If `x` is of another rank, a concrete rate is outside [0, 1], or `bits` is not valid
        or too few to tell a concrete rate from 0 and 1.

    References:
      Tompson et al., "Efficient object localization using convolutional networks", 2015.

    Examples:
      >>> dropout1d(jax.random.key(2), jax.numpy.ones((2, 3)), 0.5)
      Array([[0., 0., 0.],
             [2., 2., 2.]], dtype=float32)
    """
    return _channel_dropout(key, x, rate, "CL", bits)


def dropout2d(key: Key, x: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """Zeroes whole channels of images, as torch's `Dropout2d`.

    Three axes are read as `[C, H, W]`, one decision per C. Torch warns and reads them as `[N, C, L]`,
    one decision per N and C: that is `dropout1d`.

    Args:
      key: A PRNG key, used once.
      x: Floating-point array, `[N, C, H, W]` or `[C, H, W]`.
      rate: Probability of dropping a channel, in [0, 1]: a scalar, or an array that broadcasts to the
        mask; may be traced; no gradient.
      bits: Random bits per channel: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If `x` is of another rank, a concrete rate is outside [0, 1], or `bits` is not valid
        or too few to tell a concrete rate from 0 and 1.

    References:
      Tompson et al., "Efficient object localization using convolutional networks", 2015.

    Examples:
      >>> dropout2d(jax.random.key(2), jax.numpy.ones((3, 1, 2)), 0.5)[:, 0]
      Array([[0., 0.],
             [2., 2.],
             [2., 2.]], dtype=float32)
    """
    return _channel_dropout(key, x, rate, "CHW", bits)


def dropout3d(key: Key, x: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """Zeroes whole channels of volumes, as torch's `Dropout3d`.

    Args:
      key: A PRNG key, used once.
      x: Floating-point array, `[N, C, D, H, W]` or `[C, D, H, W]`.
      rate: Probability of dropping a channel, in [0, 1]: a scalar, or an array that broadcasts to the
        mask; may be traced; no gradient.
      bits: Random bits per channel: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If `x` is of another rank, a concrete rate is outside [0, 1], or `bits` is not valid
        or too few to tell a concrete rate from 0 and 1.

    References:
      Tompson et al., "Efficient object localization using convolutional networks", 2015.

    Examples:
      >>> dropout3d(jax.random.key(2), jax.numpy.ones((3, 1, 1, 2)), 0.5)[:, 0, 0]
      Array([[0., 0.],
             [2., 2.],
             [2., 2.]], dtype=float32)
    """
    return _channel_dropout(key, x, rate, "CDHW", bits)


def _channel_dropout(key: Key, x: ArrayLike, rate: Rate, axes: str, bits: Bits) -> jax.Array:
    x = _checks.check_floating(x)
    if x.ndim not in (len(axes), len(axes) + 1):
        one = ", ".join(axes)
        raise ValueError(f"`x` must be of shape [N, {one}] or [{one}], got {x.shape}.")
    return dropout(key, x, rate, broadcast_dims=range(1 - len(axes), 0), bits=bits)


def _shared_dims(noise_shape: Sequence[int | None], shape: tuple[int, ...]) -> list[int]:
    """The axes along which a decision is shared, where `noise_shape` has size 1."""
    try:
        sizes = tuple(None if size is None else operator.index(size) for size in noise_shape)
    except TypeError:
        message = f"`noise_shape` must be a sequence of integers or None, got {noise_shape!r}."
        raise TypeError(message) from None
    fits = [size in (1, None, own) for size, own in zip(sizes, shape, strict=False)]
    if len(sizes) != len(shape) or not all(fits):
        raise ValueError(
            f"`noise_shape` must hold the size, 1 or None for each axis of `x`, {shape}, got {sizes}."
        )
    return [axis for axis, size in enumerate(sizes) if size == 1]
