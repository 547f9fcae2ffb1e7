"""Penalties: scalars to add to a loss, of parameters or of activations.

The convention is `strength * sum(w**2)`, without a half, as in Keras. The gradient of
`l2(params, c)` is `2 * c * w`, that of a coupled weight decay of `2 * c`: `weight_decay=2 * c` of
torch's SGD and Adam, and `optim.coupled_l2(c)`. AdamW's decay is decoupled from the gradient:
`optax.adamw(lr, weight_decay=2 * c)` is `optim.decoupled_l2(c, lr)`, and no penalty equals it.

`where` says which parameters are concerned, see `weight_mask`; a list of (pattern, share) pairs
gives each its own strength, as Keras's `kernel_regularizer` and `bias_regularizer` do:
`l2(params, 1.0, where=[("Dense_0/kernel", 1e-4), ("*/kernel", 1e-3), ("*/bias", 1e-5)])`.

All sums are in float32 at least, whatever the parameters' dtype.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _unit_norms
from jaxdrop._selection import is_weight as is_weight
from jaxdrop._selection import strength_shares
from jaxdrop._selection import weight_mask as weight_mask
from jaxdrop._types import Numeric, Where

__all__ = [
    "activity",
    "group_lasso",
    "is_weight",
    "kl_sparsity",
    "l1",
    "l1_l2",
    "l2",
    "l2_sp",
    "orthogonal",
    "weight_mask",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__


Size = Callable[..., jax.Array]
Pair = Numeric | tuple[Numeric, Numeric]
# How near to 0 and 1 the mean of an activation counts: the divergence is infinite there.
_NEAREST = 1e-6


def l1(params: Any, strength: Numeric, *, where: Where = None) -> jax.Array:
    """The sum of absolute values: `strength * sum(|w|)`, which favors sparse weights.

    A gradient method brings weights near zero; `optim.proximal_l1` makes them exactly zero.

    Args:
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      strength: A finite, non-negative scalar; may be traced.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar. The gradient at 0 is 0.

    Raises:
      TypeError: If a concerned leaf is not floating-point.
      ValueError: If a concrete strength is negative or not finite, or `where` does not fit.

    References:
      Tibshirani, "Regression shrinkage and selection via the lasso", 1996.

    Examples:
      >>> l1({"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([9.0])}, 0.1)
      Array(0.3, dtype=float32)
    """
    return _total(_absolute, params, strength, where)


def l2(params: Any, strength: Numeric, *, where: Where = None) -> jax.Array:
    """The sum of squares: `strength * sum(w**2)`, without a half.

    Args:
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      strength: A finite, non-negative scalar; may be traced.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar.

    Raises:
      TypeError: If a concerned leaf is not floating-point.
      ValueError: If a concrete strength is negative or not finite, or `where` does not fit.

    References:
      Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal problems", 1970.

    Examples:
      >>> l2({"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([9.0])}, 0.1)
      Array(0.5, dtype=float32)
    """
    return _total(_squares, params, strength, where)


def l1_l2(params: Any, strength: Pair, *, where: Where = None) -> jax.Array:
    """The elastic net: `l1(params, a) + l2(params, b)` for `strength = (a, b)`.

    Args:
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      strength: The pair of an L1 and an L2 strength, or one scalar for both; may be traced.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar.

    Raises:
      TypeError: If a concerned leaf is not floating-point.
      ValueError: If `strength` is neither a scalar nor a pair, a concrete strength is negative or
        not finite, or `where` does not fit.

    References:
      Zou and Hastie, "Regularization and variable selection via the elastic net", 2005.

    Examples:
      >>> l1_l2({"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([9.0])}, (0.1, 0.2))
      Array(1.3, dtype=float32)
    """
    a, b = check_pair(strength)
    return l1(params, a, where=where) + l2(params, b, where=where)


def group_lasso(
    params: Any, strength: Numeric, *, unit_axis: int | Sequence[int] = -1, where: Where = None
) -> jax.Array:
    """The sum of the norms of groups of weights: `strength * sum_g(sqrt(size_g) * ||w_g||)`.

    It favors that whole groups vanish together: by default the columns of a Flax kernel
    `[..., inputs, units]`, all the weights that lead into a unit. `optim.proximal_group_lasso`
    makes them exactly zero.

    Args:
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      strength: A finite, non-negative scalar; may be traced.
      unit_axis: The axis, or axes, of which each index is a group: -1 for the weights into a unit,
        -2 for those out of an input, `(-2, -1)` for the units of all heads of Flax's attention.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar. The gradient of a group at 0 is 0.

    Raises:
      TypeError: If a concerned leaf is not floating-point.
      ValueError: If a concrete strength is negative or not finite, a leaf has no such axis, or
        `where` does not fit.

    References:
      Yuan and Lin, "Model selection and estimation in regression with grouped variables", 2006;
      on the units of a network: Scardapane et al., "Group sparse regularization for deep neural
      networks", 2017.

    Examples:
      >>> group_lasso({"kernel": jnp.array([[1.0, 0.0]] * 4)}, 1.0)  # sqrt(4) * 2
      Array(4., dtype=float32)
    """

    def size(w: jax.Array) -> jax.Array:
        norms = _unit_norms.unit_norm(w, _unit_norms.axes_of_unit(w, unit_axis))
        return jnp.sum(norms) * (w.size / max(norms.size, 1)) ** 0.5

    return _total(size, params, strength, where)


def orthogonal(
    params: Any, strength: Numeric, *, unit_axis: int | Sequence[int] = -1, where: Where = None
) -> jax.Array:
    """The mean absolute cosine between the weights of two units; 0 where all are orthogonal.

    For a kernel with units u: `strength * mean(|cos(w_u, w_v)|)` over all pairs u < v, summed over
    the kernels. Norms do not count. It is Keras's `OrthogonalRegularizer`: mode "columns" for
    `unit_axis=-1`, "rows" for 0; but of any rank, 0 for a single unit, and with a finite gradient
    where a unit's weights are all 0.

    Args:
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      strength: A finite, non-negative scalar; may be traced.
      unit_axis: The axis, or axes, of which each index is a unit; all the others are its weights.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar. Units of which one is all 0 count as orthogonal, with gradient 0.

    Raises:
      TypeError: If a concerned leaf is not floating-point.
      ValueError: If a concrete strength is negative or not finite, a concerned leaf is of rank
        below 2 or has no such axis, or `where` does not fit.

    References:
      Brock et al., "Neural photo editing with introspective adversarial networks", 2017.

    Examples:
      >>> orthogonal({"kernel": jnp.array([[1.0, 3.0], [0.0, 4.0]])}, 1.0)
      Array(0.6, dtype=float32)
    """

    def size(w: jax.Array) -> jax.Array:
        axes = _unit_norms.axes_of_unit(_checks.check_rank(w, 2, "[..., inputs, units]", "params"), unit_axis)
        lengths = _unit_norms.unit_norm(w, axes)
        units = w / jnp.where(lengths > 0, lengths, 1)
        rows = jnp.moveaxis(units, axes, range(-len(axes), 0)).reshape(lengths.size, -1)
        cosines = jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)
        pairs = lengths.size * (lengths.size - 1)
        return _absolute(cosines * (1 - jnp.eye(lengths.size, dtype=w.dtype))) / max(pairs, 1)

    return _total(size, params, strength, where)


def l2_sp(params: Any, start: Any, strength: Numeric, *, where: Where = None) -> jax.Array:
    """The squared distance from a starting point: `strength * sum((w - start)**2)`.

    For fine-tuning: it holds a network near the one it started from. The layers that are new have
    nothing to be held to: leave them out by `where`, and give them `l2`.

    Args:
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      start: The tree they started from, of the same structure and shapes; it has no gradient.
      strength: A finite, non-negative scalar; may be traced.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar.

    Raises:
      TypeError: If a concerned leaf is not floating-point.
      ValueError: If the trees differ in structure or shape, a concrete strength is negative or not
        finite, or `where` does not fit.

    References:
      Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning with convolutional
      networks", 2018.

    Examples:
      >>> l2_sp({"kernel": jnp.array([[1.0, -2.0]])}, {"kernel": jnp.ones((1, 2))}, 0.5)
      Array(4.5, dtype=float32)
    """
    if jax.tree.structure(start) != jax.tree.structure(params):
        raise ValueError(
            f"`start` must have the structure of the parameters, {jax.tree.structure(params)}, "
            f"got {jax.tree.structure(start)}."
        )
    starts = iter(jax.tree.leaves(start))

    def size(w: jax.Array, at: Any) -> jax.Array:
        at = _checks.check_same_shape(jnp.asarray(at), w, "start", "params")
        return _squares(w - jax.lax.stop_gradient(at.astype(w.dtype)))

    return _total(size, params, strength, where, starts)


def activity(activations: Any, strength: Pair) -> jax.Array:
    """The elastic net of activations: the mean over the batch of `a * sum(|h|) + b * sum(h**2)`.

    Keras's `activity_regularizer`: summed over all that belongs to an example, divided by the
    number of examples. AWD-LSTM's, a mean over all elements, is
    `losses.activation_regularization`.

    Args:
      activations: An array `[B, ...]` or a tree of them, such as Linen's `intermediates`.
      strength: The pair of an L1 and an L2 strength, or one scalar for both; may be traced.

    Returns:
      A scalar. The gradient at 0 is 0.

    Raises:
      TypeError: If an array is not floating-point.
      ValueError: If `strength` is neither a scalar nor a pair, a concrete strength is negative or
        not finite, or an array has no axis.

    Examples:
      >>> activity(jnp.array([[1.0, -2.0], [3.0, 0.0]]), (0.1, 0.0))
      Array(0.3, dtype=float32)
    """
    a, b = map(_strength, check_pair(strength))
    sizes = ((a * _absolute(h) + b * _squares(h)) / max(len(h), 1) for h in _batches(activations))
    return sum(sizes, jnp.zeros((), jnp.float32))


def kl_sparsity(activations: Any, strength: Numeric, *, target: float) -> jax.Array:
    """Holds each unit's mean activation at a small target: `strength * sum(KL(target || mean))`.

    The mean is over the batch, and the divergence that of two coins:
    `t * log(t / m) + (1 - t) * log((1 - t) / (1 - m))`. It is for units between 0 and 1, such as
    sigmoids, or `tanh` of what a ReLU gives.

    Args:
      activations: An array `[B, ...]`, each value in [0, 1], or a tree of them; all axes but the
        first are units.
      strength: A finite, non-negative scalar; may be traced.
      target: The mean that is wanted, in (0, 1).

    Returns:
      A scalar, NaN if a mean of traced activations lies outside [0, 1]. A mean nearer to 0 or 1
      than 1e-6 counts as that, and has no gradient.

    Raises:
      TypeError: If an array is not floating-point.
      ValueError: If a concrete strength is negative or not finite, the target is outside (0, 1),
        a mean of concrete activations is outside [0, 1], or an array has no axis.

    References:
      Lee, Ekanadham and Ng, "Sparse deep belief net model for visual area V2", 2008; a baseline of
      Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Examples:
      >>> kl_sparsity(jnp.array([[0.0, 0.2], [1.0, 0.0]]), 1.0, target=0.1).round(4)
      Array(0.3681, dtype=float32)
    """
    t = _checks.check_number(target, "target")
    if not 0 < t < 1:
        raise ValueError(f"`target` must lie in (0, 1), got {t:g}.")

    def divergence(h: jax.Array) -> jax.Array:
        mean = _checks.check_rate(jnp.mean(h, 0), "activations")
        near = jnp.where((mean >= 0) & (mean <= 1), jnp.clip(mean, _NEAREST, 1 - _NEAREST), jnp.nan)
        return jnp.sum(t * jnp.log(t / near) + (1 - t) * jnp.log((1 - t) / (1 - near)))

    strength = _strength(strength)
    return sum(map(divergence, _batches(activations)), jnp.zeros((), jnp.float32)) * strength


def check_pair(strength: Any) -> tuple[Any, Any]:
    """An L1 and an L2 strength, each of them still unchecked; one alone is both."""
    several = isinstance(strength, tuple | list) or (not callable(strength) and np.ndim(strength) > 0)
    pair: Any = strength if several else (strength, strength)
    if len(pair) != 2:
        raise ValueError(f"`strength` must be a scalar or a pair (l1, l2), got {strength!r}.")
    return pair[0], pair[1]


def _total(size: Size, params: Any, strength: Any, where: Where, *others: Iterable) -> jax.Array:
    """The sum over the concerned leaves, each times its share; `size` is given float32 at least."""
    strength = _strength(strength)
    found = zip(strength_shares(params, where), jax.tree.leaves(params), *others, strict=True)
    sizes = (
        share * size(_checks.as_wide(leaf, "params"), *rest)
        for share, leaf, *rest in found
        if share is not None
    )
    return sum(sizes, jnp.zeros((), jnp.float32)) * strength


def _strength(strength: Numeric) -> Any:
    return _checks.check_nonnegative(_checks.check_scalar(strength, "strength"), "strength")


def _batches(activations: Any) -> list[jax.Array]:
    found = (_checks.as_wide(h, "activations") for h in jax.tree.leaves(activations))
    return [_checks.check_rank(h, 1, "[B, ...]", "activations") for h in found]


def _absolute(w: jax.Array) -> jax.Array:
    """`sum(|w|)` with the gradient 0 at 0; that of `jnp.abs` is 1 there, and would push zeros away."""
    return jnp.sum(w * jax.lax.stop_gradient(jnp.sign(w)))


def _squares(w: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(w))
