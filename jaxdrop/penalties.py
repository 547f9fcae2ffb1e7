"""Penalties on parameters and activations: scalars to add to a loss.

The convention is `strength * sum(w**2)`, without a half, as in Keras. The gradient of
`l2(params, c)` is `2 * c * w`, like coupled weight decay: `weight_decay=2 * c` of torch's SGD and
Adam, and `optim.coupled_l2(c)`. AdamW's decay is decoupled from the gradient:
`optax.adamw(lr, weight_decay=2 * c)` is `optim.decoupled_l2(c, lr)`, and no penalty equals it.

`where` selects the leaves to act on (see `weight_mask`). A list of (pattern, share) pairs gives each
its own strength, like Keras's `kernel_regularizer` and `bias_regularizer`:
`l2(params, 1.0, where=[("Dense_0/kernel", 1e-4), ("*/kernel", 1e-3), ("*/bias", 1e-5)])`.

`group_lasso` and `orthogonal` need the units of each leaf, and `stacked` the leaves that hold several
layers, of `nn.scan`, `nnx.vmap` or an ensemble (see `jaxdrop.optim`).

All sums are in float32 or wider, whatever the parameters' dtype.
"""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from jaxdrop import _checks, _predictions, _selection, _sums, _unit_norms, _units
from jaxdrop._activity import Pair, activity, kl_sparsity
from jaxdrop._selection import is_weight, weight_mask
from jaxdrop._strengths import check_pair, check_strength
from jaxdrop._types import ArrayLike, Numeric, PyTree, Stacked, UnitAxis, Where

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
    return _total(_sums.absolute, params, strength, where)


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
    return _total(_sums.squares, params, strength, where)


def l1_l2(params: PyTree, strength: Pair, *, where: Where = None) -> jax.Array:
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
    params: PyTree,
    strength: Numeric,
    *,
    unit_axis: UnitAxis = None,
    stacked: Stacked = (),
    where: Where = None,
) -> jax.Array:
    """Group lasso penalty, `strength * sum_g(sqrt(size_g) * ||w_g||)`: favors zero groups of weights.

    By default a group is a column of a Flax kernel `[..., inputs, units]`: all weights into a unit; of
    an embedding table it is a row.
    `optim.proximal_group_lasso` makes groups exactly zero.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      strength: Finite, non-negative scalar; may be traced.
      unit_axis: Axis, or axes, whose indices are the groups: -1 for the weights into a unit, -2 for
        those out of an input or the rows of a table, `(-2, -1)` for the units of all heads of Flax's
        attention. None: -2 for embedding tables by their name, and else -1.
      stacked: (pattern, axes) pairs that name the leaves of stacked layers and the axes of the layers, such
        as `[("layers/*", 0)]` for `nn.scan` or `[("*", 0)]` for an ensemble. The first pattern that
        matches a path applies. Each layer is treated alone, and `unit_axis` counts its axes alone.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar. The gradient of a group at 0 is 0.

    Raises:
      TypeError: If a selected leaf is not floating-point.
      ValueError: If a concrete strength is negative or not finite, `where` or `stacked` does not
        fit, a leaf has no such axis, its name does not tell its units (`weight`) and none are given, or
        it shows layers that `stacked` does not name.

    References:
      Yuan and Lin, "Model selection and estimation in regression with grouped variables", 2006;
      on the units of a network: Scardapane et al., "Group sparse regularization for deep neural
      networks", 2017.

    Examples:
      >>> group_lasso({"kernel": jnp.array([[1.0, 0.0]] * 4)}, 1.0)  # sqrt(4) * 2
      Array(4., dtype=float32)
    """

    def size(w: jax.Array, path: str, layers: _units.Layers) -> jax.Array:
        norms = _unit_norms.unit_norm(w, _units.axes(w, path, unit_axis, layers).weights)
        return jnp.sum(norms) * (w.size / max(norms.size, 1)) ** 0.5

    return _total(size, params, strength, where, _selection.paths(params), _units.layers(params, stacked))


