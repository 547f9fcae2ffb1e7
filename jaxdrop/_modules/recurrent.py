"""Recurrent cells that wrap a cell."""

import dataclasses
from collections.abc import Callable, Sequence
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
    `initialize_carry`.

    Inputs and hidden state (the last part of the state) go through `jaxdrop.dropout` where they meet a
    matrix product, and nowhere else: a state that is also added to the new one would be erased by a
    mask that is the same at every step, or grow without bound.

    An LSTM cell reads them in products alone, and so must a cell that is not of Flax: it is given the
    masked arrays. A gated recurrent unit (GRU, MGU), a cell with a residual connection and a
    `ZoneoutCell` also add the state: each layer (`Dense`, `Linear`, `Conv`) that is called with the
    hidden state itself is given the masked one. In Flax's GRU, as in Keras's with `reset_after=True`,
    the mask acts before the product and the reset gate after it: `r * ((m * h) @ W + b)`.

    Attributes:
      cell: The cell to wrap.
      rate: Probability of dropping, in [0, 1]: a scalar, or a pair for the inputs and the hidden
        state. May be traced.
      num_masks: Masks of the inputs, and of the hidden state: 1 for all gates, or one for each gate,
        as in Keras's `GRU` (3) and `LSTM` (4), for cells whose gates read them in layers of Flax.

    References:
      Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural
      networks", 2016.
    """

    num_masks: int = 1

    _call_doc = """One step of the cell, under the masks of the carry.

    Args:
      carry: The state, and the masks of the inputs and of the hidden state.
      inputs: Inputs of the step.

    Returns:
      The new state with the same masks, and the output.

    Raises:
      TypeError: If the carry is a state without masks, or the hidden state of a cell that also adds it
        to its new state reaches no layer of Flax, as behind `nn.remat`.
      ValueError: If the masks are those of evaluation, None, and the call is not deterministic, or
        `num_masks` is not the number of gates.
    """
    _initialize_carry_doc = """The initial state of the wrapped cell, and the masks.

    Args:
      rng: A key, for the cell; outside of a model also for the masks.
      rngs: Streams, for the cell; the masks' key comes from the module's own.
      input_shape: Shape of the inputs of one step.
      carry_init: An initializer, for the cell.

    Returns:
      The state, and the masks of the inputs and of the hidden state: booleans of their shapes, or
      None where nothing is dropped. Several masks lie along an axis before the features.
    """

    def _step(
        self: Any, carry: tuple[PyTree, tuple], inputs: ArrayLike, off: bool, gated: tuple[type, ...]
    ) -> tuple[PyTree, PyTree]:
        """One step of the cell, under the masks of the carry; `gated` cells add their hidden state."""
        state, drawn = _check_carry(carry)
        if off:
            state, output = self.cell(state, inputs)
            return (state, drawn), output
        rates = rates_of_parts(self.rate, 2)
        _check_drawn(drawn, rates)
        (*parts, hidden), structure = jax.tree.flatten(state)
        inputs, hidden = jnp.asarray(inputs), jnp.asarray(hidden)
        by_layer = self.num_masks > 1, self.num_masks > 1 or _adds_its_state(self.cell, gated)
        reads, given = [], []
        for x, mask, rate, is_by_layer in zip((inputs, hidden), drawn, rates, by_layer, strict=True):
            masked = self._masked(x, mask, rate)
            if is_by_layer and masked:
                reads.append(Reads(x, masked, hidden.shape[-1]))
            given.append(x if is_by_layer or not masked else masked[0])
        state = jax.tree.unflatten(structure, (*parts, given[1]))
        state, output = (self._reading(reads) if reads else self.cell)(state, given[0])
        for read in reads:
            read.check(self.cell)
        return (state, drawn), output

    def _masked(self, x: jax.Array, mask: jax.Array | None, rate: Rate) -> list[jax.Array]:
        """The array under each of its masks; none where nothing is dropped."""
        if mask is None:
            return []
        each = [mask]
        if self.num_masks > 1:
            if mask.shape != self._shape_of_masks(x.shape):
                raise ValueError(
                    f"`carry` must hold masks of shape {self._shape_of_masks(x.shape)}, got {mask.shape}: "
                    "`initialize_carry` of this cell draws them."
                )
            each = jnp.unstack(mask, axis=x.ndim - self.num_feature_axes)
        return [masks.apply_mask(x, one, rate, bits=self.bits) for one in each]

    def _shape_of_masks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the masks of an array; several lie along an axis before the features."""
        first = len(shape) - self.num_feature_axes
        return (*shape[:first], self.num_masks, *shape[first:]) if self.num_masks > 1 else shape

    def _draw_masks(self: Any, state: PyTree, input_shape: tuple[int, ...], source: Any) -> tuple:
        """The masks of the inputs and of the hidden state, or None where nothing is dropped."""
        _checks.check_count(self.num_masks, "num_masks")
        rates = rates_of_parts(self.rate, 2)
        if self._is_off(None) or all(_checks.is_scalar(rate, 0) for rate in rates):
            return None, None
        shapes = input_shape, jax.tree.leaves(state)[-1].shape
        keys = jax.random.split(self._key(source))
        return tuple(map(self._draw_mask, keys, shapes, rates))

    def _draw_mask(self, key: Key, shape: tuple[int, ...], rate: Rate) -> jax.Array | None:
        if _checks.is_scalar(rate, 0):
            return None
        return masks.keep_mask(key, self._shape_of_masks(shape), rate, bits=self.bits)


@dataclasses.dataclass
class Reads:
    """An array that a cell's layers read under masks.

    Attributes:
      array: The array.
      masked: The array under each mask: one for all gates, or one for each.
      features: The number of features of a gate.
      count: The gates that have read it.
    """

    array: jax.Array
    masked: list[jax.Array]
    features: int
    count: int = 0

    def output(self, layer: Callable[[jax.Array], jax.Array], features: int | Sequence[int]) -> jax.Array:
        """The output of a layer with some output features that is called with the array."""
        gates = len(self.masked)
        if gates > 1 and features == gates * self.features:  # one layer for all gates
            self.count += gates
            each = jnp.split(layer(jnp.stack(self.masked)), gates, axis=-1)
            return jnp.concatenate([part[i] for i, part in enumerate(each)], axis=-1)
        self.count += 1
        return layer(self.masked[min(self.count, gates) - 1])

    def check(self, cell: object) -> None:
        """Raises unless every gate has read the array."""
        gates = len(self.masked)
        if not self.count:
            raise TypeError(
                "`cell` must hand its inputs or hidden state to layers of Flax, such as Dense, that are not "
                f"behind remat or jit, got {type(cell).__name__}."
            )
        if gates not in (1, self.count):
            raise ValueError(
                f"`num_masks` must be 1, or one for each gate of {type(cell).__name__}, got {gates}."
            )


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


def _adds_its_state(cell: Any, gated: tuple[type, ...]) -> bool:
    """Whether a cell also reads its hidden state elsewhere than in products."""
    while hasattr(cell, "cell"):
        if isinstance(cell, ZoneoutCell):
            return True
        cell = cell.cell
    return isinstance(cell, gated) or getattr(cell, "residual", False)
