"""Rate schedules: functions of the step, like optax's schedules.

A schedule gives a float32 rate for a step that may be traced, so it is used inside a jitted step and
does not recompile: `dropout(key, x, schedule(state.step))`. An optax schedule with values in [0, 1]
works as well.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdrop import _checks
from jaxdrop._types import Numeric, Rate

__all__ = ["Schedule", "constant", "curriculum", "depth_rates", "early", "late", "linear"]


def __dir__() -> list[str]:
    """The public names."""
    return __all__


# A rate by step: `schedule(step) -> rate`.
Schedule = Callable[[Numeric], jax.Array]


def constant(rate: Rate) -> Schedule:
    """Constant schedule: the same rate at every step.

    Args:
      rate: Probability of dropping, in [0, 1]: a scalar; may be traced.

    Returns:
      Function of the step, an integer scalar or array, that gives the rate as float32 of the
      step's shape.

    Raises:
      ValueError: If a concrete rate is outside [0, 1], or it is not a scalar.

    Examples:
      >>> constant(0.5)(1000)
      Array(0.5, dtype=float32)
    """
    rate = _check_scalar_rate("rate", rate)
    return lambda step: jnp.full(_step(step).shape, rate, jnp.float32)


def linear(start: Numeric, end: Numeric, steps: int, *, begin: int = 0) -> Schedule:
    """Linear schedule from one rate to another: optax's `linear_schedule`, clipped to its two ends.

    The rate is `start` until step `begin`, and `end` from step `begin + steps` on.

    Args:
      start: First rate, in [0, 1]: a scalar; may be traced.
      end: Last rate, in [0, 1]: a scalar; may be traced.
      steps: Number of steps from `start` to `end`, at least 1.
      begin: Step at which the rate begins to change, at least 0.

    Returns:
      Function of the step, an integer scalar or array, that gives the rate as float32 of the
      step's shape.

    Raises:
      TypeError: If `steps` or `begin` is not an integer.
      ValueError: If a concrete rate is outside [0, 1] or a number of steps too small.

    Examples:
      >>> [float(linear(0.0, 0.5, 10, begin=5)(step)) for step in (0, 5, 10, 15, 99)]
      [0.0, 0.0, 0.25, 0.5, 0.5]
    """
    start, end = _check_scalar_rate("start", start), _check_scalar_rate("end", end)
    line = optax.linear_schedule(
        start, end, _checks.check_count(steps, "steps", 1), _checks.check_count(begin, "begin", 0)
    )
    low, high = (jnp.asarray(f(start, end), jnp.float32) for f in (jnp.minimum, jnp.maximum))
    return lambda step: jnp.clip(jnp.asarray(line(_step(step).astype(jnp.int32)), jnp.float32), low, high)


def early(rate: Rate, steps: int, *, decay: bool = False) -> Schedule:
    """Early dropout: the rate for the first steps and then 0, against underfitting.

    For small models or large data sets, dropout in the first part of training makes the gradients
    of different batches agree better and lowers the final training loss.

    Args:
      rate: Rate of the first steps, in [0, 1]: a scalar; may be traced.
      steps: Number of steps with dropout, at least 1.
      decay: Whether the rate decays linearly to 0 over these steps instead of ending abruptly.

    Returns:
      Function of the step, an integer scalar or array, that gives the rate as float32 of the
      step's shape.

    Raises:
      TypeError: If `steps` is not an integer.
      ValueError: If a concrete rate is outside [0, 1] or `steps` below 1.

    References:
      Liu et al., "Dropout reduces underfitting", 2023.

    Examples:
      >>> [float(early(0.5, 10)(step)) for step in (0, 9, 10)]
      [0.5, 0.5, 0.0]
    """
    rate, steps = _check_scalar_rate("rate", rate), _checks.check_count(steps, "steps", 1)
    if decay:
        return linear(rate, 0.0, steps)
    return lambda step: jnp.where(_step(step) < steps, rate, 0.0).astype(jnp.float32)


def late(rate: Rate, begin: int) -> Schedule:
    """Late dropout: 0 at first and then the rate, against overfitting.

    Args:
      rate: Rate of the later steps, in [0, 1]: a scalar; may be traced.
      begin: First step with dropout, at least 0.

    Returns:
      Function of the step, an integer scalar or array, that gives the rate as float32 of the
      step's shape.

    Raises:
      TypeError: If `begin` is not an integer.
      ValueError: If a concrete rate is outside [0, 1] or `begin` negative.

    References:
      Liu et al., "Dropout reduces underfitting", 2023.

    Examples:
      >>> [float(late(0.5, 10)(step)) for step in (0, 9, 10)]
      [0.0, 0.0, 0.5]
    """
    rate, begin = _check_scalar_rate("rate", rate), _checks.check_count(begin, "begin", 0)
    return lambda step: jnp.where(_step(step) >= begin, rate, 0.0).astype(jnp.float32)


def curriculum(rate: Rate, gamma: Numeric) -> Schedule:
    """Curriculum dropout: rises from 0 to the rate as `rate * (1 - exp(-gamma * step))`.

    The paper sets gamma to 10 divided by the number of training steps.

    Args:
      rate: Rate in the limit, in [0, 1]: a scalar; may be traced.
      gamma: Speed of the rise, finite and at least 0: a scalar; may be traced.

    Returns:
      Function of the step, an integer scalar or array, that gives the rate as float32 of the
      step's shape. A step below 0 counts as 0.

    Raises:
      ValueError: If a concrete rate is outside [0, 1], or `gamma` negative or not finite.

    References:
      Morerio et al., "Curriculum dropout", 2017.

    Examples:
      >>> [round(float(curriculum(0.5, 0.01)(step)), 3) for step in (0, 100, 1000)]
      [0.0, 0.316, 0.5]
    """
    rate, gamma = (
        _check_scalar_rate("rate", rate),
        _checks.check_nonnegative(_checks.check_scalar(gamma, "gamma"), "gamma"),
    )

    def schedule(step: Numeric) -> jax.Array:
        passed = jnp.maximum(_step(step).astype(jnp.float32), 0)
        # A gamma beyond float32 is infinite, and infinity times step 0 would be NaN.
        risen = jnp.where(passed > 0, jnp.asarray(gamma, jnp.float32) * passed, 0)
        return (-jnp.expm1(-risen)) * jnp.asarray(rate, jnp.float32)

    return schedule


def depth_rates(rate: float, depth: int, *, first: float | None = None) -> list[float]:
    """Rates that grow linearly over the blocks of a network, for `drop_path` and similar.

    Args:
      rate: Rate of the last block, in [0, 1].
      depth: Number of blocks, at least 1.
      first: Rate of the first block; `0.0` gives timm's rates, from 0 to `rate`. None: the paper's,
        `rate / depth`.

    Returns:
      List of `depth` floats, by default `rate * l / depth` for l = 1, ..., depth.

    Raises:
      TypeError: If a rate is traced or an array, or `depth` not an integer.
      ValueError: If a rate is outside [0, 1] or `depth` below 1.

    References:
      Huang et al., "Deep networks with stochastic depth", 2016.

    Examples:
      >>> depth_rates(0.5, 4), depth_rates(0.5, 3, first=0.0)
      ([0.125, 0.25, 0.375, 0.5], [0.0, 0.25, 0.5])
    """
    depth, rate = _checks.check_count(depth, "depth", 1), _check_number_rate("rate", rate)
    if first is None:
        return [rate * (block / depth) for block in range(1, depth + 1)]
    return np.linspace(_check_number_rate("first", first), rate, depth).tolist()


def _step(step: Numeric) -> jax.Array:
    return jnp.asarray(_checks.check_real("step", step))


def _check_scalar_rate(name: str, rate: Rate) -> Numeric:
    return _checks.check_scalar(_checks.check_rate(rate, name), name)


def _check_number_rate(name: str, rate: float) -> float:
    return _checks.check_number(_checks.check_rate(rate, name), name)
