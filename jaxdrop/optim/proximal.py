"""Proximal steps of the L1, elastic net and group lasso penalties."""

import jax
import jax.numpy as jnp
import optax

from jaxdrop import _unit_norms, _units
from jaxdrop._strengths import check_pair
from jaxdrop._types import Stacked, UnitAxis, Where
from jaxdrop.optim._step import Leaf, Value, check_step, check_value, to_end, transformation

__all__ = ["proximal_elastic_net", "proximal_group_lasso", "proximal_l1"]


def proximal_l1(
    strength: Value, learning_rate: Value, *, where: Where = None
) -> optax.GradientTransformation:
    """Soft thresholding: moves each weight towards 0 by `learning_rate * strength`, or to exactly 0.

    The proximal step of `penalties.l1`; last in a chain.

    Args:
      strength: Finite, non-negative scalar, or a schedule; may be traced.
      learning_rate: Learning rate of the optimizer: a non-negative scalar, or a schedule; may be traced.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      Gradient transformation.

    Raises:
      ValueError: If a concrete strength or learning rate is negative or not finite; from `init` if
        `where` does not fit the parameters.

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

    def shrink(end: jax.Array, leaf: Leaf, strength: jax.Array, rate: jax.Array) -> jax.Array:
        return _nearer_to_zero(end, rate * strength * leaf.share)

    return transformation(to_end(shrink), where, *check_step(strength, learning_rate))


def proximal_elastic_net(
    strength: Value | tuple[Value, Value], learning_rate: Value, *, where: Where = None
) -> optax.GradientTransformation:
    """The proximal step of `penalties.l1_l2`: `proximal_l1`, divided by `1 + 2 * learning_rate * l2`.

    Last in a chain.

    Args:
      strength: Pair of L1 and L2 strengths, or one for both; each a finite, non-negative scalar, or a
        schedule; may be traced.
      learning_rate: Learning rate of the optimizer: a non-negative scalar, or a schedule; may be traced.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      Gradient transformation.

    Raises:
      ValueError: If a concrete strength or learning rate is negative or not finite, or `strength` is
        neither one value nor a pair; from `init` if `where` does not fit the parameters.

    References:
      Zou and Hastie, "Regularization and variable selection via the elastic net", 2005; Parikh and
      Boyd, "Proximal algorithms", 2014.
    """

    def shrink(end: jax.Array, leaf: Leaf, l1: jax.Array, l2: jax.Array, rate: jax.Array) -> jax.Array:
        return _nearer_to_zero(end, rate * l1 * leaf.share) / (1 + 2 * rate * l2 * leaf.share)

    l1, l2 = check_pair(strength)
    values = check_value(l1, "strength"), *check_step(l2, learning_rate)
    return transformation(to_end(shrink), where, *values)


def proximal_group_lasso(
    strength: Value,
    learning_rate: Value,
    *,
    unit_axis: UnitAxis = None,
    stacked: Stacked = (),
    where: Where = None,
) -> optax.GradientTransformation:
    """The proximal step of `penalties.group_lasso`: removes whole units exactly; last in a chain.

    Each unit's weights are scaled so that their norm shrinks by
    `learning_rate * strength * sqrt(size)`, or to exactly 0.

    Args:
      strength: Finite, non-negative scalar, or a schedule; may be traced.
      learning_rate: Learning rate of the optimizer: a non-negative scalar, or a schedule; may be traced.
      unit_axis: Axis, or axes, whose indices are the units: -1 for the weights into a unit, -2 for those
        out of an input or the rows of a table. None: -2 for embedding tables by their name, and else -1.
      stacked: (pattern, axes) pairs that name the leaves of stacked layers and the axes of the layers, such
        as `[("layers/*", 0)]` for `nn.scan` or `[("*", 0)]` for an ensemble. The first pattern that
        matches a path applies. Each layer is treated alone, and `unit_axis` counts its axes alone.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      Gradient transformation.

    Raises:
      ValueError: If a concrete strength or learning rate is negative or not finite; from `init` if
        `where` or `stacked` does not fit the parameters, a leaf has no such axis, its name does not tell
        its units (`weight`) and none are given, or it shows layers that `stacked` does not name.

    References:
      Yuan and Lin, "Model selection and estimation in regression with grouped variables", 2006.
    """

    def shorten(end: jax.Array, leaf: Leaf, strength: jax.Array, rate: jax.Array) -> jax.Array:
        lengths = _unit_norms.unit_norm(end, _units.axes(end, leaf.path, unit_axis, leaf.layers).weights)
        off = rate * strength * leaf.share * (end.size / max(lengths.size, 1)) ** 0.5
        kept = jnp.where(lengths > off, lengths - off, 0) / jnp.where(lengths > 0, lengths, 1)
        return jnp.where(jnp.isnan(lengths), lengths, end * kept)

    return transformation(to_end(shorten), where, *check_step(strength, learning_rate), stacked=stacked)


def _nearer_to_zero(end: jax.Array, by: jax.Array) -> jax.Array:
    return jnp.sign(end) * jnp.maximum(jnp.abs(end) - by, 0)
