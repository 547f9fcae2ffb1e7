"""Rates of any Linen model, set from outside by pattern of path."""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

import flax.core.lift
import flax.linen as nn
import jax
from flax.linen.module import InterceptorContext

from jaxdrop import _checks, drops
from jaxdrop._modules import rates as _rates
from jaxdrop._types import Bits, PyTree, Rate
from jaxdrop.linen import attention
from jaxdrop.linen._control import is_fork, with_fields
from jaxdrop.linen._shell import Base, make_rng
from jaxdrop.mc import _sites

__all__ = ["list_rates", "with_rates"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
# JAX keeps it in the trace context, so each use of `with_rates` has its own traces of jitted blocks.
_use = jax.make_user_context(default_value=None)
# Fields that hold a rate, by kind of module.
_FIELDS = (
    (nn.Dropout, "rate"),
    (nn.MultiHeadDotProductAttention, "dropout_rate"),
    (_rates.RATED, "rate"),
)
_SITES = (nn.Dropout, nn.MultiHeadDotProductAttention, Base)
# The code that Flax runs in the end, whatever a subclass or a lifted transformation puts around it.
_DROPOUT, _ATTENTION = (
    inspect.unwrap(kind.__call__) for kind in (nn.Dropout, nn.MultiHeadDotProductAttention)
)


def with_rates(
    fun: Callable[_Arguments, _Result], rates: _rates.Rates, *, bits: Bits = None
) -> Callable[_Arguments, _Result]:
    """Makes a function that runs a model with other rates of dropout, which may be traced.

    For models whose rates stand in a config: `with_rates(model.apply, {"*": rate})(variables, x, ...)`
    equals `model.apply(variables, x, ...)` of a model built with these rates. The model is not
    changed. Sites are Flax's own Dropout and attention, and the modules of `jaxdrop.linen` with a
    fixed rate; a rate that the model gives in the call is replaced too. Modes and keys are the
    model's. Flax's Dropout and attention draw `jaxdrop`'s masks; `bits=32` reproduces Flax's.

    Other modules that ask for a key "dropout", such as one around `nn.dot_product_attention`, are not in
    `list_rates`. Their rates cannot be set, so a pattern that matches one is an error, unless the rate
    is None. Modules of other libraries that draw from other collections keep their rates.

    Use it inside `jax.jit` or keep the result: each call of `with_rates` traces jitted blocks anew.

    Args:
      fun: A function that runs Linen modules, such as `model.apply` or a loss.
      rates: Rates by shell-style pattern of path ("encoder/*"), each a scalar in [0, 1], traced or
        not. The longest pattern that matches a path applies, as JAX sorts the keys of a dict. None
        leaves a site as it is, as does a path that matches no pattern.
      bits: Random bits per element for Flax's own Dropout and attention: 8, 16, 24 or 32 (32
        reproduces Flax's masks). None: 16, or 24 for rates near 0 or 1.

    Returns:
      A function with the arguments of `fun`. It raises a ValueError if a pattern applies to no site of
      its calls so far or matches a module that drops by its own code; if two longest patterns match
      one site; if it runs inside another `with_rates`; or if a site in a block under `nn.jit` has a
      pattern other than "*", as blocks of one class share a trace. It raises a TypeError if an
      `attention_fn` takes no `dropout_rate`.

    Raises:
      TypeError: If `fun` is not a function, or `rates` is not a dict of real numbers by pattern.
      ValueError: If `rates` is empty, a rate is not a scalar in [0, 1], or `bits` is not valid.

    Examples:
      >>> import jax.numpy as jnp
      >>> net = nn.Sequential([nn.Dense(8), nn.Dropout(0.0, deterministic=False)])
      >>> variables = net.init(jax.random.key(0), jnp.ones((3, 4)))
      >>> def loss(rate):
      ...     apply = with_rates(net.apply, {"*": rate})
      ...     return apply(variables, jnp.ones((3, 4)), rngs={"dropout": jax.random.key(1)}).sum()
      >>> jax.vmap(loss)(jnp.array([0.0, 0.1, 0.5])).shape
      (3,)
    """
    _check_function(fun)
    _checks.choose_width(bits, None)
    patterns, token = _rates.Patterns(rates), object()

    def intercept(call: Callable, args: tuple, kwargs: dict, context: InterceptorContext) -> PyTree:
        module = context.module
        method = cast(functools.partial, context.orig_method).func
        with contextlib.ExitStack() as stack:
            if not isinstance(module, _SITES):
                stack.enter_context(_refusing_keys(module, patterns))
            for site, field in _sites_of(module, context.method_name):
                _check_shared_trace(patterns, site)
                rate = patterns.rate(_path(site))
                if rate is None:
                    continue
                if isinstance(module, _rates.RATED):
                    kwargs.pop("rate", None)
                if method is _DROPOUT:
                    return _dropout(call, args, kwargs, module, rate, bits)
                fields = {field: rate} if method is not _ATTENTION else _attention_fields(site, rate, bits)
                stack.enter_context(with_fields(site, fields))
            return call(*args, **kwargs)

    @functools.wraps(fun)
    def rated(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        if _use.value is not None:
            raise ValueError("`with_rates` must not run inside another: give all `rates` to one.")
        with _use(token), nn.intercept_methods(intercept):
            result = fun(*args, **kwargs)
        patterns.check_all_apply()
        return result

    return rated


def list_rates(fun: Callable, *args: PyTree, **kwargs: PyTree) -> tuple[_sites.Site, ...]:
    """Lists the sites of a model whose rates `with_rates` can set; computes nothing.

    Sites with rate 0 and in evaluation mode are listed too. Blocks of one class under `nn.jit` share
    one trace, and are listed once.

    Args:
      fun: A function that runs Linen modules, such as `model.apply`.
      *args: Its arguments. Of arrays, only the types are used; they may be `jax.ShapeDtypeStruct`s.
      **kwargs: Its keyword arguments.

    Returns:
      Tuples of path, class name, stream and rate, in the order of the first calls. "array" stands for a rate
      that is traced or not a scalar.

    Raises:
      TypeError: If `fun` is not a function.

    Examples:
      >>> net = nn.Sequential([nn.Dense(8), nn.Dropout(0.1, deterministic=True)])
      >>> x = jax.ShapeDtypeStruct((3, 4), "float32")
      >>> for site in list_rates(net.init, jax.random.key(0), x):
      ...     print(site)
      Site(path='layers_1', kind='Dropout', stream='dropout', rate='0.1')
    """
    _check_function(fun)
    found: dict[str, _sites.Site] = {}

    def intercept(call: Callable, args: tuple, kwargs: dict, context: InterceptorContext) -> PyTree:
        for site, field in _sites_of(context.module, context.method_name):
            own = getattr(site, field)
            # Only the module whose method is called has its arguments.
            given = kwargs.get("rate") if site is context.module else None
            entry = _rates.site(_path(site), site, own if given is None else given)
            if entry.path not in found or given is not None:
                found[entry.path] = entry
        return call(*args, **kwargs)

    leaves, structure = jax.tree.flatten((args, kwargs))
    arrays = {i: leaf for i, leaf in enumerate(leaves) if hasattr(leaf, "shape") and hasattr(leaf, "dtype")}

    def call(arrays: dict[int, jax.Array]) -> None:
        """Returns nothing, as the result of a function need not be arrays."""
        args, kwargs = jax.tree.unflatten(structure, [arrays.get(i, leaf) for i, leaf in enumerate(leaves)])
        fun(*args, **kwargs)

    with _use(object()), nn.intercept_methods(intercept):
        jax.eval_shape(call, arrays)
    return tuple(found.values())


def _check_function(fun: object) -> None:
    if not callable(fun) or isinstance(fun, nn.Module):
        got = type(fun).__name__
        raise TypeError(f"`fun` must be a function that runs a model, such as `model.apply`, got {got}.")


def _sites_of(module: nn.Module, method: str) -> list[tuple[nn.Module, str]]:
    """The sites that a call of a module reaches directly, each with the field that holds its rate.

    A cell inside an `RNN` is among them, as no interceptor sees the call of its `initialize_carry`.
    """
    # Flax tries `setup`, and functions that are no methods, outside of the model's scope.
    if method == "setup" or not hasattr(type(module), method):
        return []
    found: list[nn.Module] = [module]
    if isinstance(module, nn.RNN):
        found = [module.cell]
    while isinstance(found[-1], _rates.RATED) and isinstance(getattr(found[-1], "cell", None), nn.Module):
        found.append(found[-1].cell)  # pyright: ignore[reportAttributeAccessIssue]
    fields = [(one, next((field for kind, field in _FIELDS if isinstance(one, kind)), "")) for one in found]
    return [(one, field) for one, field in fields if field]


def _path(module: nn.Module) -> str:
    return "/".join(module.path)


def _dropout(call: Callable, args: tuple, kwargs: dict, module: Any, rate: Rate, bits: Bits) -> PyTree:
    """Flax's Dropout at another rate, in Flax's mode and with Flax's key, with our mask."""
    given = inspect.signature(_DROPOUT).bind(module, *args, **kwargs)
    given.apply_defaults()
    inputs, key = given.arguments["inputs"], given.arguments["rng"]
    # At rate 1 Flax asks for no key, and returns zeros unless it is deterministic.
    with with_fields(module, {"rate": 1.0}):
        y = call(*args, **kwargs)
    if y is inputs:
        return y
    if key is None and not _checks.is_trivial_rate(rate):
        key = make_rng(module, module.rng_collection)
    dims = tuple(module.broadcast_dims)
    # There is no key at rates 0 and 1.
    return drops.dropout(key, inputs, rate, broadcast_dims=dims, bits=bits)  # pyright: ignore[reportArgumentType]


def _attention_fields(module: Any, rate: Rate, bits: Bits) -> dict:
    """Fields of Flax's attention at another rate: Flax compares its own field with 0."""
    if _checks.is_scalar(rate, 0):
        return {"dropout_rate": 0.0}
    attend = module.attention_fn
    if attend is nn.dot_product_attention:
        attend = attention.attention_fn(_rates.attention_dropout(module.broadcast_dropout), bits=bits)
    if "dropout_rate" not in inspect.signature(attend).parameters:
        raise TypeError(
            f"`rates` must be for attention whose `attention_fn` takes `dropout_rate`, got {_path(module)!r}."
        )

    @functools.wraps(attend)
    def at_rate(*args: PyTree, **kwargs: PyTree) -> jax.Array:
        return attend(*args, **{**kwargs, "dropout_rate": rate})

    return {"dropout_rate": 1.0, "attention_fn": at_rate}


@contextlib.contextmanager
def _refusing_keys(module: nn.Module, patterns: _rates.Patterns) -> Iterator[None]:
    """Refuses a key for dropout to other code than a site's, as that code has a rate that is not known."""

    def make_rng(name: str = "params") -> jax.Array:
        if name == "dropout" and not is_fork() and patterns.rate(_path(module)) is not None:
            raise ValueError(
                f"`rates` must be None for {_path(module)!r}, or have no pattern that matches it: "
                f"{type(module).__name__} drops by its own code, so its rate cannot be set."
            )
        return nn.Module.make_rng(module, name)

    if "make_rng" in vars(module):
        yield
        return
    object.__setattr__(module, "make_rng", make_rng)
    try:
        yield
    finally:
        object.__delattr__(module, "make_rng")


def _check_shared_trace(patterns: _rates.Patterns, site: nn.Module) -> None:
    """Raises in a block under `nn.jit`: blocks of one class share its trace, whatever their paths."""
    frame = None if patterns.are_one else sys._getframe()
    while frame is not None and not (frame.f_code.co_name == "rated" and frame.f_globals is globals()):
        if frame.f_code.co_name == "jitted" and frame.f_globals is vars(flax.core.lift):
            raise ValueError(
                "`rates` must have the one pattern '*' if a site is in a block under `nn.jit`, as blocks of "
                f"one class share a trace, got {_path(site)!r}; or take `nn.jit` out of the model."
            )
        frame = frame.f_back
