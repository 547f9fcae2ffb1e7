"""Functions of one number: constants, affine functions, ramps, and all others.

An elementwise program of one array is put together of these, step by step, so that its moments are in
closed form where there is one.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import PyTree

# An array of JAX or NumPy, or a NumPy scalar, which is known while tracing.
Value = PyTree
# Primitives whose result has a kink or a jump.
_KINKED = frozenset(
    [
        "abs",
        "and",
        "ceil",
        "clamp",
        "eq",
        "floor",
        "ge",
        "gt",
        "is_finite",
        "le",
        "lt",
        "max",
        "min",
        "ne",
        "not",
        "or",
        "rem",
        "round",
        "select_n",
        "sign",
        "xor",
    ]
)
_SAME = frozenset({"convert_element_type", "copy", "reduce_precision"})


class Constant(NamedTuple):
    """A known value. Decisions and what follows from them alone are NumPy scalars."""

    value: Value


class Affine(NamedTuple):
    """`slope * u + offset`."""

    slope: Value
    offset: Value


class Ramp(NamedTuple):
    """`slope * max(u, start) + offset`."""

    slope: Value
    start: Value
    offset: Value


class Curve(NamedTuple):
    """Any other function; `kinked` if it is not smooth."""

    fun: Callable[[jax.Array], jax.Array]
    kinked: bool


Form = Constant | Affine | Ramp | Curve
IDENTITY = Affine(np.float32(1), np.float32(0))


def kind(var: jex.Var | jex.Literal) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a variable."""
    aval: PyTree = var.aval
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def filled(value: np.generic, shape: tuple[int, ...]) -> np.ndarray:
    """An array of one number, which `number` finds again."""
    return np.broadcast_to(value, shape)


def number(value: Value) -> Value:
    """The number of which an array of `filled` is full; another value as it is."""
    full = isinstance(value, np.ndarray) and value.size and not any(value.strides)
    return value.reshape(-1)[0] if full else value


@contextlib.contextmanager
def evaluating() -> Iterator[None]:
    """Known numbers are computed while tracing, on one device; the same keys are derived by each walk."""
    no_mesh = jax.sharding.AbstractMesh((), ())
    with jax.ensure_compile_time_eval(), jax.sharding.use_abstract_mesh(no_mesh), jax.debug_key_reuse(False):
        yield


def bind(eqn: jex.JaxprEqn, args: Sequence[Value], *, evaluate: bool = False) -> list[jax.Array]:
    """The outputs of an equation; `evaluate` says that it is within `evaluating`."""
    params = eqn.primitive.get_bind_params(eqn.params)
    # No large constants in the program.
    args = [jnp.broadcast_to(number(one), np.shape(one)) if np.ndim(one) else one for one in args]
    with contextlib.nullcontext() if evaluate else eqn.ctx.manager:
        out = eqn.primitive.bind(*args, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def combined(eqn: jex.JaxprEqn, forms: Sequence[Form]) -> Form:
    """The form of an elementwise equation of these forms."""
    name = eqn.primitive.name
    values = [form.value for form in forms if isinstance(form, Constant)]
    if len(values) == len(forms):
        return _constant(eqn, values)
    if _only_rounds(eqn):
        return forms[0]
    if name == "neg":
        return _of_two("mul", forms[0], Constant(np.float32(-1))) or _curve(eqn, forms)
    if name == "select_n" and isinstance(forms[0], Constant):
        return _selected(forms[0].value, forms[1:]) or _curve(eqn, forms)
    if len(forms) == 2:
        return _of_two(name, *forms) or _curve(eqn, forms)
    return _curve(eqn, forms)


def _only_rounds(eqn: jex.JaxprEqn) -> bool:
    """Whether an equation makes floating-point numbers of such and changes their precision at most."""
    dtypes = [kind(var).dtype for var in (eqn.invars[0], eqn.outvars[0])]
    return eqn.primitive.name in _SAME and all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes)


def evaluate(form: Form, u: jax.Array) -> jax.Array:
    """The value at u; of the shape of u."""
    match form:
        case Constant(value):
            return jnp.broadcast_to(jnp.asarray(value), u.shape)
        case Affine(slope, offset):
            return slope * u + offset
        case Ramp(slope, start, offset):
            return slope * jnp.maximum(u, start) + offset
        case Curve(fun):
            return fun(u)


