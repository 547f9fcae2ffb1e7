"""Constraints: limits on parameters that hold after every step."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from jaxdrop import _selection, _unit_norms
from jaxdrop._types import Numeric, Where
from jaxdrop.optim._step import Value, check_value, to_end, transformation

__all__ = ["max_norm", "non_negative", "unit_norm"]


def max_norm(
    limit: Value, *, unit_axis: int | Sequence[int] = -1, where: Where = None
) -> optax.GradientTransformation:
    """Max-norm constraint: scales the weights of each unit to a norm of at most `limit`; last in a chain.

    Units within the limit stay bit for bit the same; no epsilon shrinks them. Units that exceed it
    only by rounding stay too, so the constraint is idempotent.

    Args:
      limit: Non-negative scalar, or a schedule; may be traced. Infinity is no limit. A share in
        `where` multiplies it.
      unit_axis: Axis, or axes, whose indices are the units: -1 for the weights into a unit, -2 for those
        out of an input.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      Gradient transformation.

    Raises:
      ValueError: If a concrete limit is negative or NaN; from `init` if `where` does not fit the
        parameters or a leaf has no such axis.

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

    def scale(end: jax.Array, share: Numeric, limit: jax.Array, slack: float) -> jax.Array:
        lengths, most = _unit_norms.unit_norm(end, _unit_norms.axes_of_unit(end, unit_axis)), limit * share
        over = lengths > most * (1 + slack)
        return jnp.where(over, _unit_norms.scaled_to(end, jnp.where(over, lengths, 1), most), end)

    return transformation(to_end(scale, slack=True), where, check_value(limit, "limit", finite=False))


def unit_norm(*, unit_axis: int | Sequence[int] = -1, where: Where = None) -> optax.GradientTransformation:
    """Unit-norm constraint: scales the weights of each unit to norm 1; last in a chain.

    A unit of zeros has no direction and stays zero. A unit whose norm is 1 up to rounding is
    unchanged.

    Args:
      unit_axis: Axis, or axes, whose indices are the units: -1 for the weights into a unit, -2 for those
        out of an input.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`). A share replaces
        the norm 1.

    Returns:
      Gradient transformation.

    Raises:
      ValueError: From `init`, if `where` does not fit the parameters or a leaf has no such axis.

    References:
      Salimans and Kingma, "Weight normalization", 2016, as a constraint.
    """

    def scale(end: jax.Array, share: Numeric, slack: float) -> jax.Array:
        lengths = _unit_norms.unit_norm(end, _unit_norms.axes_of_unit(end, unit_axis))
        off = (lengths > 0) & (jnp.abs(lengths - share) > share * slack)
        return jnp.where(off, _unit_norms.scaled_to(end, jnp.where(off, lengths, 1), share), end)

    return transformation(to_end(scale, slack=True), where)


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

    def cut(end: jax.Array, share: Numeric) -> jax.Array:
        return jnp.where(end < 0, 0, end)

    return transformation(to_end(cut), where, rule=_selection.unit_shares)
