"""Constraints: limits on parameters that hold after every step.

Each is a transformation, last in a chain, and a projection: the same as a function of parameters, to
apply after the step. The update of a transformation is the difference of two parameters, so its end
is rounded as they are: exact while the norm of a unit shrinks at most by half in a step, and off by
half a unit in the last place of the old weights where it shrinks by more. A projection is exact.
"""

import jax
import jax.numpy as jnp
import optax

from jaxdrop import _checks, _selection, _unit_norms, _units
from jaxdrop._types import Numeric, PyTree, Stacked, UnitAxis, Where
from jaxdrop.optim._step import Act, Leaf, Value, acted_on, check_value, to_end, transformation

__all__ = [
    "max_norm",
    "non_negative",
    "projection_max_norm",
    "projection_non_negative",
    "projection_unit_norm",
    "unit_norm",
]


def max_norm(
    limit: Value, *, unit_axis: UnitAxis = None, stacked: Stacked = (), where: Where = None
) -> optax.GradientTransformation:
    """Max-norm constraint: scales the weights of each unit to a norm of at most `limit`; last in a chain.

    Units within the limit stay bit for bit the same; no epsilon shrinks them. Units that exceed it
    only by rounding stay too. Where a norm shrinks by more than half in one step, as at a start far
    above the limit, the end has the rounding of the larger weights: `projection_max_norm`, applied to
    the parameters after the step, is exact and idempotent.

    Args:
      limit: Non-negative scalar, or a schedule; may be traced. Infinity is no limit. If it is traced or
        scheduled, and negative or NaN, the weights become NaN. A share in `where` multiplies it.
      unit_axis: Axis, or axes, whose indices are the units: -1 for the weights into a unit, -2 for those
        out of an input or the rows of a table. None: -2 for embedding tables by their name, and else -1.
      stacked: (pattern, axes) pairs that name the leaves of stacked layers and the axes of the layers, such
        as `[("layers/*", 0)]` for `nn.scan` or `[("*", 0)]` for an ensemble. The first pattern that
        matches a path applies. Each layer is treated alone, and `unit_axis` counts its axes alone.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      Gradient transformation.

    Raises:
      ValueError: If a concrete limit is negative or NaN; from `init` if `where` or `stacked`
        does not fit the parameters, a leaf has no such axis, its name does not tell its units (`weight`)
        and none are given, or it shows layers that `stacked` does not name.

    References:
      Srebro and Shraibman, "Rank, trace-norm and max-norm", 2005; Srivastava et al., "Dropout: a
      simple way to prevent neural networks from overfitting", 2014, section 5.1.

    Examples:
      >>> params = jnp.array([[2.0, 0.3], [0.0, 0.4]])
      >>> constrain = max_norm(1.0)
      >>> updates, _ = constrain.update(jnp.zeros_like(params), constrain.init(params), params)
      >>> optax.apply_updates(params, updates)
      Array([[1. , 0.3],
             [0. , 0.4]], dtype=float32)
    """
    value = check_value(limit, "limit", finite=False)
    return transformation(to_end(_limited(unit_axis)), where, value, stacked=stacked)


def unit_norm(
    *, unit_axis: UnitAxis = None, stacked: Stacked = (), where: Where = None
) -> optax.GradientTransformation:
    """Unit-norm constraint: scales the weights of each unit to norm 1; last in a chain.

    A unit of zeros has no direction and stays zero. A unit whose norm is 1 up to rounding is
    unchanged. Where a norm shrinks by more than half in one step, the end has the rounding of the
    larger weights: `projection_unit_norm`, applied to the parameters after the step, is exact and
    idempotent.

    Args:
      unit_axis: Axis, or axes, whose indices are the units: -1 for the weights into a unit, -2 for those
        out of an input or the rows of a table. None: -2 for embedding tables by their name, and else -1.
      stacked: (pattern, axes) pairs that name the leaves of stacked layers and the axes of the layers, such
        as `[("layers/*", 0)]` for `nn.scan` or `[("*", 0)]` for an ensemble. The first pattern that
        matches a path applies. Each layer is treated alone, and `unit_axis` counts its axes alone.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`). A share replaces
        the norm 1.

    Returns:
      Gradient transformation.

    Raises:
      ValueError: From `init`, if `where` or `stacked` does not fit the parameters, a leaf has no such axis,
        its name does not tell its units (`weight`) and none are given, or it shows layers that `stacked`
        does not name.

    References:
      Salimans and Kingma, "Weight normalization", 2016, as a constraint.
    """
    return transformation(to_end(_normalized(unit_axis)), where, stacked=stacked)


def non_negative(*, where: Where = None) -> optax.GradientTransformation:
    """Non-negativity constraint: sets negative weights to 0; last in a chain.

    Args:
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      Gradient transformation.

    Raises:
      ValueError: From `init`, if `where` does not fit the parameters, or has shares.

    References:
      Lee and Seung, "Learning the parts of objects by non-negative matrix factorization", 1999.
    """
    return transformation(to_end(_cut), where, rule=_selection.unit_shares)


