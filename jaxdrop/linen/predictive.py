"""Monte-Carlo dropout of a Linen model, and dropout that stays active at evaluation."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from jaxdrop._modules import elements
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.linen._shell import Base
from jaxdrop.mc import sites as _sites

__all__ = ["MCDropout", "Predictor", "stochastic"]

_DRAWING = (nn.Dropout, nn.MultiHeadDotProductAttention, Base)
# What learns from the batches that it sees, and the setting with which it does not.
_LEARNING = {nn.BatchNorm: ("use_running_average", True), nn.SpectralNorm: ("update_stats", False)}


class MCDropout(elements.MCDropout, Base, kw_only=False):
    """Examples:
    >>> import jax.numpy as jnp
    >>> MCDropout(0.5).apply({}, jnp.ones(6), rngs={"dropout": jax.random.key(0)})
    Array([0., 2., 2., 0., 0., 2.], dtype=float32)
    """

    # In the order of `Dropout`'s fields.
    broadcast_dims: Sequence[int] = ()
    rng_collection: str = "dropout"
    bits: Bits = None
    # Not a field: only `stochastic` overrides it, for sites that are not chosen.
    deterministic = False

    def __call__(self, inputs: ArrayLike, rng: Key | None = None, *, rate: Rate | None = None) -> jax.Array:
        """Applies dropout in every mode.

        Args:
          inputs: Floating-point inputs.
          rng: A key; by default one of the collection `rng_collection`.
          rate: Rate of this call, instead of the module's; may be traced.

        Returns:
          Array of the shape and dtype of the inputs.
        """
        return self._apply((inputs,), self._rate(rate), None, rng)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["variables", "arrays"],
    meta_fields=["sites", "collections", "call"],
)
@dataclasses.dataclass(frozen=True)
class Predictor:
    """`predict(key, x)`, a pytree whose leaves are the model's variables.

    Attributes:
      variables: What `model.apply` is given.
      arrays: The arguments of the call that are arrays, by name.
      sites: The sites that draw, in the order in which they are called (last).
      collections: The collections that they draw their keys from.
      call: The model, its method and its arguments.
    """

    variables: Any
    arrays: dict[str, Any]
    sites: tuple[_sites.Site, ...]
    collections: tuple[str, ...]
    call: "_Call"

    def __call__(self, key: Key, x: Any) -> Any:
        """One sample: the outputs of the model with the chosen sites drawing from a key."""
        keys = [key] if len(self.collections) == 1 else jax.random.split(key, len(self.collections))
        rngs = dict(zip(self.collections, keys, strict=True))
        chosen = _sites.Chosen(frozenset(site.path for site in self.sites))
        return self.call(self.variables, x, self.arrays, rngs, chosen)


def stochastic(
    model: nn.Module,
    variables: Any,
    x: Any,
    *,
    sites: _sites.Sites = "all",
    method: Callable[..., Any] | str | None = None,
    **kwargs: Any,
) -> Predictor:
    """Makes `predict(key, x)` of a model: one sample of Monte-Carlo dropout, for `jaxdrop.mc`.

    The model is called as for evaluation, but that the chosen sites draw, whatever they are told by
    the model: Flax's own Dropout and attention, and every module of `jaxdrop.linen`. Whatever
    learns from its batches, as BatchNorm does, uses what it has learnt, and nothing is changed.
    Functions of a key, such as `jaxdrop.dropout`, that a model calls by itself are not seen: such a
    model is a `predict` already, or nearly so. Blocks of one kind that are under `nn.jit` share one
    trace: they are listed once, and draw together or not at all. Under the same key the sample is what
    `model.apply(variables, x, rngs={"dropout": key})` gives of a model in training mode.

    Args:
      model: A Linen module.
      variables: Its variables.
      x: Inputs as it takes them, or their `jax.ShapeDtypeStruct`s; only types are looked at, to find
        the sites. If it takes several, a tree, and a `method` that takes it apart.
      sites: Which sites are to draw: "all"; "last", the one that is called last; or a pattern, or
        a list of such, that fits paths as in a shell ("encoder/*"). The others are deterministic.
      method: The method to call, as for `model.apply`; also a function of a module and x.
      **kwargs: What the model is to be called with, as at evaluation (`train=False`); no keys.

    Returns:
      A `Predictor`. It is a pytree of the variables: predictors of one model object share their
      compiled programs.

    Raises:
      ValueError: If the model has no site of a rate other than 0, a pattern fits none, or an
        argument is a key.

    References:
      Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016.

    >>> import jax.numpy as jnp
    >>> class Net(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x, train):
    ...         x = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(8)(x)))
    ...         return nn.Dense(2)(x)
    >>> net, x = Net(), jnp.ones((3, 4))
    >>> variables = net.init(jax.random.key(0), x, train=False)
    >>> predict = stochastic(net, variables, x, train=False)
    >>> predict.sites
    (Site(path='Dropout_0', kind='Dropout', rate='0.5'),)
    >>> from jaxdrop import mc
    >>> mc.sample(predict, jax.random.key(1), x, num_samples=100).shape
    (100, 3, 2)
    """
    arrays, static = _sites.split_static(kwargs)
    call, found = _Call(model, method, static), _sites.Listing()
    jax.eval_shape(lambda variables, x, arrays: call(variables, x, arrays, {}, found), variables, x, arrays)
    return Predictor(variables, arrays, _sites.choose(found.sites, sites), found.collections, call)


@dataclasses.dataclass(frozen=True, eq=False)
class _Call:
    """How a model is called; compared by its identity, for a module need not be hashable."""

    model: nn.Module
    method: Any
    kwargs: tuple[_sites.Static, ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Call):
            return NotImplemented
        mine, theirs = (self.method, self.kwargs), (other.method, other.kwargs)
        return self.model is other.model and mine == theirs

    def __hash__(self) -> int:
        return hash((id(self.model), self.method, self.kwargs))

    def __call__(
        self,
        variables: Any,
        x: Any,
        arrays: dict[str, Any],
        rngs: dict[str, jax.Array],
        answer: _sites.Answer,
    ) -> Any:
        """The outputs, with those sites drawing of which the answer says so."""
        options: dict[str, Any] = {"rngs": rngs, "method": self.method, "mutable": False}
        with (
            _sites.answer(answer),
            nn.intercept_methods(partial(_intercept, answer)),
        ):
            return self.model.apply(variables, x, **options, **_sites.merge_static(arrays, self.kwargs))


def _intercept(draws: _sites.Answer, call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
    """Overrides what a module was told of its mode, by a field or by an argument."""
    module, name = context.module, context.method_name
    if isinstance(module, nn.RNN) and name == "__call__":
        # A cell's initial carry is asked for past all interceptors.
        with _with_controlled_modes(module.cell, *_mode(draws, module.cell, {})):
            return call(*args, **kwargs)
    # Its own methods that others call; not what a transformation calls, nor what those call in turn.
    if not hasattr(type(module), name) or (name.startswith("_") and name != "__call__"):
        return call(*args, **kwargs)
    bound = inspect.signature(getattr(type(module), name)).bind(module, *args, **kwargs)
    setting, value = _mode(draws, module, bound.arguments)
    bound.arguments.pop(setting, None)
    if setting and not hasattr(module, setting):
        bound.arguments[setting] = value
    with _with_controlled_modes(module, setting, value):
        return call(*bound.args[1:], **bound.kwargs)


def _mode(draws: _sites.Answer, module: nn.Module, given: dict[str, Any]) -> tuple[str, bool]:
    """The name and value of what is to be overridden; no name for nothing."""
    if isinstance(module, _DRAWING):
        site = _sites.site("/".join(module.path), module, given)
        collection = getattr(module, "rng_collection", "dropout")
        return "deterministic", site is None or not draws(site, collection)
    return next((mode for kind, mode in _LEARNING.items() if isinstance(module, kind)), ("", False))


@contextlib.contextmanager
def _with_controlled_modes(module: nn.Module, name: str, value: bool) -> Iterator[None]:
    """Gives a field, if there is one, another value for the time of a call; Flax's modules are frozen."""
    if not (name and hasattr(module, name)):
        yield
        return
    before = getattr(module, name)
    object.__setattr__(module, name, value)
    try:
        yield
    finally:
        object.__setattr__(module, name, before)
