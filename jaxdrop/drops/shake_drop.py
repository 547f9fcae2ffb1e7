"""ShakeDrop: scales residual branches by random factors, others backward. Yamada et al., 2019."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Bits, Key, Numeric, Rate
from jaxdrop.drops import _remat

__all__ = ["shake_drop", "shake_drop_mean"]


def shake_drop(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    mode: Literal["row", "batch"] = "row",
    level: Literal["batch", "image", "channel", "pixel"] = "image",
    channel_axis: int = -1,
    alpha: tuple[float, float] = (-1.0, 1.0),
    beta: tuple[float, float] = (0.0, 1.0),
    bits: Bits = None,
) -> jax.Array:
    """Multiplies a residual branch `x` by a random factor, and its gradient by another.

    Used as `x + shake_drop(key, branch(x), rate)`. With probability 1 - `rate` the branch is left as it
    is (the paper's b = 1, of probability p_l). Otherwise the output is `a * x` with `a` uniform in
    `alpha`, while the derivative is an independent `g`, uniform in `beta`. Nothing is scaled: the
    mean is `shake_drop_mean(x, rate, ...)`; use it at evaluation.

    The derivative is wrong on purpose, so finite differences disagree with it. `jax.jvp` gives the
    tangent times `g` too, and second derivatives are 0. The decisions are those of `drop_path` with the
    same key, and `alpha=(0, 0), beta=(0, 0)` is `drop_path` without its scale. The backward pass redraws
    all factors from the key.

    The paper's networks take the rates of `jaxdrop.schedules.depth_rates(0.5, depth)`. Published code
    often decides once per batch: `mode="batch"`.

    Args:
      key: A PRNG key, used once.
      x: Floating-point batch, `[B, ...]`.
      rate: Probability of perturbing, in [0, 1]: a scalar, or an array that broadcasts to the
        decisions `[B, 1, ..., 1]`; may be traced; no gradient.
      mode: "row" for one decision per example, "batch" for one decision per batch.
      level: What shares one pair of factors: the "batch", an "image" (an example), a "channel" of an
        example, or nothing ("pixel": one pair per element).
      channel_axis: Axis of the channels, for "channel"; not 0, the batch axis.
      alpha: Lowest and highest forward factor, finite numbers.
      beta: Lowest and highest backward factor, finite numbers.
      bits: Random bits per decision: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24
        for rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point, or a bound is not a number.
      ValueError: If `mode`, `level` or `channel_axis` is not one of the above, `x` has no axis, a range
        is not finite or not in order, a concrete rate is outside [0, 1], or `bits` is not valid or too
        few to tell a concrete rate from 0 and 1.

    References:
      Yamada et al., "ShakeDrop regularization for deep residual learning", 2019.

    Examples:
      >>> x = jnp.ones((4, 3))
      >>> y, vjp = jax.vjp(lambda x: shake_drop(jax.random.key(0), x, 0.5), x)
      >>> print(y[:, 0].round(2), vjp(x)[0][:, 0].round(2))
      [ 1.    1.    1.   -0.68] [1.   1.   1.   0.08]
    """
    x, rate = _checked(x, rate, mode)
    ranges = _check_range(alpha, "alpha"), _check_range(beta, "beta")
    shapes = _decisions(x, mode), _factors(x, level, channel_axis)
    draw = _checks.prepare(rate, shapes[0], bits)
    if _checks.is_scalar(rate, 0):
        return x
    return _shake_drop(key, x, draw, shapes=shapes, ranges=ranges)


def shake_drop_mean(
    x: ArrayLike,
    rate: Rate,
    *,
    mode: Literal["row", "batch"] = "row",
    alpha: tuple[float, float] = (-1.0, 1.0),
    bits: Bits = None,
) -> jax.Array:
    """The mean of `shake_drop` over keys, for evaluation: `(1 - rate + rate * sum(alpha) / 2) * x`.

    With the default `alpha`, of mean 0, it is `(1 - rate) * x`, whatever the level.

    Args:
      x: Floating-point batch, `[B, ...]`.
      rate: Probability of perturbing, in [0, 1]: a scalar, or an array that broadcasts to the
        decisions `[B, 1, ..., 1]`; may be traced; no gradient. It is rounded as `bits` random bits
        realize it.
      mode: "row" for one decision per example, "batch" for one decision per batch.
      alpha: Lowest and highest forward factor, finite numbers.
      bits: Random bits per decision: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24
        for rates near 0 or 1.

    Returns:
      Array of the shape and dtype of `x`.

    Raises:
      TypeError: If `x` is not floating-point, or a bound is not a number.
      ValueError: If `mode` is neither "row" nor "batch", `x` has no axis, `alpha` is not finite or not
        in order, or a concrete rate is outside [0, 1] or does not broadcast.

    Examples:
      >>> shake_drop_mean(jnp.ones((2, 1)), 0.25)[:, 0]
      Array([0.75, 0.75], dtype=float32)
    """
    x, rate = _checked(x, rate, mode)
    low, high = _check_range(alpha, "alpha")
    draw = _checks.prepare(rate, _decisions(x, mode), bits)
    if _checks.is_scalar(rate, 0):
        return x
    wide = _checks.widened(x.dtype)
    keep_prob = jnp.asarray(draw.keep_prob, wide)
    return (x.astype(wide) * (keep_prob + (1 - keep_prob) * (0.5 * low + 0.5 * high))).astype(x.dtype)


@_remat.redraw_in_backward("shapes", "ranges")
def _shake_drop(
    seed: _bits.Seed,
    x: jax.Array,
    draw: _checks.Draw,
    *,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    ranges: tuple[tuple[float, float], tuple[float, float]],
) -> jax.Array:
    decisions, factors = shapes
    wide = _checks.widened(x.dtype)
    kept = _draw.draw_mask(seed, draw, decisions)
    forward, backward = (
        _draw.nan_where_rate_invalid(jnp.where(kept, 1, _uniform(own, factors, bounds, wide)), draw.keep_prob)
        for own, bounds in zip(_bits.split_seed(seed, 2), ranges, strict=True)
    )
    return _scaled(x.astype(wide), forward, backward).astype(x.dtype)


@jax.custom_jvp
def _scaled(x: jax.Array, forward: jax.Array, backward: jax.Array) -> jax.Array:
    """`x * forward`, whose derivative is `backward`."""
    return x * forward


@_scaled.defjvp
def _scaled_jvp(
    primals: tuple[jax.Array, jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    x, forward, backward = primals
    # A rule of tangents, not of cotangents: `jvp` and all that builds on it works too.
    return _scaled(x, forward, backward), tangents[0] * backward


def _uniform(
    seed: _bits.Seed, shape: tuple[int, ...], bounds: tuple[float, float], dtype: np.dtype
) -> jax.Array:
    low, high = bounds
    if low == high:
        return jnp.full((1,) * len(shape), low, dtype)
    unit = _bits.uniform(seed, shape).astype(dtype)
    return (1 - unit) * low + unit * high


def _checked(x: ArrayLike, rate: Rate, mode: str) -> tuple[jax.Array, Numeric]:
    x = _checks.check_rank(_checks.check_floating(x), 1, "[B, ...]")
    _checks.check_choice(mode, ("row", "batch"), "mode")
    return x, _checks.check_rate(rate)


def _decisions(x: jax.Array, mode: str) -> tuple[int, ...]:
    return (x.shape[0] if mode == "row" else 1, *(1,) * (x.ndim - 1))


def _factors(x: jax.Array, level: str, channel_axis: int) -> tuple[int, ...]:
    """The shape of the factors."""
    axes = {"batch": (), "image": (0,), "pixel": tuple(range(x.ndim))}
    _checks.check_choice(level, (*axes, "channel"), "level")
    if level == "channel":
        axes[level] = (0, _checks.check_channel_axis(channel_axis, x.shape))
    return tuple(size if axis in axes[level] else 1 for axis, size in enumerate(x.shape))


def _check_range(bounds: tuple[float, float], name: str) -> tuple[float, float]:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise TypeError(f"`{name}` must be a pair of numbers, got {bounds!r}.")
    low, high = (_checks.check_number(_checks.check_real(name, bound), name) for bound in bounds)
    if not (np.isfinite([low, high]).all() and low <= high):
        raise ValueError(f"`{name}` must be finite and in order, got ({low:g}, {high:g}).")
    return low, high
