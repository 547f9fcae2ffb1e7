"""Regularizers of graphs."""

from typing import Any

import jax

from jaxdrop import drops
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.linen._shell import Shell


class DropEdge(Shell):
    """`jaxdrop.drop_edge` as a module: called with the weights of the edges, and their ends.

    Where deterministic no edge is removed; with `renormalize` the weights are normalised still.

    Attributes:
      rate: The probability of removing an edge, in [0, 1]; a scalar or an array; may be traced.
      undirected: Whether the edges from a to b and from b to a go together; needs both ends.
      renormalize: Whether to normalise what is left; needs both ends and `num_nodes`.
      bits: Random bits an edge: 8, 16, 24, 32 (Flax; directed only), or None for 16 or 24 by the rate.
    """

    undirected: bool = False
    renormalize: bool = False
    bits: Bits = None
    _pure = staticmethod(drops.drop_edge)
    rates_without_key = (0,)

    def __call__(
        self,
        inputs: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        senders: ArrayLike | None = None,
        receivers: ArrayLike | None = None,
        num_nodes: int | None = None,
        rate: Rate | None = None,
    ) -> jax.Array:
        """Removes edges; the graph is given as `jaxdrop.drop_edge` takes it."""
        graph = {"senders": senders, "receivers": receivers, "num_nodes": num_nodes}
        return self._apply((inputs,), self._rate(rate), deterministic, rng, **graph)

    def _deterministic_output(self, inputs: ArrayLike, *_: Any, **graph: Any) -> jax.Array:
        return self._pure(None, inputs, 0.0, **self._options(), **graph)