def orthogonal(
    params: PyTree,
    strength: Numeric,
    *,
    unit_axis: UnitAxis = None,
    stacked: Stacked = (),
    where: Where = None,
) -> jax.Array:
    """Orthogonality penalty: the mean absolute cosine between the weights of two units.

    For a kernel with units u: `strength * mean(|cos(w_u, w_v)|)` over all pairs u < v, summed over
    the kernels, of stacked layers too. Norms do not matter; orthogonal units give 0. It is Keras's
    `OrthogonalRegularizer`: mode "columns" is `unit_axis=-1`, "rows" is 0. Unlike Keras's it takes
    kernels of any rank, is 0 for a single unit, and has a finite gradient for units of zeros.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      strength: Finite, non-negative scalar; may be traced.
      unit_axis: Axis, or axes, whose indices are the units; the other axes are their weights. None:
        -2 for embedding tables by their name, and else -1.
      stacked: (pattern, axes) pairs that name the leaves of stacked layers and the axes of the layers, such
        as `[("layers/*", 0)]` for `nn.scan` or `[("*", 0)]` for an ensemble. The first pattern that
        matches a path applies. Each layer is treated alone, and `unit_axis` counts its axes alone.
      where: Leaves to act on; defaults to the weights (see `weight_mask`).

    Returns:
      A scalar. A unit of zeros counts as orthogonal to all others, with gradient 0.

    Raises:
      TypeError: If a selected leaf is not floating-point.
      ValueError: If a concrete strength is negative or not finite, `where` or `stacked` does not
        fit, a layer's leaf is of rank below 2 or has no such axis, its name does not tell its units
        (`weight`) and none are given, or it shows layers that `stacked` does not name.

    References:
      Brock et al., "Neural photo editing with introspective adversarial networks", 2017.

    Examples:
      >>> orthogonal({"kernel": jnp.array([[1.0, 3.0], [0.0, 4.0]])}, 1.0)
      Array(0.6, dtype=float32)
    """

    def size(w: jax.Array, path: str, layers: _units.Layers) -> jax.Array:
        found = _units.axes(w, path, unit_axis, layers)
        w = _checks.check_rank(w, 2 + len(found.layers), "[..., inputs, units]", "params")
        cosines = _unit_norms.cosines(w, found.layers, found.units)
        count = cosines.shape[-1]
        return _sums.absolute(cosines) / max(count * (count - 1), 1)

    return _total(size, params, strength, where, _selection.paths(params), _units.layers(params, stacked))


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
      TypeError: If a selected leaf, or its start, is not floating-point.
      ValueError: If the trees differ in paths or shapes, a concrete strength is negative or not
        finite, or `where` does not fit.

    References:
      Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning with convolutional
      networks", 2018.

    Examples:
      >>> l2_sp({"kernel": jnp.array([[1.0, -2.0]])}, {"kernel": jnp.ones((1, 2))}, 0.5)
      Array(4.5, dtype=float32)
    """
    starts = _selection.leaves_like(start, params, "start")

    def size(w: jax.Array, at: ArrayLike, path: str) -> jax.Array:
        at = _checks.check_same_shape(_selection.check_floating(at, path, "start"), w, "start", "params")
        return _sums.squares(w - jax.lax.stop_gradient(at.astype(w.dtype)))

    return _total(size, params, strength, where, starts, _selection.paths(params))


def _total(
    size: _Size,
    params: PyTree,
    strength: Numeric,
    where: Where,
    *others: Iterable[ArrayLike | str | _units.Layers],
) -> jax.Array:
    """The sum over the selected leaves, in float32 or wider, each times its share of the strength."""
    strength = check_strength(strength)
    shares = _selection.once(params, _selection.strength_shares(params, where))
    found = zip(shares, _selection.paths(params), jax.tree.leaves(params), *others, strict=True)
    sizes = (
        share * size(_predictions.widened(_selection.check_floating(leaf, path)), *rest)
        for share, path, leaf, *rest in found
        if share is not None
    )
    return _sums.total(sizes) * strength
