"""What does not depend on the key, found in the traced program and computed once.

A function of a key is traced, and its equations are divided in two: those that the key does not
reach are evaluated on the spot, outside whatever loop or `vmap` the rest is run under. Jitted and
rematerialised parts are opened where something costly is to be won; loops, branches and functions
with derivatives of their own are left whole once the key reaches them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.extend.core as jex

from jaxdrop._types import Key

_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "remat2": "jaxpr"}
# What a jitted part is opened for. Anything else costs no more than to keep its result.
_COSTLY = frozenset({"dot_general", "conv_general_dilated", "scan", "while", "sort", "fft", "cholesky"})
# What makes a large array of a small one: rather made again than kept.
_ENLARGING = frozenset({"broadcast_in_dim", "iota"})


class KeyFreeSplit:
    """A function of a key in two parts; it lives in the trace that it is made in.

    Args:
      fun: A function of a key; what it closes over may be traced.
      key: A key, of which only the type is looked at.

    Attributes:
      working_set: The most bytes that one equation takes in and gives, of those that the key reaches.
      outputs: The structure of what it returns.
    """

    def __init__(self, fun: Callable[[Key], Any], key: Key):
        closed, self.outputs = jax.make_jaxpr(fun, return_shape=True)(key)
        self._part = _Part.of(closed.jaxpr, closed.consts, [False])
        self.working_set = max(self._part.sizes(), default=1)

    def hoisted(self) -> Callable[[Key], Any]:
        """Computes what the key does not reach, and gives the same function of a key for the rest."""
        self._part.precompute([None])
        return lambda key: jax.tree.structure(self.outputs).unflatten(self._part([key]))


@dataclass
class _Step:
    """An equation, whether it is left for later, of which inputs, and the division of what it calls.

    Attributes:
      eqn: The equation.
      late: Whether the key reaches it, or it has an effect.
      inputs: Those of its inputs that the key reaches.
      inner: The division of what it calls, if that is opened.
    """

    eqn: Any
    late: bool
    inputs: list[Any]
    inner: "_Part | None" = None


@dataclass
class _Part:
    """A divided program.

    Attributes:
      jaxpr: The program.
      consts: Its constants.
      known: Which of its inputs the key does not reach.
      steps: Its equations in their order.
      gives: Which of its outputs the key does not reach.
      values: What has been computed, by variable.
    """

    jaxpr: Any
    consts: Sequence[Any]
    known: list[bool]
    steps: list[_Step] = field(default_factory=list)
    gives: list[bool] = field(default_factory=list)
    values: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, jaxpr: Any, consts: Sequence[Any], known: list[bool]) -> "_Part":
        part = cls(jaxpr, consts, known)
        reached = {var for var, own in zip(jaxpr.invars, known, strict=True) if not own}
        for eqn in jaxpr.eqns:
            part.steps.append(_step(eqn, reached))
        part.gives = [_is_known(var, reached) for var in jaxpr.outvars]
        return part

    def is_worthwhile(self) -> bool:
        """Whether anything costly is known."""
        return any(step.inner or (not step.late and _is_costly(step.eqn)) for step in self.steps)

    def precompute(self, inputs: list) -> None:
        """Evaluates what the key does not reach, from those inputs that it does not reach."""
        self.values = dict(zip(self.jaxpr.constvars, self.consts, strict=True))
        given = zip(self.jaxpr.invars, inputs, self.known, strict=True)
        self.values |= {var: value for var, value, own in given if own}
        for step in self.steps:
            if step.inner:
                step.inner.precompute([_read(self.values, var) for var in step.eqn.invars])
                outputs = [_read(step.inner.values, var) for var in step.inner.jaxpr.outvars]
                known = zip(step.eqn.outvars, outputs, step.inner.gives, strict=True)
                self.values |= {var: value for var, value, own in known if own}
            elif not step.late:
                _evaluate(step.eqn, self.values)

    def __call__(self, inputs: list) -> list:
        """Evaluates the rest."""
        values = dict(self.values)
        given = zip(self.jaxpr.invars, inputs, self.known, strict=True)
        values |= {var: value for var, value, own in given if not own}
        for step in self.steps:
            if step.inner:
                outputs = step.inner([_read(values, var) for var in step.eqn.invars])
                values |= dict(zip(step.eqn.outvars, outputs, strict=True))
            elif step.late or step.eqn.primitive.name in _ENLARGING:
                _evaluate(step.eqn, values)
        return [_read(values, var) for var in self.jaxpr.outvars]

    def sizes(self) -> Iterator[int]:
        """What each equation takes in of what the key reaches, and gives, in bytes."""
        for step in self.steps:
            if step.inner:
                yield from step.inner.sizes()
            elif step.late:
                yield sum(_nbytes(var.aval) for var in (*step.inputs, *step.eqn.outvars))


def _step(eqn: Any, reached: set) -> _Step:
    """Places an equation, and notes which of its outputs the key reaches."""
    known = [_is_known(var, reached) for var in eqn.invars]
    if all(known) and not eqn.effects:
        return _Step(eqn, False, [])
    inner = _opened(eqn, known)
    gives = inner.gives if inner else [False] * len(eqn.outvars)
    reached |= {var for var, own in zip(eqn.outvars, gives, strict=True) if not own}
    return _Step(eqn, True, [var for var, own in zip(eqn.invars, known, strict=True) if not own], inner)


def _opened(eqn: Any, known: list[bool]) -> _Part | None:
    """The division of a call, if there is something to be won in it."""
    if eqn.primitive.name not in _CALLS or eqn.effects:
        return None
    jaxpr = eqn.params[_CALLS[eqn.primitive.name]]
    part = _Part.of(getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ()), known)
    return part if part.is_worthwhile() else None


def _is_costly(eqn: Any) -> bool:
    if eqn.primitive.name in _COSTLY:
        return True
    called = (value for value in eqn.params.values() if hasattr(value, "eqns"))
    return any(_is_costly(one) for jaxpr in called for one in jaxpr.eqns)


def _is_known(var: Any, reached: set) -> bool:
    return isinstance(var, jex.Literal) or var not in reached


def _read(values: dict, var: Any) -> Any:
    return var.val if isinstance(var, jex.Literal) else values.get(var)


def _evaluate(eqn: Any, values: dict) -> None:
    """Evaluates an equation as `jax.core.eval_jaxpr` does, in its own context."""
    params = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        result = eqn.primitive.bind(*(_read(values, var) for var in eqn.invars), **params)
    results = result if eqn.primitive.multiple_results else [result]
    values |= dict(zip(eqn.outvars, results, strict=True))


def _nbytes(aval: Any) -> int:
    return getattr(aval, "size", 0) * getattr(getattr(aval, "dtype", None), "itemsize", 0)
