"""Penalties on parameters and activations: scalars to add to a loss.

The convention is `strength * sum(w**2)`, without a half, as in Keras. The gradient of
`l2(params, c)` is `2 * c * w`, like coupled weight decay: `weight_decay=2 * c` of torch's SGD and
Adam, and `optim.coupled_l2(c)`. AdamW's decay is decoupled from the gradient:
`optax.adamw(lr, weight_decay=2 * c)` is `optim.decoupled_l2(c, lr)`, and no penalty equals it.

`where` selects the leaves to act on (see `weight_mask`). A list of (pattern, share) pairs gives each
its own strength, like Keras's `kernel_regularizer` and `bias_regularizer`:
`l2(params, 1.0, where=[("Dense_0/kernel", 1e-4), ("*/kernel", 1e-3), ("*/bias", 1e-5)])`.

All sums are in float32 or wider, whatever the parameters' dtype.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp

from jaxdrop import _checks, _predictions, _unit_norms
from jaxdrop._selection import is_weight, leaves_like, once, strength_shares, weight_mask
from jaxdrop._strengths import check_pair, check_strength
from jaxdrop._types import ArrayLike, Numeric, PyTree, Where

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


_Size = Callable[..., jax.Array]
_Pair = Numeric | tuple[Numeric, Numeric]
# Means of activations are clipped this far from 0 and 1, where the divergence is infinite.
_NEAREST = 1e-6


def l1(params: PyTree, strength: Numeric, *, where: Where = None) -> jax.Array:
    """L1 penalty, `strength * sum(|w|)`: favors sparse weights.

    Gradient methods bring weights near zero; `optim.proximal_l1` makes them exactly zero.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      strength: Finite, non-negative scalar; may be traced.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar. The gradient at 0 is 0.

    Raises:
      TypeError: If a selected leaf is not floating-point.
      ValueError: If a concrete strength is negative or not finite, or `where` does not fit.

    References:
      Tibshirani, "Regression shrinkage and selection via the lasso", 1996.

    Examples:
      >>> l1({"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([9.0])}, 0.1)
      Array(0.3, dtype=float32)
    """
    return _total(_absolute, params, strength, where)


def l2(params: PyTree, strength: Numeric, *, where: Where = None) -> jax.Array:
    """L2 penalty, `strength * sum(w**2)`, without a factor of one half.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      strength: Finite, non-negative scalar; may be traced.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar.

    Raises:
      TypeError: If a selected leaf is not floating-point.
      ValueError: If a concrete strength is negative or not finite, or `where` does not fit.

    References:
      Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal problems", 1970.

    Examples:
      >>> l2({"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([9.0])}, 0.1)
      Array(0.5, dtype=float32)
    """
    return _total(_squares, params, strength, where)


def l1_l2(params: PyTree, strength: _Pair, *, where: Where = None) -> jax.Array:
    """Elastic net penalty: `l1(params, a) + l2(params, b)` for `strength = (a, b)`.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      strength: Finite, non-negative pair (l1, l2), or one scalar for both; may be traced.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar.

    Raises:
      TypeError: If a selected leaf is not floating-point.
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
    params: PyTree, strength: Numeric, *, unit_axis: int | Sequence[int] = -1, where: Where = None
) -> jax.Array:
    """Group lasso penalty, `strength * sum_g(sqrt(size_g) * ||w_g||)`: favors zero groups of weights.

    By default a group is a column of a Flax kernel `[..., inputs, units]`: all weights into a unit.
    `optim.proximal_group_lasso` makes groups exactly zero.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      strength: Finite, non-negative scalar; may be traced.
      unit_axis: Axis, or axes, whose indices are the groups: -1 for the weights into a unit, -2 for
        those out of an input, `(-2, -1)` for the units of all heads of Flax's attention.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar. The gradient of a group at 0 is 0.

    Raises:
      TypeError: If a selected leaf is not floating-point.
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
    params: PyTree, strength: Numeric, *, unit_axis: int | Sequence[int] = -1, where: Where = None
) -> jax.Array:
    """Orthogonality penalty: the mean absolute cosine between the weights of two units.

    For a kernel with units u: `strength * mean(|cos(w_u, w_v)|)` over all pairs u < v, summed over
    the kernels. Norms do not matter; orthogonal units give 0. It is Keras's
    `OrthogonalRegularizer`: mode "columns" is `unit_axis=-1`, "rows" is 0. Unlike Keras's it takes
    kernels of any rank, is 0 for a single unit, and has a finite gradient for units of zeros.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      strength: Finite, non-negative scalar; may be traced.
      unit_axis: Axis, or axes, whose indices are the units; the other axes are their weights.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar. A unit of zeros counts as orthogonal to all others, with gradient 0.

    Raises:
      TypeError: If a selected leaf is not floating-point.
      ValueError: If a concrete strength is negative or not finite, a selected leaf is of rank below
        2 or has no such axis, or `where` does not fit.

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


def l2_sp(params: PyTree, start: PyTree, strength: Numeric, *, where: Where = None) -> jax.Array:
    """L2-SP penalty, the squared distance from a starting point: `strength * sum((w - start)**2)`.

    In fine-tuning it keeps a network near its pretrained weights. New layers have no starting
    point: exclude them with `where`, and give them `l2`.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      start: Starting point, a tree of the same paths and shapes, such as a checkpoint's dict; no gradient.
      strength: Finite, non-negative scalar; may be traced.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar.

    Raises:
      TypeError: If a selected leaf is not floating-point.
      ValueError: If the trees differ in paths or shapes, a concrete strength is negative or not
        finite, or `where` does not fit.

    References:
      Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning with convolutional
      networks", 2018.

    Examples:
      >>> l2_sp({"kernel": jnp.array([[1.0, -2.0]])}, {"kernel": jnp.ones((1, 2))}, 0.5)
      Array(4.5, dtype=float32)
    """
    starts = leaves_like(start, params, "start")

    def size(w: jax.Array, at: ArrayLike) -> jax.Array:
        at = _checks.check_same_shape(_checks.check_floating(at, "start"), w, "start", "params")
        return _squares(w - jax.lax.stop_gradient(at.astype(w.dtype)))

    return _total(size, params, strength, where, starts)


def activity(activations: PyTree, strength: _Pair) -> jax.Array:
    """Activity penalty: the batch mean of `a * sum(|h|) + b * sum(h**2)` for `strength = (a, b)`.

    Keras's `activity_regularizer`: summed over each example, averaged over the batch. AWD-LSTM's
    mean over all elements is `losses.activation_regularization`.

    Args:
      activations: Array `[B, ...]` or a tree of them, such as Linen's `intermediates`.
      strength: Finite, non-negative pair (l1, l2), or one scalar for both; may be traced.

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
    a, b = map(check_strength, check_pair(strength))
    sizes = ((a * _absolute(h) + b * _squares(h)) / max(len(h), 1) for h in _batches(activations))
    return _sum(sizes)


def kl_sparsity(activations: PyTree, strength: Numeric, *, target: float) -> jax.Array:
    """Sparsity penalty: keeps each unit's mean activation near a target, `strength * sum(KL(t || m))`.

    With t = `target` and m a unit's mean over the batch, the divergence is that of two Bernoulli
    distributions: `t * log(t / m) + (1 - t) * log((1 - t) / (1 - m))`. It needs activations in
    [0, 1], such as sigmoids, or `tanh` of a ReLU.

    Args:
      activations: Array `[B, ...]` with values in [0, 1], or a tree of them; all axes except the
        first are units.
      strength: Finite, non-negative scalar; may be traced.
      target: Target of the mean activation, in (0, 1).

    Returns:
      A scalar, NaN if a mean of traced activations is outside [0, 1]. Means are clipped to
      [1e-6, 1 - 1e-6]; clipped means have no gradient.

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

    strength = check_strength(strength)
    return _sum(map(divergence, filter(len, _batches(activations)))) * strength


def _total(
    size: _Size, params: PyTree, strength: Numeric, where: Where, *others: Iterable[ArrayLike]
) -> jax.Array:
    """The sum over the selected leaves, in float32 or wider, each times its share of the strength."""
    strength = check_strength(strength)
    found = zip(once(params, strength_shares(params, where)), jax.tree.leaves(params), *others, strict=True)
    sizes = (
        share * size(_predictions.as_wide(leaf, "params"), *rest)
        for share, leaf, *rest in found
        if share is not None
    )
    return _sum(sizes) * strength


def _sum(sizes: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, sizes) if (sizes := list(sizes)) else jnp.zeros((), jnp.float32)


def _batches(activations: PyTree) -> list[jax.Array]:
    found = (_predictions.as_wide(h, "activations") for h in jax.tree.leaves(activations))
    return [_checks.check_rank(h, 1, "[B, ...]", "activations") for h in found]


def _absolute(w: jax.Array) -> jax.Array:
    """`sum(|w|)` with gradient 0 at 0; that of `jnp.abs` is 1 there and would move zeros."""
    return jnp.sum(w * jax.lax.stop_gradient(jnp.sign(w)))


def _squares(w: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(w))
