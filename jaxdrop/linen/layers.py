"""Wrappers of a layer: dropout of its weights, or of the whole layer.

Each wraps a layer of any kind: `DropConnect(nn.Dense(64), 0.5)`. If the layer is made in the same
compact method as its wrapper, its variables stay where they are without the wrapper
("Dense_0/kernel"). Otherwise they lie one level down ("layer/kernel").
"""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

import dataclasses
from typing import Any

import flax.linen as nn
import jax

from jaxdrop import _checks, _draw, masks
from jaxdrop._modules import layers
from jaxdrop._types import ArrayLike, Key, PyTree, Rate
from jaxdrop.linen._shell import Stochastic

__all__ = ["DropConnect", "DropLayer", "EmbeddingDropout", "TargetedDropout"]


class _Wrapper(Stochastic):
    """A module around a layer."""

    layer: nn.Module = dataclasses.field(kw_only=False)

    @nn.nowrap
    def _is_plain(self, deterministic: bool | None, rate: Rate) -> bool:
        """Whether to call the layer unchanged; so too when its variables are made."""
        return self._is_off(deterministic) or self.is_initializing() or _checks.is_scalar(rate, 0)


class _Reweighted(layers.Reweighted, _Wrapper):
    """A module that calls a layer with other weights."""

    def __call__(
        self,
        *args: Any,
        deterministic: bool | None = None,
        rng: Key | None = None,
        rate: Rate | None = None,
        **kwargs: Any,
    ) -> PyTree:
        (rate,) = self._rate(rate)
        kwargs = layers.with_mode(self.layer, deterministic, self.deterministic, kwargs)
        if self._is_plain(deterministic, rate):
            return self.layer(*args, **kwargs)
        key, trees = self._key(rng), []

        def reweighted(variables: PyTree) -> PyTree:
            """Called for each tree of parameters of the layer; mostly there is one."""
            params: PyTree = variables.get("params", {})
            if not jax.tree.leaves(params) or not any(jax.tree.leaves(self._is_chosen(params))):
                return variables
            trees.append(params)
            own = key if len(trees) == 1 else jax.random.fold_in(key, len(trees))
            return {**variables, "params": self._reweight(own, params, rate)}

        y = nn.map_variables(lambda layer: layer(*args, **kwargs), "params", reweighted)(self.layer)
        self._require_weights(bool(trees))
        return y


class DropConnect(layers.DropConnect, _Reweighted):
    """Examples:
    >>> import jax.numpy as jnp
    >>> lstm = DropConnect(
    ...     nn.RNN(nn.LSTMCell(4)), 0.5, where=lambda path, leaf: "/h" in path and leaf.ndim == 2)
    >>> x = jnp.ones((1, 3, 2))
    >>> variables = lstm.init(jax.random.key(0), x, deterministic=True)
    >>> lstm.apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(1)}).shape
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
        rng: Key | None = None,
        rate: Rate | None = None,
        **kwargs: Any,
    ) -> jax.Array:
        (rate,) = self._rate(rate)
        kwargs = layers.with_mode(self.layer, deterministic, self.deterministic, kwargs)
        x = _checks.check_floating(inputs)

        def call(layer: nn.Module, x: jax.Array) -> jax.Array:
            return layers.checked_call(layer, x, *args, **kwargs)

        if self._is_plain(deterministic, rate):
            return call(self.layer, x)
        if _checks.is_scalar(rate, 1):
            return x
        keep = masks.keep_mask(self._key(rng), (), rate, bits=self.bits)
        # Both branches must return the same variables. So collections that the call adds are lost, and
        # those that hold tuples, which `sow` makes longer.
        kept = tuple(name for name, held in self.layer.variables.items() if not _is_sown(held))
        y = nn.cond(keep, call, lambda _, x: x, self.layer, x, variables=kept)
        return _draw.nan_where_rate_invalid(y, _checks.prepare(rate, (), self.bits).keep_prob)


def _is_sown(collection: PyTree) -> bool:
    leaves = jax.tree.leaves(collection, is_leaf=lambda leaf: isinstance(leaf, tuple))
    return any(isinstance(leaf, tuple) for leaf in leaves)
