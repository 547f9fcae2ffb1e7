"""Key-free computation, hoisted: found in the traced program and evaluated once.

A function of a key is traced, and its equations are split in two. Those that do not depend on the
key are evaluated at once, outside any loop or `vmap` that the rest runs in. Jitted and
rematerialized calls are opened if they hold something costly. Loops, branches and functions with
custom derivatives are kept whole once they depend on the key.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import jax
import jax.extend.core as jex

from jaxdrop._types import PyTree
from jaxdrop.mc import _dependence

Atom = jex.Var | jex.Literal
# A value of the program: an array, a key, or another value that JAX traces.
Value = PyTree
# Values by variable.
Environment = dict[jex.Var, Value]

_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "remat2": "jaxpr"}
# A call is opened only for these primitives. Others cost no more than storing their result.
_COSTLY = frozenset({"dot_general", "conv_general_dilated", "scan", "while", "sort", "fft", "cholesky"})
# Primitives that make a large array of a small one: recomputing is cheaper than storing.
_ENLARGING = frozenset({"broadcast_in_dim", "iota"})


class KeyFreeSplit:
    """A function of a key, split into the part that depends on the key and the part that does not.

    It is valid only within the trace that creates it.

    Args:
      fun: A function of a key, or of another tree; it may close over traced values.
      key: A key or such a tree; only its types are used.

    Attributes:
      working_set: The most bytes that one key-dependent equation reads and writes.
      outputs: The types of the function's outputs.
      uses_key: Whether any output depends on the key.
    """

    def __init__(self, fun: Callable[[PyTree], PyTree], key: PyTree):
        closed, self.outputs = jax.make_jaxpr(fun, return_shape=True)(key)
        inputs = len(closed.jaxpr.invars)
        self._part = _Part.of(closed.jaxpr, closed.consts, [False] * inputs)
        self.working_set = max(self._part.sizes(), default=1)
        # The split keeps some calls and all loops whole, which is too coarse for this.
        self.uses_key = any(_dependence.dependent_outputs(closed.jaxpr, [True] * inputs))

    def hoisted(self) -> Callable[[PyTree], PyTree]:
        """Evaluates the key-free part; returns the same function of a key, which computes the rest."""
        self._part.precompute([None] * len(self._part.known))
        outputs = jax.tree.structure(self.outputs)
        return lambda key: outputs.unflatten(self._part(jax.tree.leaves(key)))


@dataclass
class _Step:
    """One equation of a split program.

    Attributes:
      eqn: The equation.
      late: Whether it depends on the key or has an effect.
      inputs: Its key-dependent inputs.
      inner: The split of the program that it calls, if that is opened.
    """

    eqn: jex.JaxprEqn
    late: bool
    inputs: list[Atom]
    inner: "_Part | None" = None


@dataclass
class _Part:
    """A split program.

    Attributes:
      jaxpr: The program.
      consts: Its constants.
      known: Whether each input is key-free.
      steps: Its equations in order.
      gives: Whether each output is key-free.
      values: The values computed so far, by variable.
    """

    jaxpr: jex.Jaxpr
    consts: Sequence[Value]
    known: list[bool]
    steps: list[_Step] = field(default_factory=list)
    gives: list[bool] = field(default_factory=list)
    values: Environment = field(default_factory=dict)

    @classmethod
    def of(cls, jaxpr: jex.Jaxpr, consts: Sequence[Value], known: list[bool]) -> "_Part":
        part = cls(jaxpr, consts, known)
        reached = {var for var, key_free in zip(jaxpr.invars, known, strict=True) if not key_free}
        for eqn in jaxpr.eqns:
            part.steps.append(_step(eqn, reached))
        part.gives = [_is_known(var, reached) for var in jaxpr.outvars]
        return part

    def is_worthwhile(self) -> bool:
        """Whether anything costly is key-free."""
        return any(step.inner or (not step.late and _is_costly(step.eqn)) for step in self.steps)

    def precompute(self, inputs: list[Value]) -> None:
        """Evaluates the key-free equations; key-dependent inputs are ignored."""
        self.values = dict(zip(self.jaxpr.constvars, self.consts, strict=True))
        given = zip(self.jaxpr.invars, inputs, self.known, strict=True)
        self.values |= {var: value for var, value, key_free in given if key_free}
        for step in self.steps:
            if step.inner:
                step.inner.precompute([_read(self.values, var) for var in step.eqn.invars])
                outputs = [_read(step.inner.values, var) for var in step.inner.jaxpr.outvars]
                known = zip(step.eqn.outvars, outputs, step.inner.gives, strict=True)
                self.values |= {var: value for var, value, key_free in known if key_free}
            elif not step.late:
                _evaluate(step.eqn, self.values)

    def __call__(self, inputs: list[Value]) -> list[Value]:
        """Evaluates the other equations."""
        values = dict(self.values)
        given = zip(self.jaxpr.invars, inputs, self.known, strict=True)
        values |= {var: value for var, value, key_free in given if not key_free}
        for step in self.steps:
            if step.inner:
                outputs = step.inner([_read(values, var) for var in step.eqn.invars])
                values |= dict(zip(step.eqn.outvars, outputs, strict=True))
            elif step.late or step.eqn.primitive.name in _ENLARGING:
                _evaluate(step.eqn, values)
        return [_read(values, var) for var in self.jaxpr.outvars]

    def sizes(self) -> Iterator[int]:
        """Bytes of the key-dependent inputs and the outputs, for each key-dependent equation."""
        for step in self.steps:
            if step.inner:
                yield from step.inner.sizes()
            elif step.late:
                yield sum(_nbytes(var.aval) for var in (*step.inputs, *step.eqn.outvars))


def _step(eqn: jex.JaxprEqn, reached: set[jex.Var]) -> _Step:
    """Classifies an equation, and adds its key-dependent outputs to `reached`."""
    known = [_is_known(var, reached) for var in eqn.invars]
    if all(known) and not eqn.effects:
        return _Step(eqn, False, [])
    inner = _opened(eqn, known)
    gives = inner.gives if inner else [False] * len(eqn.outvars)
    reached |= {var for var, key_free in zip(eqn.outvars, gives, strict=True) if not key_free}
    inputs = [var for var, key_free in zip(eqn.invars, known, strict=True) if not key_free]
    return _Step(eqn, True, inputs, inner)


def _opened(eqn: jex.JaxprEqn, known: list[bool]) -> _Part | None:
    """The split of a call, if something costly in it is key-free."""
    if eqn.primitive.name not in _CALLS or eqn.effects:
        return None
    jaxpr = eqn.params[_CALLS[eqn.primitive.name]]
    part = _Part.of(getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ()), known)
    return part if part.is_worthwhile() else None


def _is_costly(eqn: jex.JaxprEqn) -> bool:
    if eqn.primitive.name in _COSTLY:
        return True
    called = (value for value in eqn.params.values() if hasattr(value, "eqns"))
    return any(_is_costly(inner) for jaxpr in called for inner in jaxpr.eqns)


def _is_known(var: Atom, reached: set[jex.Var]) -> bool:
    return isinstance(var, jex.Literal) or var not in reached


def _read(values: Environment, var: Atom) -> Value:
    return var.val if isinstance(var, jex.Literal) else values.get(var)


def _evaluate(eqn: jex.JaxprEqn, values: Environment) -> None:
    """Evaluates an equation in its own context, as `jax.core.eval_jaxpr` does."""
    params = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        result = eqn.primitive.bind(*(_read(values, var) for var in eqn.invars), **params)
    results = result if eqn.primitive.multiple_results else [result]
    values |= dict(zip(eqn.outvars, results, strict=True))


def _nbytes(aval: object) -> int:
    return getattr(aval, "size", 0) * getattr(getattr(aval, "dtype", None), "itemsize", 0)
