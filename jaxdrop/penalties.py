"""Penalties on parameters: scalars to add to a loss, and the rule of which leaves they concern.

The convention is `strength * sum(w**2)`, without a half, as in Keras: the gradient of
`l2(params, c)` is that of a coupled weight decay of `2 * c`, and no setting of AdamW's decoupled
decay equals it.

Weight decay itself is optax's, with the same rule of which leaves it concerns:
`optax.adamw(1e-3, weight_decay=1e-4, mask=penalties.weight_mask)`.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks

# A predicate on a path and a leaf, or a tree of booleans.
Where = Callable[[str, Any], bool] | Any
_NOT_WEIGHTS = frozenset({"bias", "scale"})


def l1(params: Any, strength: chex.Numeric, *, where: Where = None) -> jax.Array:
    """The sum of absolute values: `strength * sum(|w|)`, which favours sparse weights.

    Args:
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      strength: A finite, non-negative scalar; may be traced.
      where: Which leaves it concerns; by default the weights: see `weight_mask`.

    Returns:
      A scalar, summed in float32 at least. The gradient at 0 is 0.

    Raises:
      TypeError: If a concerned leaf is not floating-point.
      ValueError: If a concrete strength is negative or not finite, or a mask has another
        structure than the parameters.

    References:
      Tibshirani, "Regression shrinkage and selection via the lasso", 1996.

    >>> l1({"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([9.0])}, 0.1)
    Array(0.3, dtype=float32)
    """
    return _total(_magnitude, params, where) * _scalar("strength", strength)


def l2(params: Any, strength: chex.Numeric, *, where: Where = None) -> jax.Array:
    """The sum of squares: `strength * sum(w**2)`, without a half.

    Args:
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      strength: A finite, non-negative scalar; may be traced.
      where: Which leaves it concerns; by default the weights: see `weight_mask`.

    Returns:
      A scalar, summed in float32 at least.

    Raises:
      TypeError: If a concerned leaf is not floating-point.
      ValueError: If a concrete strength is negative or not finite, or a mask has another
        structure than the parameters.

    References:
      Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal problems", 1970.

    >>> l2({"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([9.0])}, 0.1)
    Array(0.5, dtype=float32)
    """
    return _total(jnp.square, params, where) * _scalar("strength", strength)


def l1_l2(
    params: Any,
    strength: chex.Numeric | tuple[chex.Numeric, chex.Numeric],
    *,
    where: Where = None,
) -> jax.Array:
    """The elastic net: `l1(params, a) + l2(params, b)` for `strength = (a, b)`.

    Args:
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      strength: The pair of an L1 and an L2 strength, or one scalar for both; may be traced.
      where: Which leaves it concerns; by default the weights: see `weight_mask`.

    Returns:
      A scalar, summed in float32 at least.

    Raises:
      ValueError: If `strength` is neither a scalar nor a pair, a concrete strength is negative or
        not finite, or a mask has another structure than the parameters.

    References:
      Zou and Hastie, "Regularization and variable selection via the elastic net", 2005.

    >>> l1_l2({"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([9.0])}, (0.1, 0.2))
    Array(1.3, dtype=float32)
    """
    several = isinstance(strength, tuple | list) or np.ndim(strength) > 0
    pair: Any = strength if several else (strength, strength)
    if len(pair) != 2:
        raise ValueError(f"`strength` must be a scalar or a pair (l1, l2), got {strength!r}.")
    return l1(params, pair[0], where=where) + l2(params, pair[1], where=where)


def weight_mask(params: Any, where: Where = None) -> Any:
    """Marks the leaves that penalties and decays concern; fits optax's `mask=` as it is.

    Args:
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      where: A predicate on a leaf's path ("Dense_0/kernel") and the leaf itself; or a tree of
        booleans of the structure of `params`; or None for the weights, `is_weight`. For a rule of
        one's own in optax, `mask=functools.partial(weight_mask, where=rule)`.

    Returns:
      A tree of booleans of the structure of `params`.

    Raises:
      ValueError: If `where` is a tree of another structure than `params`.

    >>> weight_mask({"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)})
    {'bias': False, 'kernel': True}
    """
    rule = is_weight if where is None else where
    if callable(rule):
        return jax.tree.map_with_path(lambda path, leaf: bool(rule(_name(path), leaf)), params)
    if jax.tree.structure(rule) != jax.tree.structure(params):
        raise ValueError(
            f"`where` must have the structure of the parameters, {jax.tree.structure(params)}, "
            f"got {jax.tree.structure(rule)}."
        )
    if any(np.ndim(use) for use in jax.tree.leaves(rule)):
        raise ValueError("`where` must hold one boolean for each leaf of the parameters, got arrays.")
    return jax.tree.map(bool, rule)


def is_weight(path: str, leaf: chex.Array) -> bool:
    """The default rule: of rank 2 at least, and not named "bias" or "scale".

    It leaves biases and the scales of normalisation layers alone.

    >>> is_weight("Dense_0/kernel", jnp.zeros((3, 2))), is_weight("Dense_0/bias", jnp.zeros(2))
    (True, False)
    """
    return np.ndim(leaf) >= 2 and path.rpartition("/")[2] not in _NOT_WEIGHTS


def _name(path: tuple) -> str:
    """The path as Flax users write it: without the attribute in which NNX wraps a value."""
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _scalar(name: str, value: chex.Numeric) -> chex.Numeric:
    return _checks.check_nonnegative(_checks.check_scalar(value, name), name)


def _total(size: Callable[[jax.Array], jax.Array], params: Any, where: Where) -> jax.Array:
    """The sum over all concerned elements, in float32 at least, so that half precision is safe."""
    mask = weight_mask(params, where)
    chosen = jax.tree.map(lambda leaf, use: _sum_wide(size, leaf) if use else None, params, mask)
    return sum(jax.tree.leaves(chosen), start=jnp.zeros((), jnp.float32))


def _magnitude(w: jax.Array) -> jax.Array:
    """`|w|` with the gradient 0 at 0; that of `jnp.abs` is 1 there, and would push zeros away."""
    return w * jax.lax.stop_gradient(jnp.sign(w))


def _sum_wide(size: Callable[[jax.Array], jax.Array], leaf: chex.Array) -> jax.Array:
    w = _checks.check_floating(leaf, "params")
    return jnp.sum(size(w.astype(jnp.float32) if w.dtype.itemsize < 4 else w))
