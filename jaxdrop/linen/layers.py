"""Regularizers of a whole layer: of its weights, or of whether it is computed at all.

Each wraps a layer of any kind: `DropConnect(nn.Dense(64), 0.5)`. For a layer made in the same
compact method as its wrapper the variables stay where they are without one ("Dense_0/kernel");
elsewhere they lie one level down ("layer/kernel").
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax

from jaxdrop import _checks, _draw, drops, masks, penalties
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.linen._shell import Stochastic


class _Wrapper(Stochastic):
    """What all wrappers have: a layer, and a rate."""

    layer: nn.Module = dataclasses.field(kw_only=False)
    rate: Rate = dataclasses.field(kw_only=False)

    def _is_plain(self, deterministic: bool | None, rate: Rate) -> bool:
        """Whether the layer is called as it is; so too when its variables are made."""
        return self._is_off(deterministic) or self.is_initializing() or _checks.is_scalar(rate, 0)


class _Reweighted(_Wrapper):
    """A layer that is called with other weights than its own."""

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *args: Any,
        deterministic: bool | None = None,
        rng: Key | None = None,
        rate: Rate | None = None,
        **kwargs: Any,
    ) -> Any:
        """Calls the layer with its weights regularized; where deterministic, as it is.

        Args:
          *args: What the layer takes.
          deterministic: Whether to leave the weights alone; here or in the constructor, not both.
          rng: A key; by default one of the collection `rng_collection`.
          rate: A rate for this call, in place of the module's own; may be traced.
          **kwargs: What the layer takes by names other than these.

        Returns:
          What the layer returns.
        """
        (rate,) = self._rate(rate)
        if self._is_plain(deterministic, rate):
            return self.layer(*args, **kwargs)
        key, trees = self._key(rng), []

        def changed(variables: Any) -> Any:
            """Called for each tree that the layer has its parameters in; mostly there is one."""
            params = variables.get("params", {})
            if not jax.tree.leaves(params) or not any(jax.tree.leaves(self._chosen(params))):
                return variables
            trees.append(params)
            own = key if len(trees) == 1 else jax.random.fold_in(key, len(trees))
            return {**variables, "params": self._changed(own, params, rate)}

        y = nn.map_variables(lambda layer: layer(*args, **kwargs), "params", changed)(self.layer)
        if not trees:
            raise ValueError(f"`layer` must have weights to drop, got {type(self.layer).__name__}.")
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

    One draw a call: around an `nn.RNN` it is the weight dropout of AWD-LSTM, one mask for the
    whole sequence.

    Attributes:
      layer: The layer.
      rate: The probability of dropping a weight, in [0, 1]; a scalar; may be traced.
      where: Which of the layer's parameters it concerns, as for `penalties.weight_mask`: a
        predicate on a path within the layer ("cell/hi/kernel") and the leaf, a tree of booleans,
        or None for the weights.
      bits: Random bits a weight: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.

    >>> import jax.numpy as jnp
    >>> lstm = DropConnect(
    ...     nn.RNN(nn.LSTMCell(4)), 0.5, where=lambda path, leaf: "/h" in path and leaf.ndim == 2)
    >>> x = jnp.ones((1, 3, 2))
    >>> variables = lstm.init(jax.random.key(0), x, deterministic=True)
    >>> lstm.apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(1)}).shape
    (1, 3, 4)
    """

    where: penalties.Where = None
    bits: Bits = None
    _pure = staticmethod(drops.dropconnect)

    def _changed(self, key: Key, params: Any, rate: Rate) -> Any:
        return self._pure(key, params, rate, **self._options())


class EmbeddingDropout(_Reweighted):
    """Calls an `nn.Embed` with `jaxdrop.embedding_dropout` of its table.

    Attributes:
      layer: The `nn.Embed`, or a layer that has some.
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

    Attributes:
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

    Attributes:
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
        rng: Key | None = None,
        rate: Rate | None = None,
        **kwargs: Any,
    ) -> jax.Array:
        """Calls the layer or skips it; where deterministic, calls it.

        Args:
          inputs: What the layer takes first, and what is returned where it is skipped.
          *args: What else it takes.
          deterministic: Whether to call it in any case; here or in the constructor, not both.
          rng: A key; by default one of the collection `rng_collection`.
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
        keep = masks.keep_mask(self._key(rng), (), rate, bits=self.bits)
        # What the call adds has no place in the branch that does not call: collections that are not there,
        # or hold the tuples that `sow` makes longer.
        kept = tuple(name for name, held in self.layer.variables.items() if not _is_sown(held))
        y = nn.cond(keep, call, lambda _, x: x, self.layer, x, variables=kept)
        return _draw.nan_where_rate_invalid(y, _draw.prepare(rate, (), self.bits).keep_prob)


def _is_sown(collection: Any) -> bool:
    leaves = jax.tree.leaves(collection, is_leaf=lambda leaf: isinstance(leaf, tuple))
    return any(isinstance(leaf, tuple) for leaf in leaves)
