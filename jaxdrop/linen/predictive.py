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
from jaxdrop._types import ArrayLike, Bits, Key, PyTree, Rate
from jaxdrop.linen._shell import Base
from jaxdrop.mc import _sites

__all__ = ["MCDropout", "Predictor", "stochastic"]

_DRAWING = (nn.Dropout, nn.MultiHeadDotProductAttention, Base)
# Modules that learn from the batches they see, and the setting that stops them.
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
      variables: Variables for `model.apply`.
      arrays: Arguments of the call that are arrays, by name.
      sites: The stochastic sites, in the order of their last calls.
      collections: Collections that the sites draw their keys from.
      call: The model, its method and its other arguments.
    """

    variables: PyTree
    arrays: dict[str, PyTree]
    sites: tuple[_sites.Site, ...]
    collections: tuple[str, ...]
    call: "_Call"

    def __call__(self, key: Key, x: PyTree) -> PyTree:
        """Draws one sample: the outputs of the model, with noise at the chosen sites.

        Args:
          key: A PRNG key, used once.
          x: Inputs of the model.

        Returns:
          Outputs of the model.
        """
        keys = [key] if len(self.collections) == 1 else jax.random.split(key, len(self.collections))
        rngs = dict(zip(self.collections, keys, strict=True))
        chosen = _sites.Chosen(frozenset(site.path for site in self.sites))
        return self.call(self.variables, x, self.arrays, rngs, chosen)


def stochastic(
    model: nn.Module,
    variables: PyTree,
    x: PyTree,
    *,
    sites: _sites.Sites = "all",
    method: Callable[..., Any] | str | None = None,
    **kwargs: Any,
) -> Predictor:
    """Makes `predict(key, x)` from a model: one sample of Monte-Carlo dropout, for `jaxdrop.mc`.

    Runs in evaluation mode, except that the chosen sites stay random whatever their
    `deterministic`. Sites are Flax's own Dropout and attention, and every module of
    `jaxdrop.linen`. Modules that learn from their batches, such as BatchNorm, use their learned
    statistics, and no variable changes. Functions of a key, such as `jaxdrop.dropout`, that a model
    calls directly are not found: such a model is already close to a `predict`. Blocks of one class
    under `nn.jit` share one trace: they are listed once, and are random together or not at all.
    Under the same key the sample equals `model.apply(variables, x, rngs={"dropout": key})` of a
    model in training mode.

    Args:
      model: A Linen module.
      variables: Variables of the model.
      x: Inputs of the model, or their `jax.ShapeDtypeStruct`s. Only their types are used, to find the
        sites. For several inputs pass a tree, and a `method` that unpacks it.
      sites: Sites that stay random: "all"; "last", the one that is called last; or one or several
        shell-style patterns of paths ("encoder/*"). The others are deterministic.
      method: The method to call: its name, or a function of a module and `x`. None: `__call__`.
      **kwargs: Arguments of the call, as at evaluation (`train=False`); no keys.

    Returns:
      A `Predictor`, which is a pytree of the variables. Predictors of one model object share compiled
      programs.

    Raises:
      ValueError: If the model has no site with a rate other than 0, a pattern matches no site, or
        an argument is a key.

    References:
      Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016.

    Examples:
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
    """The call of a model. Models are compared by identity, as a module need not be hashable."""

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
        variables: PyTree,
        x: PyTree,
        arrays: dict[str, PyTree],
        rngs: dict[str, jax.Array],
        answer: _sites.Answer,
    ) -> PyTree:
        """The outputs, with noise at the sites that the answer chooses."""
        options: dict[str, Any] = {"rngs": rngs, "method": self.method, "mutable": False}
        with (
            _sites.answer(answer),
            nn.intercept_methods(partial(_intercept, answer)),
        ):
            return self.model.apply(variables, x, **options, **_sites.merge_static(arrays, self.kwargs))


def _intercept(draws: _sites.Answer, call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
    """Overrides the mode of a module, which is a field or an argument."""
    module, name = context.module, context.method_name
    if isinstance(module, nn.RNN) and name == "__call__":
        # No interceptor sees the call that makes a cell's initial carry.
        with _with_controlled_modes(module.cell, *_mode(draws, module.cell, {})):
            return call(*args, **kwargs)
    # Only methods that the module's class defines and others call, not those that a transformation adds.
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
    """The name and value of the setting to override; an empty name if there is none."""
    if isinstance(module, _DRAWING):
        site = _sites.site("/".join(module.path), module, given)
        collection = getattr(module, "rng_collection", "dropout")
        return "deterministic", site is None or not draws(site, collection)
    return next((mode for kind, mode in _LEARNING.items() if isinstance(module, kind)), ("", False))


@contextlib.contextmanager
def _with_controlled_modes(module: nn.Module, name: str, value: bool) -> Iterator[None]:
    """Overrides a field, if there is one, during a call. Flax's modules are frozen, hence `object`."""
    if not (name and hasattr(module, name)):
        yield
        return
    before = getattr(module, name)
    object.__setattr__(module, name, value)
    try:
        yield
    finally:
        object.__setattr__(module, name, before)
