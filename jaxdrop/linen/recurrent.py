"""Regularizers inside a recurrent network: cells around cells, for `nn.RNN`.

The cell's parameters lie one level down, in "cell", unless the cell was made in the same compact
method as its wrapper.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdrop import _checks, drops, masks
from jaxdrop._types import ArrayLike, Bits, Key, Numeric, Rate
from jaxdrop.linen._shell import Stochastic


class _Cell(Stochastic, nn.RNNCellBase):
    """A cell around a cell."""

    cell: nn.RNNCellBase = dataclasses.field(kw_only=False)
    rate: Any = dataclasses.field(kw_only=False)
    bits: Bits = None

    @property
    def num_feature_axes(self) -> int:
        """The number of feature axes, which is the cell's."""
        return self.cell.num_feature_axes


class ZoneoutCell(_Cell):
    """Zoneout of the state of any recurrent cell: `jaxdrop.zoneout`, with new masks at every step.

    Where deterministic the new state is `jaxdrop.zoneout_mean`. An output that is a part of the
    new state, as that of every cell of Flax, is that part after zoneout. (Of a cell of one's own
    behind `nn.remat` or `jit` it cannot be seen that the two are the same; its output is left
    alone.) Parts of the state that are not floating-point are left alone. In an `nn.RNN` the key
    must be split over time:
    `nn.RNN(ZoneoutCell(...), split_rngs={"params": False, "dropout": True})`.

    Attributes:
      cell: The cell.
      rate: The probability of staying, in [0, 1]: a scalar, or one for each part of the state,
        such as (c, h) of an LSTM; may be traced.
      bits: Random bits an element: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.

    References:
      Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", 2017.
    """

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, carry: Any, inputs: ArrayLike, deterministic: bool | None = None
    ) -> tuple[Any, Any]:
        """One step of the cell, and zoneout.

        Args:
          carry: The state.
          inputs: The inputs of the step.
          deterministic: Whether to take the mean; here or in the constructor, not both.

        Returns:
          The new state and the output.
        """
        off = self._is_off(deterministic)
        made, output = self.cell(carry, inputs)  # pyright: ignore[reportCallIssue]
        new, structure = jax.tree.flatten(made)
        spots = [i for i, part in enumerate(new) if jnp.issubdtype(part.dtype, jnp.floating)]
        old, rates = jax.tree.leaves(carry), _rates(self.rate, len(spots))
        drawn = not off and not all(_checks.is_trivial_rate(rate) for rate in rates)
        keys: Any = jax.random.split(self._key(None), len(spots)) if drawn else [None] * len(spots)
        mixed, known = list(new), _gives_its_state(self.cell)
        for i, key, rate in zip(spots, keys, rates, strict=True):
            args, options = (new[i], old[i], rate), {"bits": self.bits}
            mixed[i] = drops.zoneout_mean(*args, **options) if off else drops.zoneout(key, *args, **options)
            output = mixed[i] if output is new[i] or (i == spots[-1] and known) else output
        return jax.tree.unflatten(structure, mixed), output

    @nn.nowrap
    def initialize_carry(self, rng: Key, input_shape: tuple[int, ...]) -> Any:
        """The cell's own initial state.

        Args:
          rng: A key, for the cell.
          input_shape: The shape of the inputs of one step.

        Returns:
          The initial state.
        """
        return self.cell.initialize_carry(rng, input_shape)


