"""Wrappers of a layer: dropout of its weights, or of the whole layer.

Each wraps a layer of any kind: `DropConnect(nnx.Linear(8, 64, rngs=rngs), 0.5, rngs=rngs)`. The
layer's variables lie one level down ("layer/kernel"). The wrapper calls a copy with other weights.
Changes of other variables, such as batch statistics and random streams, are copied back; changes of
plain Python attributes are not.
"""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

import dataclasses
from typing import Any

import jax
from flax import nnx

from jaxdrop import _checks, _draw, masks
from jaxdrop._modules import layers
from jaxdrop._types import ArrayLike, PyTree, Rate
from jaxdrop.nnx._shell import Base, Source

__all__ = ["DropConnect", "DropLayer", "EmbeddingDropout", "TargetedDropout"]


class _Wrapper(Base):
    """A module around a layer."""

    layer: nnx.Module = dataclasses.field(kw_only=False)

    def _is_plain(self, deterministic: bool | None, rate: Rate) -> bool:
        """Whether to call the layer unchanged."""
        return self._is_off(deterministic) or _checks.is_scalar(rate, 0)


class _Reweighted(layers.Reweighted, _Wrapper):
    """A module that calls a layer with other weights."""

    def __call__(
        self,
        *args: Any,
        deterministic: bool | None = None,
        rngs: Source = None,
        rate: Rate | None = None,
        **kwargs: Any,
    ) -> PyTree:
        (rate,) = self._rate(rate)
        kwargs = layers.with_mode(self.layer, deterministic, self.deterministic, kwargs)
        if self._is_plain(deterministic, rate):
            return self.layer(*args, **kwargs)
        graph, params, others = nnx.split(self.layer, nnx.Param, ...)
        self._require_weights(any(jax.tree.leaves(self._is_chosen(params))))
        layer = nnx.merge(graph, self._reweight(self._key(rngs), params, rate), others)
        y = layer(*args, **kwargs)
        nnx.update(self.layer, nnx.state(layer, nnx.Not(nnx.Param)))
        return y


class DropConnect(layers.DropConnect, _Reweighted):
    """Examples:
    >>> import jax.numpy as jnp
    >>> rngs = nnx.Rngs(0)
    >>> lstm = DropConnect(
    ...     nnx.RNN(nnx.LSTMCell(2, 4, rngs=rngs)), 0.5, rngs=rngs,
    ...     where=lambda path, leaf: "/h" in path and leaf.ndim == 2)
    >>> lstm(jnp.ones((1, 3, 2))).shape
    (1, 3, 4)
    """


class EmbeddingDropout(layers.EmbeddingDropout, _Reweighted): ...


class TargetedDropout(layers.TargetedDropout, _Reweighted): ...


class DropLayer(layers.DropLayer, _Wrapper):
    def __call__(
        self,
        inputs: ArrayLike,
        *args: Any,
        deterministic: bool | None = None,
        rngs: Source = None,
        rate: Rate | None = None,
        **kwargs: Any,
    ) -> jax.Array:
        (rate,) = self._rate(rate)
        kwargs = layers.with_mode(self.layer, deterministic, self.deterministic, kwargs)
        x = _checks.check_floating(inputs)
        if self._is_plain(deterministic, rate):
            return layers.checked_call(self.layer, x, *args, **kwargs)
        if _checks.is_scalar(rate, 1):
            return x
        keep = masks.keep_mask(self._key(rngs), (), rate, bits=self.bits)
        graph, params, others = nnx.split(self.layer, nnx.Param, ...)

        def called(x: jax.Array, others: nnx.State) -> tuple[jax.Array, nnx.State]:
            layer = nnx.merge(graph, params, others, copy=True)
            y = layers.checked_call(layer, x, *args, **kwargs)
            after = dict(nnx.to_flat_state(nnx.state(layer)))
            # Both branches must return the same variables, so those that the call adds are lost.
            kept = [(path, _if_alike(after.get(path), leaf)) for path, leaf in nnx.to_flat_state(others)]
            return y, nnx.from_flat_state(kept)

        y, others = jax.lax.cond(keep, called, lambda x, others: (x, others), x, others)
        nnx.update(self.layer, others)
        return _draw.nan_where_rate_invalid(y, _checks.prepare(rate, (), self.bits).keep_prob)


def _if_alike(new: PyTree, old: PyTree) -> PyTree:
    """The new value of a variable, unless `sow` has made it longer."""
    if jax.tree.structure(new) != jax.tree.structure(old):
        return old
    pairs = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
    return new if all(a.shape == b.shape for a, b in pairs) else old
