"""DropNode: zeroes the features of whole nodes at random. Feng et al., 2020."""

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout

__all__ = ["drop_node"]


def drop_node(key: Key, x: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """Zeroes all features of a node with probability `rate` and scales the rest.

    This is DropNode of GRAND: `dropout` with one decision per row. Each element has the mean and
    variance of `dropout`, so evaluation needs no scale. The paper's code scales at evaluation instead.
    Node and edges stay in the graph: a dropped node still receives the features of its neighbors.

    DropNode also names the removal of nodes with all their edges, as of Do et al. and in the
    `dropout_node` of torch-geometric. That changes the mean. It is a mask of nodes, applied
    to the weights of the edges:

        kept = jaxdrop.keep_mask(key, (num_nodes,), rate)
        weights = jnp.where(kept[senders] & kept[receivers], weights, 0)

    `drop_edge` with rate 0 and `renormalize` then normalizes what remains.

    Args:
      key: A PRNG key, used once.
      x: Floating-point features of the nodes of one graph, `[N, F]`. Under `jax.vmap`, give each
        graph its own key.
      rate: Probability of dropping a node, in [0, 1]: a scalar, or an array that broadcasts to the
        mask `[N, 1]`; may be traced; no gradient.
      bits: Random bits per node: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If `x` is not of shape `[N, F]`, a concrete rate is outside [0, 1], or `bits` is not
        valid or too few to tell a concrete rate from 0 and 1.

    References:
      Feng et al., "Graph random neural networks for semi-supervised learning on graphs", 2020;
      Do et al., "Graph convolutional neural networks with node transition probability-based message
      passing and DropNode regularization", 2021.

    Examples:
      >>> drop_node(jax.random.key(0), jax.numpy.ones((4, 3)), 0.5)[:, 0]
      Array([2., 2., 2., 0.], dtype=float32)
    """
    x = _checks.check_floating(x)
    if x.ndim != 2:
        raise ValueError(f"`x` must be of shape [N, F], got {x.shape}.")
    return dropout(key, x, rate, broadcast_dims=(1,), bits=bits)
