"""Recurrent cells that wrap a cell, for `nn.RNN`.

The cell's parameters lie one level down, in "cell", unless the cell is made in the same compact
method as its wrapper.
"""
# ruff: noqa: D101 - a module without a docstring has that of its fields.

import dataclasses

import flax.linen as nn
import jax

from jaxdrop._modules import recurrent
from jaxdrop._types import ArrayLike, Key, PyTree
from jaxdrop.linen._shell import Stochastic

__all__ = ["RecurrentDropoutCell", "ZoneoutCell"]


class _Cell(Stochastic, nn.RNNCellBase):
    """A cell around a cell."""

    cell: nn.RNNCellBase = dataclasses.field(kw_only=False)


class ZoneoutCell(recurrent.ZoneoutCell, _Cell):
    def __call__(
        self, carry: PyTree, inputs: ArrayLike, deterministic: bool | None = None
    ) -> tuple[PyTree, PyTree]:
        """One step of the cell, and zoneout.

        Args:
          carry: The state.
          inputs: Inputs of the step.
          deterministic: If true, takes the mean. Set here or in the constructor, not both.

        Returns:
          The new state and the output.
        """
        is_of_flax = recurrent.is_defined_with(nn.LSTMCell, self.cell)
        return self._step(carry, inputs, self._is_off(deterministic), is_of_flax)

    @nn.nowrap
    def initialize_carry(self, rng: Key, input_shape: tuple[int, ...]) -> PyTree:
        """The initial state of the wrapped cell.

        Args:
          rng: A key, for the cell.
          input_shape: Shape of the inputs of one step.

        Returns:
          The initial state.
        """
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
        """One step of the cell, under the masks of the carry.

        Args:
          carry: The state, and the masks of the inputs and of the hidden state.
          inputs: Inputs of the step.
          deterministic: If true, no noise. Set here or in the constructor, not both.

        Returns:
          The new state with the same masks, and the output.
        """
        return self._step(carry, inputs, self._is_off(deterministic))

    @nn.nowrap
    def initialize_carry(self, rng: Key, input_shape: tuple[int, ...]) -> tuple[PyTree, tuple]:
        """The initial state of the wrapped cell, and the masks.

        Args:
          rng: A key, for the cell; outside of a model also for the masks.
          input_shape: Shape of the inputs of one step.

        Returns:
          The state, and the masks of the inputs and of the hidden state: booleans of their shapes,
          or None where nothing is dropped.

        Raises:
          TypeError: If the cell adds its hidden state to its new state.
        """
        recurrent.check_products(self.cell, (nn.GRUCell, nn.MGUCell))
        key = None
        if self.scope is None:
            rng, key = jax.random.split(rng)
        state = self.cell.initialize_carry(rng, input_shape)
        return state, self._draw_masks(state, input_shape, key)
