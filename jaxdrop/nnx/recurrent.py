"""Recurrent cells that wrap a cell, for `nnx.RNN`.

The cell's parameters lie one level down, in "cell".
"""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from jaxdrop import _checks
from jaxdrop._modules import recurrent
from jaxdrop._types import ArrayLike, PyTree
from jaxdrop.nnx._shell import Base, Rngs

__all__ = ["RecurrentDropoutCell", "ZoneoutCell"]

# Layers that are matrix products.
_PRODUCTS = (nnx.Linear, nnx.LinearGeneral, nnx.Conv)


class _Cell(Base, nnx.RNNCellBase):
    """A cell around a cell."""

    cell: Any = dataclasses.field(kw_only=False)

    def __post_init__(self: Any, rngs: Rngs | None):
        super().__post_init__(rngs)
        jax.tree.map(_checks.check_rate, self.rate)


class ZoneoutCell(recurrent.ZoneoutCell, _Cell):
    def __call__(
        self, carry: PyTree, inputs: ArrayLike, deterministic: bool | None = None
    ) -> tuple[PyTree, PyTree]:
        is_of_flax = recurrent.is_defined_with(nnx.LSTMCell, self.cell)
        return self._step(carry, inputs, self._is_off(deterministic), is_of_flax)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Rngs | None = None, carry_init: PyTree = None
    ) -> PyTree:
        return self.cell.initialize_carry(input_shape, rngs, carry_init)


class RecurrentDropoutCell(recurrent.RecurrentDropoutCell, _Cell):
    """Examples:
    >>> import jax.numpy as jnp
    >>> rngs = nnx.Rngs(0)
    >>> rnn = nnx.RNN(RecurrentDropoutCell(nnx.LSTMCell(2, 4, rngs=rngs), 0.5, rngs=rngs))
    >>> rnn(jnp.ones((1, 3, 2))).shape
    (1, 3, 4)
    """

    def __call__(
        self, carry: tuple[PyTree, tuple], inputs: ArrayLike, deterministic: bool | None = None
    ) -> tuple[PyTree, PyTree]:
        return self._step(carry, inputs, self._is_off(deterministic), (nnx.GRUCell,))

    def _reading(self, reads: Sequence[recurrent.Reads]) -> Callable[..., tuple[PyTree, PyTree]]:
        """The cell, with masks where its layers read certain arrays."""
        return _reading(self.cell, reads)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Rngs | None = None, carry_init: PyTree = None
    ) -> tuple[PyTree, tuple]:
        state = self.cell.initialize_carry(input_shape, rngs, carry_init)
        return state, self._draw_masks(state, input_shape, None)


def _reading(cell: PyTree, reads: Sequence[recurrent.Reads]) -> PyTree:
    """A copy of a cell with its variables, whose layers mask certain arrays."""
    reading = copy.copy(cell)
    for name, part in vars(cell).items():
        if isinstance(part, _PRODUCTS):
            vars(reading)[name] = _reader(part, reads)  # past NNX's hook: the copy is called once
        elif name == "cell":
            vars(reading)[name] = _reading(part, reads)
    return reading


def _reader(
    layer: nnx.Linear | nnx.LinearGeneral | nnx.Conv, reads: Sequence[recurrent.Reads]
) -> Callable[[jax.Array], jax.Array]:
    def call(x: jax.Array) -> jax.Array:
        read = next((read for read in reads if x is read.array), None)
        return layer(x) if read is None else read.output(layer, layer.out_features)

    return call
