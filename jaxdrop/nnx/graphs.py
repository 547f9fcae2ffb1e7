"""Dropout of graphs."""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

import jax

from jaxdrop._modules import graphs
from jaxdrop._types import ArrayLike, Rate
from jaxdrop.nnx._shell import Base, Shell, Source

__all__ = ["DropEdge", "DropMessage", "DropNode"]


class DropEdge(graphs.DropEdge, Base):
    def __call__(
        self,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Source = None,
        senders: ArrayLike | None = None,
        receivers: ArrayLike | None = None,
        num_nodes: int | None = None,
        rate: Rate | None = None,
    ) -> jax.Array:
        graph = {"senders": senders, "receivers": receivers, "num_nodes": num_nodes}
        return self._apply((inputs,), self._rate(rate), deterministic, rngs, **graph)


class DropMessage(graphs.DropMessage, Shell): ...


class DropNode(graphs.DropNode, Shell): ...