def is_kinked(form: Form) -> bool:
    """Whether a form has a kink or a step."""
    return isinstance(form, Ramp) or (isinstance(form, Curve) and form.kinked)


def _is_decided(value: Value) -> bool:
    return isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0


def _constant(eqn: jex.JaxprEqn, values: list[Value]) -> Constant:
    name, dtype = eqn.primitive.name, kind(eqn.outvars[0]).dtype
    if name in _SAME and jnp.issubdtype(dtype, jnp.floating):
        (value,) = values
        if jax.dtypes.result_type(value) == np.float32:
            return Constant(value)
        return Constant(np.float32(value) if _is_decided(value) else jnp.asarray(value, jnp.float32))
    if all(map(_is_decided, values)):
        with evaluating():
            return Constant(np.asarray(bind(eqn, list(map(jnp.asarray, values)), evaluate=True)[0])[()])
    if name in ("and", "or") and any(map(_is_decided, values)):
        decided, other = values if _is_decided(values[0]) else reversed(values)
        return Constant(other if bool(decided) == (name == "and") else decided)
    if name == "select_n" and _is_decided(values[0]):
        return Constant(values[1 + int(values[0])])
    shape = np.broadcast_shapes(*map(np.shape, values))
    return Constant(bind(eqn, [jnp.broadcast_to(jnp.asarray(value), shape) for value in values])[0])


def _selected(which: Value, forms: Sequence[Form]) -> Form | None:
    if _is_decided(which):
        return forms[int(which)]
    pairs = [
        Affine(np.float32(0), form.value) if isinstance(form, Constant) else form
        for form in forms
        if isinstance(form, Affine | Constant)
    ]
    if len(pairs) != 2 or len(forms) != 2:
        return None
    return Affine(*(jnp.where(which, second, first) for first, second in zip(*pairs, strict=True)))


def _of_two(name: str, a: Form, b: Form) -> Form | None:
    """The form of a sum, product, quotient, maximum or comparison of a form and a constant."""
    if name in ("eq", "ne") and isinstance(a, Affine) and _is_infinite(b):
        return Constant(np.bool_(name == "ne"))
    if name == "sub" and isinstance(b, Constant):
        return _of_two("add", a, Constant(-_float(b.value)))
    if name == "sub" and isinstance(b, Affine | Ramp):
        return _of_two("add", _scaled(b, np.float32(-1)), a)
    if name == "div" and isinstance(b, Constant):
        return _of_two("mul", a, Constant(1 / _float(b.value)))
    constant, form = (a, b) if isinstance(a, Constant) else (b, a)
    if not isinstance(constant, Constant):
        if name == "add" and isinstance(a, Affine) and isinstance(b, Affine):
            return Affine(a.slope + b.slope, a.offset + b.offset)
        return None
    value = _float(constant.value)
    if name == "add" and isinstance(form, Affine | Ramp):
        return form._replace(offset=form.offset + value)
    if name == "mul" and isinstance(form, Affine | Ramp):
        return _scaled(form, value)
    if name == "max" and _is_decided(value) and np.isneginf(value):
        return form
    if name == "max" and isinstance(form, Affine) and _is_decided(form.slope) and form.slope > 0:
        return Ramp(form.slope, (value - form.offset) / form.slope, form.offset)
    return None


def _is_infinite(form: Form) -> bool:
    return isinstance(form, Constant) and _is_decided(form.value) and bool(np.isinf(form.value))


def _scaled(form: Affine | Ramp, by: Value) -> Form:
    return form._replace(slope=form.slope * by, offset=form.offset * by)


def _float(value: Value) -> Value:
    return np.float32(value) if _is_decided(value) else jnp.asarray(value, jnp.float32)


def _curve(eqn: jex.JaxprEqn, forms: Sequence[Form]) -> Curve:
    def fun(u: jax.Array) -> jax.Array:
        values = [evaluate(form, u) for form in forms]
        if any(jnp.issubdtype(value.dtype, jnp.floating) for value in values):
            # Random integers are carried on as numbers of float32.
            values = [jnp.asarray(one, jnp.float32) if one.dtype.kind in "iu" else one for one in values]
        found = bind(eqn, values)[0]
        return found.astype(jnp.float32) if jnp.issubdtype(found.dtype, jnp.floating) else found

    return Curve(fun, eqn.primitive.name in _KINKED or any(map(is_kinked, forms)))
