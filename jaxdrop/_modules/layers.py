"""Wrappers of a layer: dropout of its weights, or of the whole layer."""

import dataclasses
import inspect
from typing import Any

import jax

from jaxdrop import _checks, _meshes, drops, penalties
from jaxdrop._modules.base import Rated
from jaxdrop._types import Bits, Key, PyTree, Rate, Where


class Reweighted(Rated):
    """A wrapper that calls its layer with other weights."""

    _call_doc = """Calls the layer with regularized weights; if deterministic, with its own.

    A layer whose call takes `deterministic`, and has no mode field that is set, is given the mode too.

    Args:
      *args: Arguments of the layer.
      **kwargs: Keyword arguments of the layer, of names other than these.

    Returns:
      Output of the layer.
    """

    def _is_chosen(self: Any, params: PyTree) -> PyTree:
        return penalties.weight_mask(params, self.where)

    def _reweight(self, key: Key, params: PyTree, rate: Rate) -> PyTree:
        """Applies the function to each chosen parameter, under a key for each."""
        chosen = self._is_chosen(params)
        count = sum(jax.tree.leaves(chosen))
        keys = iter([key] if count == 1 else jax.random.split(key, count))
        return jax.tree.map(
            lambda leaf, use: self._pure(next(keys), leaf, rate, **self._options()) if use else leaf,
            params,
            chosen,
        )

    def _require_weights(self: Any, found: bool) -> None:
        if not found:
            raise ValueError(f"`layer` must have weights to drop, got {type(self.layer).__name__}.")


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class DropConnect(Reweighted):
    """DropConnect: calls a layer with some of its weights zeroed. Module form of `jaxdrop.dropconnect`.

    Each call draws once. Around a Flax `RNN` one mask serves the whole sequence: the weight dropout
    of AWD-LSTM.

    Attributes:
      layer: The layer to call.
      rate: Probability of dropping a weight, in [0, 1]: a scalar; may be traced.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`). Otherwise a
        predicate on a path within the layer ("cell/hi/kernel") and the leaf, or a tree of booleans
        in plain dicts.
    """

    where: Where = None
    bits: Bits = None
    _pure = staticmethod(drops.dropconnect)

    def _reweight(self, key: Key, params: PyTree, rate: Rate) -> PyTree:
        return self._pure(key, params, rate, **self._options())


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class EmbeddingDropout(Reweighted):
    """Embedding dropout: drops whole words of an embedding. Module form of `jaxdrop.embedding_dropout`.

    Attributes:
      layer: A Flax `Embed`, or a layer that contains some.
      rate: Probability of dropping a word, in [0, 1]: a scalar, or an array that broadcasts to
        `[V, 1]`. May be traced.
    """

    bits: Bits = None
    _pure = staticmethod(drops.embedding_dropout)

    def _is_chosen(self, params: PyTree) -> PyTree:
        return penalties.weight_mask(params, lambda path, _: path.split("/")[-1] == "embedding")


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class TargetedDropout(Reweighted):
    """Targeted dropout: drops the smallest weights of a layer. Module form of `jaxdrop.targeted_dropout`.

    Attributes:
      layer: The layer to call.
      rate: Probability of dropping a candidate, in [0, 1]: a scalar; may be traced.
      fraction: Share of the weights that are candidates, in [0, 1]: a number, not traced.
      unit: If true, drops whole units instead of weights.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`). Otherwise a
        predicate on a path within the layer ("cell/hi/kernel") and the leaf, or a tree of booleans
        in plain dicts.
    """

    fraction: float
    unit: bool = False
    where: Where = None
    bits: Bits = None
    _pure = staticmethod(drops.targeted_dropout)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class DropLayer(Rated):
    """LayerDrop: skips a layer for the whole batch, and its computation. Module form of `jaxdrop.drop_layer`.

    If the layer is skipped, its other variables, such as batch statistics, stay unchanged. What it
    appends by `sow` is always lost.

    Attributes:
      layer: A layer that keeps the shape and dtype of its first argument, such as a residual block.
        If it is skipped, that argument is returned.
      rate: Probability of skipping, in [0, 1]: a scalar; may be traced.
      bits: Random bits of the decision: 8, 16, 24 or 32 (32 draws as Flax does). None: 16, or 24 for
        rates near 0 or 1.
    """

    bits: Bits = None
    _pure = staticmethod(drops.drop_layer)
    _call_doc = """Calls the layer or skips it; if deterministic, calls it.

    A layer whose call takes `deterministic`, and has no mode field that is set, is given the mode too.

    Args:
      inputs: First argument of the layer, and the result if it is skipped.
      *args: Other arguments of the layer.
      **kwargs: Keyword arguments of the layer, of names other than these.

    Returns:
      Output of the layer, or `inputs`.
    """


def with_mode(
    layer: object, deterministic: bool | None, own: bool | None, kwargs: dict[str, PyTree]
) -> dict[str, PyTree]:
    """The arguments of a wrapped layer, with the mode if its call takes one and its own is not set.

    The mode is that of the wrapper's call or else its `own`.
    """
    mode = own if deterministic is None else deterministic
    takes = "deterministic" in inspect.signature(type(layer).__call__).parameters
    if mode is None or not takes or getattr(layer, "deterministic", None) is not None:
        return kwargs
    return {**kwargs, "deterministic": mode}


def checked_call(layer: Any, x: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    """Calls a layer whose result must have the shape and dtype of `x`."""
    return _meshes.like(_checks.check_same_array(layer(x, *args, **kwargs), x, "layer(x)", "x"), x)
