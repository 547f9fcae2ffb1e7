"""Dropout of graphs."""
# ruff: noqa: D101 - the docstring of a module is that of its fields.

import jax

from jaxdrop._modules import graphs
from jaxdrop._types import ArrayLike, Rate
from jaxdrop.nnx._shell import Base, Rngs

__all__ = ["DropEdge"]


class DropEdge(graphs.DropEdge, Base):
    def __call__(
        self,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        senders: ArrayLike | None = None,
        receivers: ArrayLike | None = None,
        num_nodes: int | None = None,
        rate: Rate | None = None,
    ) -> jax.Array:
        """Removes edges; if deterministic, none.

        Args:
          inputs: Floating-point weights of the edges, `[E]`.
          deterministic: If true, no noise. Overrides the module's own.
          rngs: A key, a stream or streams. Overrides the module's own.
          senders: Node that each edge comes from: integers, `[E]`.
          receivers: Node that each edge goes to: integers, `[E]`.
          num_nodes: Number of nodes; needed to renormalize.
          rate: Rate of this call, instead of the module's; may be traced.

        Returns:
          Weights of the edges, `[E]`.
        """
        graph = {"senders": senders, "receivers": receivers, "num_nodes": num_nodes}
        return self._apply((inputs,), self._rate(rate), deterministic, rngs, **graph)
