"""Recurrent cells that wrap a cell."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, drops, masks
from jaxdrop._modules.base import Regularizer
from jaxdrop._types import ArrayLike, Bits, Key, Numeric, PyTree, Rate


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Cell(Regularizer):
    """A cell that wraps a cell."""

    rate: Rate | tuple[Rate, ...] = dataclasses.field(kw_only=False)
    bits: Bits = None

    @property
    def num_feature_axes(self: Any) -> int:
        """The number of feature axes of the wrapped cell."""
        return self.cell.num_feature_axes


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class ZoneoutCell(Cell):
    """Zoneout of the state of a recurrent cell: `jaxdrop.zoneout`, with new masks at every step.

    If deterministic, the new state is `jaxdrop.zoneout_mean`. An output that is part of the new
    state, as in every cell of Flax, is that part after zoneout. A custom cell behind `remat` or
    `jit` hides that the two are the same, so its output is left unchanged. Parts of the state that
    are not floating-point are left unchanged. A Linen `RNN` must split the key over time:
    `nn.RNN(ZoneoutCell(...), split_rngs={"params": False, "dropout": True})`.

    Attributes:
      cell: The cell to wrap.
      rate: Probability of keeping the old state, in [0, 1]: a scalar, or one for each part of the
        state, such as (c, h) of an LSTM. May be traced.

    References:
      Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", 2017.
    """

    _call_doc = """One step of the cell, and zoneout; if deterministic, takes the mean.

    Args:
      carry: The state.
      inputs: Inputs of the step.

    Returns:
      The new state and the output.
    """
    _initialize_carry_doc = """The initial state of the wrapped cell.

    Args:
      rng: A key, for the cell.
      rngs: Streams, for the cell.
      input_shape: Shape of the inputs of one step.
      carry_init: An initializer, for the cell.

    Returns:
      The initial state.
    """

    def _step(
        self: Any, carry: PyTree, inputs: ArrayLike, off: bool, is_of_flax: bool
    ) -> tuple[PyTree, PyTree]:
        """One step of the cell, and zoneout. Cells of Flax are known to return part of their state."""
        made, output = self.cell(carry, inputs)
        new, structure = jax.tree.flatten(made)
        spots = [i for i, part in enumerate(new) if jnp.issubdtype(part.dtype, jnp.floating)]
        old, rates = jax.tree.leaves(carry), rates_of_parts(self.rate, len(spots))
        drawn = not off and not all(_checks.is_trivial_rate(rate) for rate in rates)
        keys: Any = jax.random.split(self._key(None), len(spots)) if drawn else [None] * len(spots)
        mixed = list(new)
        for i, key, rate in zip(spots, keys, rates, strict=True):
            args, options = (new[i], old[i], rate), {"bits": self.bits}
            mixed[i] = drops.zoneout_mean(*args, **options) if off else drops.zoneout(key, *args, **options)
            output = mixed[i] if output is new[i] or (i == spots[-1] and is_of_flax) else output
        return jax.tree.unflatten(structure, mixed), output


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class RecurrentDropoutCell(Cell):
    """Variational dropout of a recurrent cell: one mask of its inputs and hidden state for all steps.

    `initialize_carry` draws both masks, outside the loop over time. They travel in the carry, which
    is `(state, masks)`. To continue a state under new masks, take those of a new
    `initialize_carry`. The cell reads its inputs and its hidden state (the last part of the state)
    after `jaxdrop.dropout`. So it must read the hidden state only in matrix products, as LSTM cells
    do. A gated recurrent unit also adds it to the new state, where a mask that is the same at every
    step would erase it or make it grow without bound.

    Attributes:
      cell: The cell to wrap.
      rate: Probability of dropping, in [0, 1]: a scalar, or a pair for the inputs and the hidden
        state. May be traced.

    References:
      Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural
      networks", 2016.
    """

    _call_doc = """One step of the cell, under the masks of the carry.

    Args:
      carry: The state, and the masks of the inputs and of the hidden state.
      inputs: Inputs of the step.

    Returns:
      The new state with the same masks, and the output.

    Raises:
      TypeError: If the carry is a state without masks.
      ValueError: If the masks are those of evaluation, None, and the call is not deterministic.
    """
    _initialize_carry_doc = """The initial state of the wrapped cell, and the masks.

    Args:
      rng: A key, for the cell; outside of a model also for the masks.
      rngs: Streams, for the cell; the masks' key comes from the module's own.
      input_shape: Shape of the inputs of one step.
      carry_init: An initializer, for the cell.

    Returns:
      The state, and the masks of the inputs and of the hidden state: booleans of their shapes,
      or None where nothing is dropped.

    Raises:
      TypeError: If the cell adds its hidden state to its new state.
    """

    def _step(self: Any, carry: tuple[PyTree, tuple], inputs: ArrayLike, off: bool) -> tuple[PyTree, PyTree]:
        """One step of the cell, under the masks of the carry."""
        state, drawn = _check_carry(carry)
        if not off:
            rates = rates_of_parts(self.rate, 2)
            _check_drawn(drawn, rates)
            (*parts, hidden), structure = jax.tree.flatten(state)
            inputs, hidden = map(self._mask, (inputs, hidden), drawn, rates)
            state = jax.tree.unflatten(structure, (*parts, hidden))
        state, output = self.cell(state, inputs)
        return (state, drawn), output

    def _mask(self, x: ArrayLike, mask: jax.Array | None, rate: Rate) -> jax.Array:
        return jnp.asarray(x) if mask is None else masks.apply_mask(x, mask, rate, bits=self.bits)

    def _draw_masks(self: Any, state: PyTree, input_shape: tuple[int, ...], source: Any) -> tuple:
        """The masks of the inputs and of the hidden state, or None where nothing is dropped."""
        rates = rates_of_parts(self.rate, 2)
        if self._is_off(None) or all(_checks.is_scalar(rate, 0) for rate in rates):
            return None, None
        shapes = input_shape, jax.tree.leaves(state)[-1].shape
        keys = jax.random.split(self._key(source))
        return tuple(map(self._draw_mask, keys, shapes, rates))

    def _draw_mask(self, key: Key, shape: tuple[int, ...], rate: Rate) -> jax.Array | None:
        return None if _checks.is_scalar(rate, 0) else masks.keep_mask(key, shape, rate, bits=self.bits)


def _check_carry(carry: PyTree) -> tuple[PyTree, tuple]:
    """A state and its masks; a plain state may have two parts too, but no masks."""
    pair = isinstance(carry, tuple | list) and len(carry) == 2
    drawn = carry[1] if pair else None
    if isinstance(drawn, tuple) and len(drawn) == 2 and all(map(_is_mask, drawn)):
        return carry[0], drawn
    raise TypeError(
        "`carry` must be (state, masks), where `initialize_carry` of this cell makes the masks for "
        "any state, got a state without masks."
    )


def _is_mask(mask: PyTree) -> bool:
    return mask is None or getattr(mask, "dtype", None) == np.dtype(bool)


def _check_drawn(drawn: tuple, rates: tuple[Numeric, ...]) -> None:
    """Raises if a mask is missing that training needs."""
    for mask, rate in zip(drawn, rates, strict=True):
        if mask is None and not _checks.is_scalar(rate, 0):
            raise ValueError(
                "`carry` must hold masks unless deterministic, got None: `initialize_carry` draws them "
                "in training mode only."
            )


def rates_of_parts(rate: Any, count: int) -> tuple[Numeric, ...]:
    """The rates of some parts, from one for all or from one for each."""
    rates = tuple(rate) if isinstance(rate, tuple | list) else (rate,) * count
    if len(rates) != count:
        raise ValueError(f"`rate` must be one rate or {count}, one for each part, got {len(rates)}.")
    return tuple(map(_checks.check_rate, rates))


def is_defined_with(known: type, cell: Any) -> bool:
    """Whether a wrapped cell is defined in the file of a known one, transformed or not."""
    while isinstance(cell, Cell):
        cell = cell.cell  # pyright: ignore[reportAttributeAccessIssue]  # each API declares it
    return type(cell).__call__.__module__ == known.__module__


def check_products(cell: Any, gated: tuple[type, ...]) -> None:
    """Raises if the innermost cell adds its hidden state to its new state."""
    while hasattr(cell, "cell"):
        cell = cell.cell
    if isinstance(cell, gated) or getattr(cell, "residual", False):
        raise TypeError(
            "`cell` must read its hidden state in matrix products alone, as LSTM cells do, "
            f"got {type(cell).__name__}."
        )
