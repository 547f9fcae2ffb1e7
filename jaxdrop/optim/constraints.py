"""Constraints: where a parameter may be, held after every step."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdrop import _selection, _unit_norms
from jaxdrop._types import Where
from jaxdrop.optim._step import Value, check_value, to_end, transformation

__all__ = ["max_norm", "non_negative", "unit_norm"]


def max_norm(
    limit: Value, *, unit_axis: int | Sequence[int] = -1, where: Where = None
) -> optax.GradientTransformation:
    """Scales the weights of a unit down to a norm of at most `limit`; last in a chain.

    What is within the limit is left as it is, to the bit: there is no epsilon that shrinks it. So
    is what exceeds it by no more than the rounding of its dtype, which makes it idempotent.

    Args:
      limit: A non-negative scalar, or a schedule; may be traced. Infinity is no limit. A share in
        `where` multiplies it.
      unit_axis: The axis, or axes, of which each index is a unit; see `penalties.group_lasso`.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      A transformation.

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

    def scale(end: jax.Array, share: Any, limit: Any, slack: float) -> jax.Array:
        lengths, most = _unit_norms.unit_norm(end, _unit_norms.axes_of_unit(end, unit_axis)), limit * share
        over = lengths > most * (1 + slack)
        return jnp.where(over, end * (most / jnp.where(over, lengths, 1)), end)

    return transformation(to_end(scale, slack=True), where, check_value(limit, "limit", finite=False))


def unit_norm(*, unit_axis: int | Sequence[int] = -1, where: Where = None) -> optax.GradientTransformation:
    """Scales the weights of each unit to norm 1; last in a chain.

    A unit whose weights are all 0 has no direction, and stays so. A norm that is 1 to the rounding
    of its dtype is left as it is.

    Args:
      unit_axis: The axis, or axes, of which each index is a unit; see `penalties.group_lasso`.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`). A share replaces
        the norm 1.

    Returns:
      A transformation.

    Raises:
      ValueError: From `init`, if `where` does not fit the parameters or a leaf has no such axis.

    References:
      Salimans and Kingma, "Weight normalization", 2016, of which it is the constraint.
    """

    def scale(end: jax.Array, share: Any, slack: float) -> jax.Array:
        lengths = _unit_norms.unit_norm(end, _unit_norms.axes_of_unit(end, unit_axis))
        off = (lengths > 0) & (jnp.abs(lengths - share) > share * slack)
        return jnp.where(off, end * (share / jnp.where(off, lengths, 1)), end)

    return transformation(to_end(scale, slack=True), where)


def non_negative(*, where: Where = None) -> optax.GradientTransformation:
    """Puts 0 in the place of each weight that would be negative; last in a chain.

    Args:
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      A transformation.

    Raises:
      ValueError: From `init`, if `where` does not fit the parameters, or has shares.

    References:
      Lee and Seung, "Learning the parts of objects by non-negative matrix factorization", 1999.
    """

    def cut(end: jax.Array, share: Any) -> jax.Array:
        return jnp.where(end < 0, 0, end)

    return transformation(to_end(cut), where, rule=_selection.unit_shares)
