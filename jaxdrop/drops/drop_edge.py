"""DropEdge: removes edges of a graph at random. Rong et al., 2020."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks, _draw, _meshes
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops import _remat

__all__ = ["drop_edge"]


def drop_edge(
    key: Key,
    weights: ArrayLike,
    rate: Rate,
    *,
    senders: ArrayLike | None = None,
    receivers: ArrayLike | None = None,
    num_nodes: int | None = None,
    undirected: bool = False,
    renormalize: bool = False,
    bits: Bits = None,
) -> jax.Array:
    """Sets the weights of random edges to zero with probability `rate`, without changing shapes.

    Nothing is scaled. With `renormalize`, as in the paper, the remaining adjacency matrix A becomes
    `D**-0.5 @ A @ D**-0.5`, where D is the sum of the weights at each node (outgoing on the left,
    incoming on the right). Self-loops belong to the normalization, not to the graph: wherever
    `senders` and `receivers` are given, they are never removed. Rate 0 removes nothing.

    Args:
      key: A PRNG key, used once.
      weights: Floating-point edge weights, `[E]`; ones for an unweighted graph.
      rate: Probability of removing an edge, in [0, 1]: a scalar, or an array that broadcasts to
        `weights`; may be traced; no gradient.
      senders: Source node of each edge, integers `[E]` in [0, num_nodes).
      receivers: Target node of each edge, integers `[E]` in [0, num_nodes).
      num_nodes: Number of nodes; needed by `renormalize`.
      undirected: Whether the edges from a to b and from b to a are dropped together; needs
        `senders` and `receivers`.
      renormalize: Whether to normalize the remaining adjacency matrix; needs `senders`,
        `receivers` and `num_nodes`, and weights of at least 0.
      bits: Random bits per edge: 8, 16, 24 or 32 (32 reproduces Flax's masks, for directed edges
        only). None: 16, or 24 for rates near 0 or 1.

    Returns:
      Array of the shape and dtype of `weights`.

    Raises:
      TypeError: If `weights` is not floating-point, or `senders` or `receivers` not integer.
      ValueError: If shapes do not fit, a concrete rate is outside [0, 1], or an option needs an
        argument that is missing.

    References:
      Rong et al., "DropEdge: towards deep graph convolutional networks on node classification",
      2020.

    Examples:
      >>> ends = {"senders": jnp.array([0, 1, 1, 2]), "receivers": jnp.array([1, 0, 2, 1])}
      >>> drop_edge(jax.random.key(1), jnp.ones(4), 0.5, undirected=True, **ends)
      Array([1., 1., 0., 0.], dtype=float32)
    """
    weights = _checks.check_rank(_checks.check_floating(weights, "weights"), 1, "[E]", "weights")
    if weights.ndim != 1:
        raise ValueError(f"`weights` must be of shape [E], got {weights.shape}.")
    rate = _checks.check_broadcastable(_checks.check_rate(rate), weights.shape, "rate")
    ends = _ends(senders, receivers, weights, undirected or renormalize)
    if renormalize and num_nodes is None:
        raise ValueError("`num_nodes` must be given for `renormalize`, got None.")
    if undirected and bits == 32:
        raise ValueError("`bits` must be 8, 16, 24 or None for undirected edges, got 32.")
    draw = _checks.prepare(rate, weights.shape, bits)
    if not _checks.is_scalar(rate, 0):
        weights = _removed(key, weights, (draw, ends), undirected=undirected)
    if not renormalize:
        return weights
    normalized = partial(_normalized, num_nodes=num_nodes)
    return _meshes.on_automatic_axes(normalized, weights, ends, out=_meshes.partition(weights))


@_remat.redraw_in_backward("undirected")
def _removed(
    seed: _bits.Seed,
    weights: jax.Array,
    level: tuple[_checks.Draw, tuple[jax.Array, ...]],
    *,
    undirected: bool,
) -> jax.Array:
    draw, ends = level
    if undirected:
        # Both directions of an edge share a draw: it is indexed by the sorted pair of nodes.
        low, high = (jnp.asarray(f(*ends), jnp.uint32) for f in (jnp.minimum, jnp.maximum))
        keep = _bits.bernoulli_at(seed, draw.threshold, low, high, draw.width)
    else:
        keep = _draw.draw_mask(seed, draw, weights.shape)
    if ends:
        keep = keep | (ends[0] == ends[1])
    return _draw.nan_where_rate_invalid(
        _draw.where_like(keep, weights, jnp.zeros_like(weights)), draw.keep_prob
    )


def _normalized(weights: jax.Array, ends: tuple[jax.Array, ...], num_nodes: int | None) -> jax.Array:
    wide = weights.astype(_checks.widened(weights.dtype))
    result = wide
    for node in ends:
        degree = jax.ops.segment_sum(wide, node, num_nodes)
        result = result * jnp.where(degree > 0, jax.lax.rsqrt(jnp.where(degree > 0, degree, 1)), 0)[node]
    return result.astype(weights.dtype)


def _ends(
    senders: ArrayLike | None, receivers: ArrayLike | None, weights: jax.Array, needed: bool
) -> tuple[jax.Array, ...]:
    if senders is None and receivers is None and not needed:
        return ()
    ends = []
    for name, nodes in (("senders", senders), ("receivers", receivers)):
        if nodes is None:
            raise ValueError(f"`{name}` must be given, got None.")
        nodes = _checks.check_array(nodes, name, "an integer array")
        if not jnp.issubdtype(nodes.dtype, jnp.integer):
            raise TypeError(f"`{name}` must be an integer array, got {nodes.dtype}.")
        ends.append(_checks.check_same_shape(nodes, weights, name, "weights"))
    return tuple(ends)
