"""Rates of any NNX model, set from outside by pattern of path."""

import functools
import inspect
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdrop import _checks
from jaxdrop._modules import rates as _rates
from jaxdrop._types import ArrayLike, Bits, Key, PyTree, Rate
from jaxdrop.mc import _sites
from jaxdrop.nnx import attention, elements
from jaxdrop.nnx._shell import Rngs

__all__ = ["list_rates", "with_rates"]

_Model = TypeVar("_Model", bound=nnx.Module)
# Attributes that hold a rate, by kind of module.
_ATTRIBUTES = ((nnx.Dropout, "rate"), (nnx.MultiHeadAttention, "dropout_rate"), (_rates.RATED, "rate"))


def with_rates(model: _Model, rates: _rates.Rates, *, bits: Bits = None) -> _Model:
    """Makes a model with other rates of dropout, which may be traced, from one that is built.

    For models whose rates stand in a config: `with_rates(model, {"*": rate})(x)` equals the call of a
    model built with these rates. The result shares its variables and random streams with the model, as
    an `nnx.view` does, and other attributes are copies: make it inside the loss or the jitted step.
    Sites are Flax's own Dropout and attention, and the modules of `jaxdrop.nnx` with a fixed rate; a
    rate that the model gives in the call is replaced too. Modes and keys are the model's. Flax's
    Dropout and attention draw `jaxdrop`'s masks; `bits=32` reproduces Flax's. Not found are other
    libraries' own modules that draw, and functions that a model calls directly, such as
    `nnx.dot_product_attention`: they keep their rates, and are not in `list_rates`.

    Flax's attention built with rate 0 has no random stream: give it `rngs` in the call.

    Args:
      model: An NNX module.
      rates: Rates by shell-style pattern of path ("encoder/*"), each a scalar in [0, 1], traced or
        not. The longest pattern that matches a path applies, as JAX sorts the keys of a dict. None
        leaves a site as it is, as does a path that matches no pattern.
      bits: Random bits per element for Flax's own Dropout and attention: 8, 16, 24 or 32 (32
        reproduces Flax's masks). None: 16, or 24 for rates near 0 or 1.

    Returns:
      A model of the same class.

    Raises:
      TypeError: If `model` is not an NNX module, `rates` is not a dict of real numbers by pattern, or
        the `attention_fn` of an attention takes no `dropout_rate`.
      ValueError: If `rates` is empty, a rate is not a scalar in [0, 1], a pattern applies to no site,
        two longest patterns match one site, or `bits` is not valid.

    Examples:
      >>> rngs = nnx.Rngs(0)
      >>> net = nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.Dropout(0.0, rngs=rngs))
      >>> def loss(net, rate):
      ...     return with_rates(net, {"*": rate})(jnp.ones((3, 4))).sum()
      >>> gradient = nnx.jit(nnx.grad(loss))(net, 0.5)
    """
    patterns = _rates.Patterns(rates)
    _checks.choose_width(bits, None)
    _check_module(model)
    rated = nnx.merge(*nnx.split(model))
    for path, site, attribute in _sites_of(rated):
        rate = patterns.rate(path)
        if rate is None:
            continue
        if isinstance(site, nnx.MultiHeadAttention):
            takes = inspect.signature(site.attention_fn).parameters.values()
            if not any(p.name == "dropout_rate" or p.kind is p.VAR_KEYWORD for p in takes):
                raise TypeError(
                    f"`rates` must be for attention whose `attention_fn` takes `dropout_rate`, got {path!r}."
                )
        site.__class__ = _rated(type(site))
        setattr(site, attribute, _held(rate, site))
        if not isinstance(site, _rates.RATED):
            site.bits = bits  # pyright: ignore[reportAttributeAccessIssue]
    patterns.check_all_apply()
    return rated


def list_rates(model: nnx.Module) -> tuple[_sites.Site, ...]:
    """Lists the sites of a model whose rates `with_rates` can set.

    Sites with rate 0 are listed too.

    Args:
      model: An NNX module.

    Returns:
      Tuples of path, class name, stream and rate, in the order of `nnx.iter_modules`. "array" stands for a
      rate that is traced or not a scalar.

    Raises:
      TypeError: If `model` is not an NNX module.

    Examples:
      >>> rngs = nnx.Rngs(0)
      >>> list_rates(nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)))
      (Site(path='layers/1', kind='Dropout', stream='dropout', rate='0.1'),)
    """
    _check_module(model)
    return tuple(_rates.site(path, site, getattr(site, name)) for path, site, name in _sites_of(model))


def _check_module(model: object) -> None:
    if not isinstance(model, nnx.Module):
        raise TypeError(f"`model` must be an NNX module, got {type(model).__name__}.")


def _sites_of(model: nnx.Module) -> list[tuple[str, nnx.Module, str]]:
    """The path and module of each site, and the attribute that holds its rate."""
    found = []
    for path, module in nnx.iter_modules(model):
        attribute = next((name for kind, name in _ATTRIBUTES if isinstance(module, kind)), None)
        if attribute:
            found.append(("/".join(map(str, path)), module, attribute))
    return found


def _held(rate: Rate, site: nnx.Module) -> PyTree:
    """A rate as an attribute: a number, or an array with the leading axes of stacked layers."""
    if isinstance(rate, int | float):
        return nnx.static(rate)
    stream = getattr(site, "rngs", None)
    stacked = stream.count[...].shape if isinstance(stream, nnx.RngStream) else ()
    return nnx.data(jnp.broadcast_to(jnp.asarray(rate), stacked))


class _Dropout(nnx.Dropout):
    """Flax's Dropout as ours, which has the same attributes."""

    bits: Bits

    def __call__(
        self, inputs: ArrayLike, *, deterministic: bool | None = None, rngs: Rngs | Key | None = None
    ) -> jax.Array:
        names = ("broadcast_dims", "deterministic", "rng_collection", "bits")
        ours = elements.Dropout(0.0, **{name: getattr(self, name) for name in names})
        source: PyTree = self.rngs if rngs is None else rngs
        return ours(inputs, deterministic=deterministic, rngs=source, rate=self.rate)


class _Attention(nnx.MultiHeadAttention):
    """Flax's attention, which compares its rate with 0, at a rate that may be traced."""

    bits: Bits

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> jax.Array:
        rate, attend = self.dropout_rate, self.attention_fn
        if _checks.is_scalar(rate, 0):
            return super().__call__(*args, **kwargs)
        if attend is nnx.dot_product_attention:
            drop = _rates.attention_dropout(self.broadcast_dropout)
            attend = attention.attention_fn(drop, bits=self.bits)

        def at_rate(*args: PyTree, **kwargs: PyTree) -> jax.Array:
            return attend(*args, **{**kwargs, "dropout_rate": rate})

        before = {name: vars(self)[name] for name in ("dropout_rate", "attention_fn")}
        vars(self).update(dropout_rate=1.0, attention_fn=at_rate)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            vars(self).update(before)


@functools.cache
def _rated(kind: type) -> type:
    """A subclass whose rate is its attribute alone; Flax's own code is replaced below a user's subclass."""
    for known, ours in ((nnx.Dropout, _Dropout), (nnx.MultiHeadAttention, _Attention)):
        if issubclass(kind, known):
            return type(kind.__name__, (ours,) if kind is known else (kind, ours), {})
    return type(kind.__name__, (kind,), {"_rate": lambda self, _: kind._rate(self, None)})  # pyright: ignore
