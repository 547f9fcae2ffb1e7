"""Monte-Carlo dropout of an NNX model, and dropout that stays active at evaluation."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdrop._modules import elements
from jaxdrop._types import Bits, Key, PyTree
from jaxdrop.mc import _sites
from jaxdrop.nnx._shell import Base, Shell

__all__ = ["MCDropout", "Predictor", "stochastic"]

_DRAWING = (nnx.Dropout, nnx.MultiHeadAttention, Base)
# Modules that learn from the batches they see, and the setting that stops them.
_LEARNING = {nnx.BatchNorm: ("use_running_average", True), nnx.SpectralNorm: ("update_stats", False)}


class MCDropout(elements.MCDropout, Shell):
    """Examples:
    >>> layer = MCDropout(0.5, rngs=nnx.Rngs(0))
    >>> layer.eval()
    >>> layer(jnp.ones(6))
    Array([2., 2., 2., 2., 2., 0.], dtype=float32)
    """

    deterministic: bool | None = dataclasses.field(default=False, init=False)
    bits: Bits = None

    def _is_off(self, deterministic: bool | None) -> bool:
        """No mode turns it off, only a call by `stochastic` that does not choose it."""
        return bool(deterministic)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["state", "arrays"],
    meta_fields=["sites", "graphdef", "kwargs"],
)
@dataclasses.dataclass(frozen=True)
class Predictor:
    """`predict(key, x)`, a pytree whose leaves are the model's variables.

    Attributes:
      state: Variables of the model, as they were when `stochastic` was called.
      arrays: Arguments of the call that are arrays, by name.
      sites: The stochastic sites, in the order of their last calls.
      graphdef: The model without its variables.
      kwargs: The other arguments of the call.
    """

    state: PyTree
    arrays: dict[str, PyTree]
    sites: tuple[_sites.Site, ...]
    graphdef: nnx.GraphDef
    kwargs: tuple[_sites.Static, ...]

    def __call__(self, key: Key, x: PyTree) -> PyTree:
        """Draws one sample: the outputs of the model, with noise at the chosen sites.

        Args:
          key: A PRNG key, used once.
          x: Inputs of the model.

        Returns:
          Outputs of the model.
        """
        arguments = _sites.merge_static(self.arrays, self.kwargs)
        chosen = _sites.Chosen(frozenset(site.path for site in self.sites))
        return _called(self.graphdef, self.state, key, x, arguments, chosen)


def stochastic(model: nnx.Module, x: PyTree, *, sites: _sites.Sites = "all", **kwargs: Any) -> Predictor:
    """Makes `predict(key, x)` from a model: one sample of Monte-Carlo dropout, for `jaxdrop.mc`.

    The chosen sites are random and the others deterministic, whatever their mode. Sites are Flax's
    own Dropout and attention, and every module of `jaxdrop.nnx`. Modules that learn from their
    batches, such as BatchNorm, use their learned statistics. Other modules keep their mode: call
    `model.eval()` first. The model itself is not changed, and later changes of it have no effect.
    Each sample restarts all streams of the model from the key, whatever their names. Functions of a
    key, such as `jaxdrop.dropout`, that a model calls directly are not found as sites, but stay
    random if their keys come from a stream of the model.

    Args:
      model: An NNX module.
      x: Inputs of the model, or their `jax.ShapeDtypeStruct`s. Only their types are used, to find the
        sites. A model of several inputs must be wrapped in a module that takes a tree.
      sites: Sites that stay random: "all"; "last", the one that is called last; or one or several
        shell-style patterns of paths ("encoder/*"). The others are deterministic.
      **kwargs: Arguments of the call; no keys or streams.

    Returns:
      A `Predictor`, which is a pytree of the variables. Predictors of models of one structure share
      compiled programs.

    Raises:
      ValueError: If the model has no site with a rate other than 0, a pattern matches no site, or
        an argument is a key or streams.

    References:
      Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016.

    Examples:
      >>> rngs = nnx.Rngs(0)
      >>> net = nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
      >>> net.eval()
      >>> predict = stochastic(net, jnp.ones((3, 4)))
      >>> predict.sites
      (Site(path='layers/1', kind='Dropout', rate='0.5'),)
      >>> from jaxdrop import mc
      >>> mc.sample(predict, jax.random.key(1), jnp.ones((3, 4)), num_samples=100).shape
      (100, 3, 8)
    """
    arrays, static = _sites.split_static(kwargs)
    graphdef, state = nnx.split(_with_controlled_modes(model))
    found = _sites.Listing()

    def look(state: PyTree, x: PyTree, arrays: dict[str, PyTree]) -> PyTree:
        return _called(graphdef, state, jax.random.key(0), x, _sites.merge_static(arrays, static), found)

    jax.eval_shape(look, state, x, arrays)
    return Predictor(state, arrays, _sites.choose(found.sites, sites), graphdef, static)


def _with_controlled_modes(model: nnx.Module) -> nnx.Module:
    """A copy whose modules that draw or learn obey only the mode that `_called` sets."""
    copy = nnx.clone(model)
    for path, module in nnx.iter_modules(copy):
        learning = next((mode for kind, mode in _LEARNING.items() if isinstance(module, kind)), None)
        if isinstance(module, _DRAWING):
            module.__class__ = _drawing(type(module))
            vars(module)["site_path"] = "/".join(map(str, path))
        elif learning:
            module.__class__ = _frozen(type(module), *learning)
    return copy


def _called(
    graphdef: nnx.GraphDef, state: PyTree, key: Key, x: PyTree, kwargs: dict[str, Any], answer: _sites.Answer
) -> PyTree:
    """The outputs, with noise at the sites that the answer chooses; all streams start from the key."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    model = nnx.merge(graphdef, state, copy=True)
    streams = [node for _, node in nnx.iter_graph(model) if isinstance(node, nnx.RngStream)]
    keys = [key] if len(streams) == 1 else jax.random.split(key, max(len(streams), 1))
    for stream, own in zip(streams, keys, strict=False):
        # Replaced, not overwritten: it may be a key of another implementation. Stacked layers have one each.
        stacked = stream.key[...].shape
        stream.key.set_value(jax.random.split(own, stacked) if stacked else own)
        stream.count.set_value(jnp.zeros_like(stream.count[...]))
    with _sites.answer(answer):
        return model(x, **kwargs)


@functools.cache
def _drawing(kind: type) -> type:
    """A subclass whose instances are random if the answer of the call in progress chooses them."""

    def wrapped(method: Callable) -> Callable:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(self, *args, **kwargs)
            site = _sites.site(self.site_path, self, bound.arguments)
            answer: Any = _sites.answer.value
            on = site is not None and answer(site, getattr(self, "rng_collection", "dropout"))
            if "deterministic" in signature.parameters:
                bound.arguments["deterministic"] = not on
            self.deterministic = not on
            return method(*bound.args, **bound.kwargs)

        return call

    own = ("__call__", "initialize_carry")
    methods = {name: wrapped(getattr(kind, name)) for name in own if hasattr(kind, name)}
    return type(kind.__name__, (kind,), methods)


@functools.cache
def _frozen(kind: type, name: str, value: bool) -> type:
    """A subclass that is always called with one argument set to that value."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(kind.__call__).bind(self, *args, **kwargs)
        bound.arguments[name] = value
        return kind.__call__(*bound.args, **bound.kwargs)

    return type(kind.__name__, (kind,), {"__call__": functools.wraps(kind.__call__)(call)})
