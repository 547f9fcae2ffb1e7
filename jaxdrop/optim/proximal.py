"""Proximal steps: what L1, the elastic net and the group lasso do to a parameter, exactly."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdrop import _unit_norms
from jaxdrop._types import Where
from jaxdrop.optim._step import Value, check_step, check_value, to_end, transformation
from jaxdrop.penalties import check_pair

__all__ = ["proximal_elastic_net", "proximal_group_lasso", "proximal_l1"]


def proximal_l1(
    strength: Value, learning_rate: Value, *, where: Where = None
) -> optax.GradientTransformation:
    """Brings each weight nearer to 0 by `learning_rate * strength`, and to exactly 0 if it is nearer.

    The proximal step of `penalties.l1`; last in a chain.

    Args:
      strength: A finite, non-negative scalar, or a schedule; may be traced.
      learning_rate: The optimizer's own.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      A transformation.

    Raises:
      ValueError: As `coupled_l2`.

    References:
      Daubechies, Defrise and De Mol, "An iterative thresholding algorithm for linear inverse
      problems with a sparsity constraint", 2004.

    Examples:
      >>> params = jnp.array([[1.0, -0.05]])
      >>> shrink = proximal_l1(1.0, 0.1)
      >>> updates, _ = shrink.update(jnp.zeros_like(params), shrink.init(params), params)
      >>> optax.apply_updates(params, updates)
      Array([[0.9, 0. ]], dtype=float32)
    """

    def shrink(end: jax.Array, share: Any, strength: Any, rate: Any) -> jax.Array:
        return _nearer_to_zero(end, rate * strength * share)

    return transformation(to_end(shrink), where, *check_step(strength, learning_rate))


def proximal_elastic_net(
    strength: Value | tuple[Value, Value], learning_rate: Value, *, where: Where = None
) -> optax.GradientTransformation:
    """The proximal step of `penalties.l1_l2`: that of L1, divided by `1 + 2 * learning_rate * l2`.

    Last in a chain.

    Args:
      strength: The pair of an L1 and an L2 strength, or one for both; each as in `proximal_l1`.
      learning_rate: The optimizer's own.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      A transformation.

    Raises:
      ValueError: As `coupled_l2`, or if `strength` is neither one nor a pair.

    References:
      Zou and Hastie, "Regularization and variable selection via the elastic net", 2005; Parikh and
      Boyd, "Proximal algorithms", 2014.
    """

    def shrink(end: jax.Array, share: Any, l1: Any, l2: Any, rate: Any) -> jax.Array:
        return _nearer_to_zero(end, rate * l1 * share) / (1 + 2 * rate * l2 * share)

    l1, l2 = check_pair(strength)
    values = check_value(l1, "strength"), *check_step(l2, learning_rate)
    return transformation(to_end(shrink), where, *values)


def proximal_group_lasso(
    strength: Value, learning_rate: Value, *, unit_axis: int | Sequence[int] = -1, where: Where = None
) -> optax.GradientTransformation:
    """Shortens the weights of each unit as one vector, to exactly 0 where it is short; last in a chain.

    The proximal step of `penalties.group_lasso`: the norm goes down by
    `learning_rate * strength * sqrt(size)`, so whole units are removed.

    Args:
      strength: A finite, non-negative scalar, or a schedule; may be traced.
      learning_rate: The optimizer's own.
      unit_axis: The axis, or axes, of which each index is a unit; see `penalties.group_lasso`.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      A transformation.

    Raises:
      ValueError: As `coupled_l2`, or from `init` if a leaf has no such axis.

    References:
      Yuan and Lin, "Model selection and estimation in regression with grouped variables", 2006.
    """

    def shorten(end: jax.Array, share: Any, strength: Any, rate: Any) -> jax.Array:
        lengths = _unit_norms.unit_norm(end, _unit_norms.axes_of_unit(end, unit_axis))
        off = rate * strength * share * (end.size / max(lengths.size, 1)) ** 0.5
        kept = jnp.where(lengths > off, lengths - off, 0) / jnp.where(lengths > 0, lengths, 1)
        return jnp.where(jnp.isnan(lengths), lengths, end * kept)

    return transformation(to_end(shorten), where, *check_step(strength, learning_rate))


def _nearer_to_zero(end: jax.Array, by: jax.Array) -> jax.Array:
    return jnp.sign(end) * jnp.maximum(jnp.abs(end) - by, 0)