class RecurrentDropoutCell(_Cell):
    """Variational dropout of a recurrent cell: one mask for all steps, of its inputs and hidden state.

    Both masks are drawn by `initialize_carry`, outside the loop over time, and travel in the
    carry, which is `(state, masks)`; to go on with a state under new masks, take those of a new
    `initialize_carry`. The cell reads its inputs and its hidden state (the last part of the state)
    as `jaxdrop.dropout` gives them. So it must read the hidden state in matrix products alone, as
    LSTM cells do: a gated recurrent unit also adds it to the new state, where a mask that is the
    same at every step would erase it or blow it up.

    Attributes:
      cell: The cell.
      rate: The probability of dropping, in [0, 1]: a scalar, or a pair for the inputs and the
        hidden state; may be traced.
      bits: Random bits an element: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.

    References:
      Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural
      networks", 2016.

    >>> rnn = nn.RNN(RecurrentDropoutCell(nn.LSTMCell(4), 0.5, deterministic=False))
    >>> x = jnp.ones((1, 3, 2))
    >>> variables = rnn.init(jax.random.key(0), x)
    >>> rnn.apply(variables, x, rngs={"dropout": jax.random.key(1)}).shape
    (1, 3, 4)
    """

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, carry: tuple[Any, tuple], inputs: ArrayLike, deterministic: bool | None = None
    ) -> tuple[Any, Any]:
        """One step of the cell, under the masks that it was begun with.

        Args:
          carry: The state, and the masks of the inputs and of the hidden state.
          inputs: The inputs of the step.
          deterministic: Whether to leave all as it is; here or in the constructor, not both.

        Returns:
          The new state with the same masks, and the output.
        """
        state, drawn = carry
        if not self._is_off(deterministic):
            (*parts, hidden), structure = jax.tree.flatten(state)
            inputs, hidden = map(self._masked, (inputs, hidden), drawn, _rates(self.rate, 2))
            state = jax.tree.unflatten(structure, (*parts, hidden))
        state, output = self.cell(state, inputs)  # pyright: ignore[reportCallIssue]
        return (state, drawn), output

    def _masked(self, x: ArrayLike, mask: jax.Array | None, rate: Rate) -> jax.Array:
        return jnp.asarray(x) if mask is None else masks.apply_mask(x, mask, rate, bits=self.bits)

    @nn.nowrap
    def initialize_carry(self, rng: Key, input_shape: tuple[int, ...]) -> tuple[Any, tuple]:
        """The cell's own initial state, and the masks.

        Args:
          rng: A key, for the cell; and, outside of a model, for the masks.
          input_shape: The shape of the inputs of one step.

        Returns:
          `(state, masks)`: the masks of the inputs and of the hidden state, booleans of their
          shapes, or None where nothing is dropped.

        Raises:
          TypeError: If the cell adds its hidden state to its new state.
        """
        _check_products(self.cell)
        key = None
        if self.scope is None:
            rng, key = jax.random.split(rng)
        state = self.cell.initialize_carry(rng, input_shape)
        rates = _rates(self.rate, 2)
        if self._is_off(None) or all(_checks.is_scalar(rate, 0) for rate in rates):
            return state, (None, None)
        shapes = input_shape, jax.tree.leaves(state)[-1].shape
        keys = jax.random.split(self._key(key))
        return state, tuple(map(self._mask, keys, shapes, rates))

    def _mask(self, key: Key, shape: tuple[int, ...], rate: Rate) -> jax.Array | None:
        return None if _checks.is_scalar(rate, 0) else masks.keep_mask(key, shape, rate, bits=self.bits)


def _rates(rate: Any, count: int) -> tuple[Numeric, ...]:
    """One rate for all, or one for each."""
    rates = tuple(rate) if isinstance(rate, tuple | list) else (rate,) * count
    if len(rates) != count:
        raise ValueError(f"`rate` must be one rate or {count}, one for each part, got {len(rates)}.")
    return tuple(map(_checks.check_rate, rates))


def _gives_its_state(cell: Any) -> bool:
    """Whether the output is the last part of the state, as that of Flax's own cells, lifted or not."""
    while isinstance(cell, _Cell):
        cell = cell.cell
    return type(cell).__call__.__module__ == nn.LSTMCell.__module__


def _check_products(cell: Any) -> None:
    """Whether the hidden state meets nothing but matrix products; what is around a cell is no matter."""
    while hasattr(cell, "cell"):
        cell = cell.cell
    if isinstance(cell, nn.GRUCell | nn.MGUCell) or getattr(cell, "residual", False):
        raise TypeError(
            "`cell` must read its hidden state in matrix products alone, as LSTM cells do, "
            f"got {type(cell).__name__}."
        )
