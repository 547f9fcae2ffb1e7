"""Recurrent cells that wrap a cell, for `nn.RNN`.

The cell's parameters lie one level down, in "cell", unless the cell is made in the same compact
method as its wrapper.
"""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

import dataclasses
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax

from jaxdrop._modules import recurrent
from jaxdrop._types import ArrayLike, Key, PyTree
from jaxdrop.linen._shell import Stochastic

__all__ = ["RecurrentDropoutCell", "ZoneoutCell"]

# Layers that are matrix products.
_PRODUCTS = (nn.Dense, nn.DenseGeneral, nn.Conv, nn.ConvLocal)


class _Cell(Stochastic, nn.RNNCellBase):
    """A cell around a cell."""

    cell: nn.RNNCellBase = dataclasses.field(kw_only=False)


class ZoneoutCell(recurrent.ZoneoutCell, _Cell):
    def __call__(
        self, carry: PyTree, inputs: ArrayLike, deterministic: bool | None = None
    ) -> tuple[PyTree, PyTree]:
        is_of_flax = recurrent.is_defined_with(nn.LSTMCell, self.cell)
        return self._step(carry, inputs, self._is_off(deterministic), is_of_flax)

    @nn.nowrap
    def initialize_carry(self, rng: Key, input_shape: tuple[int, ...]) -> PyTree:
        return self.cell.initialize_carry(rng, input_shape)


class RecurrentDropoutCell(recurrent.RecurrentDropoutCell, _Cell):
    """Examples:
    >>> import jax.numpy as jnp
    >>> rnn = nn.RNN(RecurrentDropoutCell(nn.LSTMCell(4), 0.5, deterministic=False))
    >>> x = jnp.ones((1, 3, 2))
    >>> variables = rnn.init(jax.random.key(0), x)
    >>> rnn.apply(variables, x, rngs={"dropout": jax.random.key(1)}).shape
    (1, 3, 4)
    """

    def __call__(
        self, carry: tuple[PyTree, tuple], inputs: ArrayLike, deterministic: bool | None = None
    ) -> tuple[PyTree, PyTree]:
        return self._step(carry, inputs, self._is_off(deterministic), (nn.GRUCell, nn.MGUCell))

    @nn.nowrap
    def _reading(self, reads: Sequence[recurrent.Reads]) -> Callable[..., tuple[PyTree, PyTree]]:
        """The cell, with masks where its layers read certain arrays."""

        def intercept(
            call: Callable[..., PyTree], args: tuple, kwargs: dict, context: nn.module.InterceptorContext
        ) -> PyTree:
            layer = context.module
            read = next((read for read in reads if args and args[0] is read.array), None)
            if read is None or not isinstance(layer, _PRODUCTS) or context.method_name != "__call__":
                return call(*args, **kwargs)
            return read.output(lambda x: call(x, *args[1:], **kwargs), layer.features)

        def step(state: PyTree, inputs: ArrayLike) -> tuple[PyTree, PyTree]:
            with nn.intercept_methods(intercept):
                return self.cell(state, inputs)

        return step

    @nn.nowrap
    def initialize_carry(self, rng: Key, input_shape: tuple[int, ...]) -> tuple[PyTree, tuple]:
        key = None
        if self.scope is None:
            rng, key = jax.random.split(rng)
        state = self.cell.initialize_carry(rng, input_shape)
        return state, self._draw_masks(state, input_shape, key)
