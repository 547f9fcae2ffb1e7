"""Dropout of graphs."""
# ruff: noqa: D101 - the docstring of a module is that of its fields.

import jax

from jaxdrop._modules import graphs
from jaxdrop._types import ArrayLike, Key, Rate
from jaxdrop.linen._shell import Stochastic

__all__ = ["DropEdge"]


class DropEdge(graphs.DropEdge, Stochastic):
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
        """Removes edges; if deterministic, none.

        Args:
          inputs: Floating-point weights of the edges, `[E]`.
          deterministic: If true, no noise. Set here or in the constructor, not both.
          rng: A key; by default one of the collection `rng_collection`.
          senders: Node that each edge comes from: integers, `[E]`.
          receivers: Node that each edge goes to: integers, `[E]`.
          num_nodes: Number of nodes; needed to renormalize.
          rate: Rate of this call, instead of the module's; may be traced.

        Returns:
          Weights of the edges, `[E]`.
        """
        graph = {"senders": senders, "receivers": receivers, "num_nodes": num_nodes}
        return self._apply((inputs,), self._rate(rate), deterministic, rng, **graph)
