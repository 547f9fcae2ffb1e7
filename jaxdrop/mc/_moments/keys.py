"""Keys of a program as known numbers: what is derived from the key is evaluated while tracing.

So two draws from equal keys are known to be one, however the keys were derived.
"""

import math
from collections.abc import Sequence

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import PyTree
from jaxdrop.mc import _dependence
from jaxdrop.mc._moments import forms
from jaxdrop.mc._moments.values import KeyValue, RefusalError, Steps
from jaxdrop.mc._moments.walk import Identity

# Primitives that derive keys from keys, or arrange keys and their words.
_DERIVING = frozenset(
    [
        "broadcast_in_dim",
        "concatenate",
        "copy",
        "dynamic_slice",
        "expand_dims",
        "gather",
        "random_clone",
        "random_fold_in",
        "random_split",
        "random_unwrap",
        "random_wrap",
        "reshape",
        "rev",
        "slice",
        "split",
        "squeeze",
        "stack",
        "transpose",
        "unstack",
    ]
)
# Integers up to this size are evaluated while tracing: they may be folded into keys.
_SMALL = 4096


def derived(eqn: jex.JaxprEqn, values: Sequence[PyTree]) -> list[KeyValue] | None:
    """The outcome of an equation of keys; None if it is not one that derives keys."""
    loops = max(getattr(value, "loops", int(isinstance(value, Steps))) for value in values)
    data = [_data(value) for value in values]
    if eqn.primitive.name not in _DERIVING or not all(map(_is_concrete, data)):
        return None
    axes = [0 if loops and (isinstance(v, Steps) or getattr(v, "loops", 0)) else None for v in values]
    return [KeyValue(one, loops) for one in _evaluated(eqn, data, axes)]


def counted(eqn: jex.JaxprEqn, values: Sequence[PyTree]) -> list[PyTree] | None:
    """The outcome of an equation of known integers or numbers, evaluated; None for another equation."""
    if eqn.effects or _dependence.called(eqn) is not None or not all(map(_is_small, eqn.outvars)):
        return None
    if any(hasattr(param, "eqns") for param in eqn.params.values()):
        return None
    if not all(_is_concrete(_data(value)) for value in values):
        return None
    axes = [0 if isinstance(value, Steps) else None for value in values]
    found = _evaluated(eqn, [_data(value) for value in values], axes)
    if not any(isinstance(value, Steps) for value in values):
        return [np.asarray(one)[()] if np.ndim(one) == 0 else one for one in found]
    now = forms.bind(eqn, [value.now if isinstance(value, Steps) else value for value in values])
    return [Steps(data, one) for data, one in zip(found, now, strict=True)]


def _is_small(var: jex.Var) -> bool:
    """Whether a variable is a number, or an array of not many integers."""
    shape, dtype = getattr(var.aval, "shape", None), getattr(var.aval, "dtype", None)
    if shape is None or dtype is None or jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return False
    return not shape or (jnp.issubdtype(dtype, jnp.integer) and math.prod(shape) <= _SMALL)


def identity(key: KeyValue) -> tuple[Identity, bool]:
    """What names a draw, the words of its keys, and whether each step of a loop draws anew."""
    data = key.data
    if jnp.issubdtype(data.dtype, jax.dtypes.prng_key):
        with forms.evaluating():
            data = jax.random.key_data(data)
    words = np.asarray(data)
    looped = bool(key.loops) and bool((words != words[:1]).any())
    if key.loops and not looped:
        words = words[0]
    rows = tuple(row.tobytes() for row in words.reshape(-1, words.shape[-1]))
    if len(set(rows)) < len(rows):
        raise RefusalError("equal keys among others")
    return rows, looped


def outcomes(jaxpr: jex.Jaxpr, consts: Sequence[PyTree], args: Sequence[PyTree]) -> list[PyTree]:
    """The outputs of a program that are keys or known integers; None for the others."""
    values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, args, strict=True))

    def read(var: jex.Var | jex.Literal) -> PyTree:
        return var.val if isinstance(var, jex.Literal) else values.get(var)

    for eqn in jaxpr.eqns:
        given = [read(var) for var in eqn.invars]
        inner = _dependence.called(eqn)
        found = None
        if inner is not None:
            closed = next(p for p in eqn.params.values() if getattr(p, "jaxpr", p) is inner)
            found = outcomes(inner, getattr(closed, "consts", ()), given)
        elif any(isinstance(value, KeyValue) for value in given):
            if all(value is not None for value in given):
                found = derived(eqn, given)
        elif all(value is not None for value in given):
            found = counted(eqn, given)
        values |= dict(zip(eqn.outvars, found or [None] * len(eqn.outvars), strict=True))
    return [read(var) for var in jaxpr.outvars]


def is_known(value: PyTree) -> bool:
    """Whether a value is a key or known integers, that can be evaluated while tracing."""
    if isinstance(value, KeyValue):
        return True
    return (
        value is not None
        and _is_concrete(value)
        and np.size(value) <= _SMALL
        and jnp.issubdtype(jax.dtypes.result_type(value), jnp.integer)
    )


def _data(value: PyTree) -> PyTree:
    return value.data if isinstance(value, KeyValue | Steps) else value


def _is_concrete(value: PyTree) -> bool:
    known = isinstance(value, jax.Array | np.ndarray | np.generic | int | float | bool)
    return known and _checks.is_concrete(value)


def _evaluated(eqn: jex.JaxprEqn, data: Sequence[PyTree], axes: Sequence[int | None]) -> list[PyTree]:
    def fun(*data: PyTree) -> list[PyTree]:
        return forms.bind(eqn, data, evaluate=True)

    with forms.evaluating():
        if all(axis is None for axis in axes):
            return fun(*map(jnp.asarray, data))
        return jax.vmap(fun, tuple(axes))(*data)
