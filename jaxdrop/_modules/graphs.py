"""Dropout of graphs."""

import dataclasses

from jaxdrop import drops
from jaxdrop._modules.base import AtRateZero, Rated
from jaxdrop._types import Bits


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class DropEdge(AtRateZero, Rated):
    """DropEdge: removes edges of a graph. Module form of `jaxdrop.drop_edge`.

    Called with the weights of the edges; the call also takes their endpoints. If deterministic,
    removes no edge; `renormalize` still normalizes the weights.

    Attributes:
      rate: Probability of removing an edge, in [0, 1]: a scalar, or an array that broadcasts to
        the weights. May be traced; has no gradient.
      undirected: If true, the edges from a to b and from b to a are removed together. Needs both
        endpoints.
      renormalize: If true, normalizes the remaining adjacency matrix. Needs both endpoints and
        `num_nodes`.
      bits: Random bits per edge: 8, 16, 24 or 32 (32 draws as Flax does; directed graphs only). None:
        16, or 24 for rates near 0 or 1.
    """

    undirected: bool = False
    renormalize: bool = False
    bits: Bits = None
    _pure = staticmethod(drops.drop_edge)
    rates_without_key = (0,)
    _call_doc = """Removes edges; if deterministic, none.

    Args:
      inputs: Floating-point weights of the edges, `[E]`.
      senders: Node that each edge comes from: integers, `[E]`.
      receivers: Node that each edge goes to: integers, `[E]`.
      num_nodes: Number of nodes; needed to renormalize.

    Returns:
      Weights of the edges, `[E]`.
    """


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class DropMessage(Rated):
    """DropMessage: zeroes elements of the messages. Module form of `jaxdrop.drop_message`.

    Called with the messages of the edges, `[E, F]`, before they are aggregated.

    Attributes:
      rate: Probability of dropping an element, in [0, 1]: a scalar, or an array that broadcasts to
        the messages. May be traced; has no gradient.
    """

    bits: Bits = None
    _pure = staticmethod(drops.drop_message)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class DropNode(Rated):
    """DropNode: zeroes the features of whole nodes. Module form of `jaxdrop.drop_node`.

    Called with the features of the nodes of one graph, `[N, F]`.

    Attributes:
      rate: Probability of dropping a node, in [0, 1]: a scalar, or an array that broadcasts to
        `[N, 1]`. May be traced; has no gradient.
    """

    bits: Bits = None
    _pure = staticmethod(drops.drop_node)