def projection_max_norm(
    params: PyTree, limit: Numeric, *, unit_axis: UnitAxis = None, stacked: Stacked = (), where: Where = None
) -> PyTree:
    """Scales the weights of each unit to a norm of at most `limit`: the projection of `max_norm`.

    Exact however large the weights are, and idempotent to the bit. Units within the limit, or above
    it by rounding alone, stay bit for bit the same.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      limit: Non-negative scalar; may be traced. Infinity is no limit. If it is traced, and negative or
        NaN, the weights become NaN. A share in `where` multiplies it.
      unit_axis: Axis, or axes, whose indices are the units: -1 for the weights into a unit, -2 for those
        out of an input or the rows of a table. None: -2 for embedding tables by their name, and else -1.
      stacked: (pattern, axes) pairs that name the leaves of stacked layers and the axes of the layers, such
        as `[("layers/*", 0)]` for `nn.scan` or `[("*", 0)]` for an ensemble. The first pattern that
        matches a path applies. Each layer is treated alone, and `unit_axis` counts its axes alone.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      Tree of the structure, shapes and dtypes of `params`; other leaves are returned unchanged.

    Raises:
      TypeError: If a selected leaf is not floating-point.
      ValueError: If a concrete limit is negative or NaN, `where` or `stacked` does not fit, a leaf has
        no such axis, its name does not tell its units (`weight`) and none are given, or it shows layers
        that `stacked` does not name.

    References:
      Srebro and Shraibman, "Rank, trace-norm and max-norm", 2005.

    Examples:
      >>> projection_max_norm({"kernel": jnp.array([[3e6, 0.3], [4e6, 0.4]])}, 1.0)
      {'kernel': Array([[0.6, 0.3],
             [0.8, 0.4]], dtype=float32)}
    """
    limit = _checks.check_nonnegative(_checks.check_scalar(limit, "limit"), "limit", finite=False)
    return acted_on(_limited(unit_axis), params, where, limit, stacked=stacked)


def projection_unit_norm(
    params: PyTree, *, unit_axis: UnitAxis = None, stacked: Stacked = (), where: Where = None
) -> PyTree:
    """Scales the weights of each unit to norm 1: the projection of `unit_norm`.

    Exact however large the weights are, and idempotent to the bit. A unit of zeros has no direction
    and stays zero.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      unit_axis: Axis, or axes, whose indices are the units: -1 for the weights into a unit, -2 for those
        out of an input or the rows of a table. None: -2 for embedding tables by their name, and else -1.
      stacked: (pattern, axes) pairs that name the leaves of stacked layers and the axes of the layers, such
        as `[("layers/*", 0)]` for `nn.scan` or `[("*", 0)]` for an ensemble. The first pattern that
        matches a path applies. Each layer is treated alone, and `unit_axis` counts its axes alone.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`). A share replaces
        the norm 1.

    Returns:
      Tree of the structure, shapes and dtypes of `params`; other leaves are returned unchanged.

    Raises:
      TypeError: If a selected leaf is not floating-point.
      ValueError: If `where` or `stacked` does not fit, a leaf has no such axis, its name does not tell its
        units (`weight`) and none are given, or it shows layers that `stacked` does not name.

    References:
      Salimans and Kingma, "Weight normalization", 2016, as a constraint.
    """
    return acted_on(_normalized(unit_axis), params, where, stacked=stacked)


def projection_non_negative(params: PyTree, *, where: Where = None) -> PyTree:
    """Sets negative weights to 0: the projection of `non_negative`.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      Tree of the structure, shapes and dtypes of `params`; other leaves are returned unchanged.

    Raises:
      TypeError: If a selected leaf is not floating-point.
      ValueError: If `where` does not fit, or has shares.

    References:
      Lee and Seung, "Learning the parts of objects by non-negative matrix factorization", 1999.
    """
    return acted_on(_cut, params, where, rule=_selection.unit_shares)


def _limited(unit_axis: UnitAxis) -> Act:
    def scale(end: jax.Array, leaf: Leaf, limit: jax.Array) -> jax.Array:
        lengths = _unit_norms.unit_norm(end, _units.axes(end, leaf.path, unit_axis, leaf.layers).weights)
        most = limit * leaf.share
        over = lengths > most * (1 + leaf.slack)
        new = jnp.where(over, _unit_norms.scaled_to(end, jnp.where(over, lengths, 1), most), end)
        return jnp.where((limit >= 0) & (leaf.share >= 0), new, jnp.nan)

    return scale


def _normalized(unit_axis: UnitAxis) -> Act:
    def scale(end: jax.Array, leaf: Leaf) -> jax.Array:
        lengths = _unit_norms.unit_norm(end, _units.axes(end, leaf.path, unit_axis, leaf.layers).weights)
        off = (lengths > 0) & (jnp.abs(lengths - leaf.share) > leaf.share * leaf.slack)
        return jnp.where(off, _unit_norms.scaled_to(end, jnp.where(off, lengths, 1), leaf.share), end)

    return scale


def _cut(end: jax.Array, leaf: Leaf) -> jax.Array:
    return jnp.where(end < 0, 0, end)
