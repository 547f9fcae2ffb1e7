"""Regularizers of a whole layer: of its weights, or of whether it is computed at all.

Each wraps a layer of any kind: `DropConnect(nnx.Linear(8, 64, rngs=rngs), 0.5, rngs=rngs)`. The
layer's variables lie one level down ("layer/kernel"). It is called as a copy with other weights:
what the call does to its other variables, batch statistics and random streams, is brought back;
what it does to its plain Python attributes is not.
"""

import dataclasses
from typing import Any

import jax
from flax import nnx

from jaxdrop import _checks, _draw, drops, masks, penalties
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.nnx._shell import Base, Rngs


class _Wrapper(Base):
    """What all wrappers have: a layer, and a rate."""

    layer: nnx.Module = dataclasses.field(kw_only=False)
    rate: Rate = dataclasses.field(kw_only=False)

    def __post_init__(self, rngs: Rngs | None):
        super().__post_init__(rngs)
        _checks.check_rate(self.rate)

    def _is_plain(self, deterministic: bool | None, rate: Rate) -> bool:
        """Whether the layer is called as it is."""
        return self._is_off(deterministic) or _checks.is_scalar(rate, 0)


class _Reweighted(_Wrapper):
    """A layer that is called with other weights than its own."""

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *args: Any,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        rate: Rate | None = None,
        **kwargs: Any,
    ) -> Any:
        """Calls the layer with its weights regularized; where deterministic, as it is.

        Args:
          *args: What the layer takes.
          deterministic: Whether to leave the weights alone; overrides the module's own.
          rngs: A key, a stream or streams; overrides the module's own.
          rate: A rate for this call, in place of the module's own; may be traced.
          **kwargs: What the layer takes by names other than these.

        Returns:
          What the layer returns.
        """
        (rate,) = self._rate(rate)
        if self._is_plain(deterministic, rate):
            return self.layer(*args, **kwargs)
        graph, params, others = nnx.split(self.layer, nnx.Param, ...)
        if not any(jax.tree.leaves(self._chosen(params))):
            raise ValueError(f"`layer` must have weights to drop, got {type(self.layer).__name__}.")
        layer = nnx.merge(graph, self._changed(self._key(rngs), params, rate), others)
        y = layer(*args, **kwargs)
        nnx.update(self.layer, nnx.state(layer, nnx.Not(nnx.Param)))
        return y

    def _chosen(self: Any, params: Any) -> Any:
        return penalties.weight_mask(params, self.where)

    def _changed(self, key: Key, params: Any, rate: Rate) -> Any:
        """The parameters, of which the chosen are regularized, each with a key of its own."""
        chosen = self._chosen(params)
        count = sum(jax.tree.leaves(chosen))
        keys = iter([key] if count == 1 else jax.random.split(key, count))
        return jax.tree.map(
            lambda leaf, use: self._pure(next(keys), leaf, rate, **self._options()) if use else leaf,
            params,
            chosen,
        )


class DropConnect(_Reweighted):
    """Calls a layer with `jaxdrop.dropconnect` of its parameters.

    One draw a call: around an `nnx.RNN` it is the weight dropout of AWD-LSTM, one mask for the
    whole sequence.

    Args:
      layer: The layer.
      rate: The probability of dropping a weight, in [0, 1]; a scalar; may be traced.
      where: Which of the layer's parameters it concerns, as for `penalties.weight_mask`: a
        predicate on a path within the layer ("cell/hi/kernel") and the leaf, a tree of booleans
        in plain dicts, or None for the weights.
      bits: Random bits a weight: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.

    >>> import jax.numpy as jnp
    >>> rngs = nnx.Rngs(0)
    >>> lstm = DropConnect(
    ...     nnx.RNN(nnx.LSTMCell(2, 4, rngs=rngs)), 0.5, rngs=rngs,
    ...     where=lambda path, leaf: "/h" in path and leaf.ndim == 2)
    >>> lstm(jnp.ones((1, 3, 2))).shape
    (1, 3, 4)
    """

    where: penalties.Where = None
    bits: Bits = None
    _pure = staticmethod(drops.dropconnect)

    def _changed(self, key: Key, params: Any, rate: Rate) -> Any:
        return self._pure(key, params, rate, **self._options())


class EmbeddingDropout(_Reweighted):
    """Calls an `nnx.Embed` with `jaxdrop.embedding_dropout` of its table.

    Args:
      layer: The `nnx.Embed`, or a layer that has some.
      rate: The probability of dropping a word, in [0, 1]; a scalar or an array that broadcasts to
        `[V, 1]`; may be traced.
      bits: Random bits a word: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    bits: Bits = None
    _pure = staticmethod(drops.embedding_dropout)

    def _chosen(self, params: Any) -> Any:
        return penalties.weight_mask(params, lambda path, _: path.split("/")[-1] == "embedding")


class TargetedDropout(_Reweighted):
    """Calls a layer with `jaxdrop.targeted_dropout` of each of its weights.

    Args:
      layer: The layer.
      rate: The probability of dropping a candidate, in [0, 1]; a scalar; may be traced.
      fraction: The share of candidates, in [0, 1]; a number, not traced.
      unit: Whether to drop whole units in the place of weights.
      where: Which of the layer's parameters it concerns, as for `DropConnect`.
      bits: Random bits a weight or unit: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    fraction: float
    unit: bool = False
    where: penalties.Where = None
    bits: Bits = None
    _pure = staticmethod(drops.targeted_dropout)


class DropLayer(_Wrapper):
    """`jaxdrop.drop_layer` as a module: skips a layer for the whole batch, and its computation.

    Where the layer is skipped its other variables, such as batch statistics, stay as they were. What
    it appends by `sow` is lost.

    Args:
      layer: A layer that keeps the shape and dtype of its first argument, which is what is
        returned where it is skipped: a residual block.
      rate: The probability of skipping, in [0, 1]; a scalar; may be traced.
      bits: Random bits: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    bits: Bits = None
    _pure = staticmethod(drops.drop_layer)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        inputs: ArrayLike,
        *args: Any,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        rate: Rate | None = None,
        **kwargs: Any,
    ) -> jax.Array:
        """Calls the layer or skips it; where deterministic, calls it.

        Args:
          inputs: What the layer takes first, and what is returned where it is skipped.
          *args: What else it takes.
          deterministic: Whether to call it in any case; overrides the module's own.
          rngs: A key, a stream or streams; overrides the module's own.
          rate: A rate for this call, in place of the module's own; may be traced.
          **kwargs: What it takes by names other than these.

        Returns:
          What the layer returns, or `inputs`.
        """
        (rate,) = self._rate(rate)
        x = _checks.check_floating(inputs)

        def call(layer: Any, x: jax.Array) -> jax.Array:
            return _checks.check_same_array(layer(x, *args, **kwargs), x, "layer(x)", "x")

        if self._is_plain(deterministic, rate):
            return call(self.layer, x)
        if _checks.is_scalar(rate, 1):
            return x
        keep = masks.keep_mask(self._key(rngs), (), rate, bits=self.bits)
        graph, params, others = nnx.split(self.layer, nnx.Param, ...)

        def called(x: jax.Array, others: nnx.State) -> tuple[jax.Array, nnx.State]:
            layer = nnx.merge(graph, params, others, copy=True)
            y, after = call(layer, x), dict(nnx.to_flat_state(nnx.state(layer)))
            # What it adds has no place in the branch that does not call.
            kept = [(path, _if_alike(after.get(path), leaf)) for path, leaf in nnx.to_flat_state(others)]
            return y, nnx.from_flat_state(kept)

        y, others = jax.lax.cond(keep, called, lambda x, others: (x, others), x, others)
        nnx.update(self.layer, others)
        return _draw.nan_where_rate_invalid(y, _draw.prepare(rate, (), self.bits).keep_prob)


def _if_alike(new: Any, old: Any) -> Any:
    """The new value of a variable, unless it has grown by what was sown."""
    if jax.tree.structure(new) != jax.tree.structure(old):
        return old
    pairs = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
    return new if all(a.shape == b.shape for a, b in pairs) else old
