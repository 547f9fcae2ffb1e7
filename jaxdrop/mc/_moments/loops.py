"""Loops of a known number of steps: the loop is kept, and the sources of its body get an axis of steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import PyTree
from jaxdrop.mc._moments import elementwise, forms, keys
from jaxdrop.mc._moments.values import Draws, KeyValue, Random, Steps, known
from jaxdrop.mc._moments.walk import Source, Walk


@dataclass(eq=False)
class _Loop:
    """A loop with its operands.

    Attributes:
      eqn: The equation.
      consts: Values that are the same in all steps.
      carry: What the first step gets.
      xs: Arrays with a row for each step.
      steps: The known numbers of the carry in each step, by place.
      ends: The outputs that are keys, by place.
    """

    eqn: jex.JaxprEqn
    consts: list[PyTree]
    carry: list[PyTree]
    xs: list[PyTree]
    steps: dict[int, PyTree]
    ends: dict[int, PyTree]

    @property
    def length(self) -> int:
        return self.eqn.params["length"]


@dataclass(eq=False)
class _Body:
    """What one pass through the body finds, which is static.

    Attributes:
      draws: The draws that each output depends on; None for a known one.
      sources: Shapes and draws of the sources.
    """

    draws: list[Draws | None]
    sources: list[tuple[tuple[int, ...], Draws]]


def scan(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    """The outcome of a `scan`."""
    settled = [elementwise.settle(walk, value) for value in values]
    if any(getattr(value, "loops", 0) or isinstance(value, Steps) for value in settled):
        raise walk.refusal(eqn, "a draw in a loop within a loop")
    loop = _of(eqn, settled)
    draws, body = _carried_draws(walk, loop)
    return _run(walk, loop, draws, body)


def _of(eqn: jex.JaxprEqn, values: list[PyTree]) -> _Loop:
    params = eqn.params
    if "ft_in" in params:  # newer JAX
        consts, carried, _ = (len(list(part)) for part in params["ft_in"].unpack())
    else:
        consts, carried = params["num_consts"], params["num_carry"]
    carry = values[consts : consts + carried]
    loop = _Loop(eqn, values[:consts], carry, values[consts + carried :], {}, {})
    return _with_steps(loop)


def _with_steps(loop: _Loop) -> _Loop:
    """The keys and known integers that the loop carries, found by running them alone."""
    closed, length = loop.eqn.params["jaxpr"], loop.length
    consts = [value if keys.is_known(value) else None for value in loop.consts]
    carry = [value if keys.is_known(value) else None for value in loop.carry]
    xs = [value if keys.is_known(value) else None for value in loop.xs]
    if not any(isinstance(value, KeyValue) for value in (*consts, *carry, *xs)):
        return loop
    before: list[list[PyTree]] = []
    after: list[list[PyTree]] = []
    order = range(length)
    for step in reversed(order) if loop.eqn.params["reverse"] else order:
        before.append(carry)
        out = keys.outcomes(closed.jaxpr, closed.consts, [*consts, *carry, *(_row(x, step) for x in xs)])
        carry, rest = out[: len(carry)], out[len(carry) :]
        after.append(rest)
    if loop.eqn.params["reverse"]:
        before.reverse()
        after.reverse()
    for place in range(len(carry)):
        column = [row[place] for row in before]
        if all(value is not None for value in (*column, carry[place])):
            loop.steps[place] = _stacked(column)
            if isinstance(carry[place], KeyValue):
                loop.ends[place] = carry[place]
    for place in range(len(after[0]) if after else 0):
        column = [row[place] for row in after]
        if all(isinstance(value, KeyValue) for value in column):
            loop.ends[len(carry) + place] = KeyValue(_stacked(column))
    return loop


def _row(value: PyTree, step: int) -> PyTree:
    if value is None:
        return None
    with forms.evaluating():
        return KeyValue(value.data[step]) if isinstance(value, KeyValue) else np.asarray(value)[step]


def _stacked(column: Sequence[PyTree]) -> PyTree:
    with forms.evaluating():
        return jnp.stack([jnp.asarray(getattr(value, "data", value)) for value in column])


def _carried_draws(walk: Walk, loop: _Loop) -> tuple[list[Draws | None], _Body]:
    """The draws that the carry depends on in some step, found by passes through the body."""
    draws = [value.draws if isinstance(value, Random) else None for value in loop.carry]
    while True:
        body = _pass(walk, loop, draws)
        after = [_joined(walk, one, new) for one, new in zip(draws, body.draws, strict=False)]
        if after == draws:
            return draws, body
        draws = after


def _joined(walk: Walk, old: Draws | None, new: Draws | None) -> Draws | None:
    if new is None:
        return old
    return (old or frozenset()) | walk.registry.earlier(new)


def _pass(walk: Walk, loop: _Loop, draws: list[Draws | None]) -> _Body:
    """Traces one step, for what is static."""
    found: list[_Body] = []

    def step(carry: list[PyTree], xs: list[PyTree]) -> None:
        inner = _inner(walk, loop, None)
        outputs = _step(inner, loop, draws, carry, xs)
        of_outputs = [value.draws if isinstance(value, Random) else None for value in outputs]
        sources = [(np.shape(source.variance), source.draws) for source in inner.sources]
        found.append(_Body(of_outputs, sources))

    first = _pairs(loop.xs)
    jax.eval_shape(step, _start(loop, draws), jax.tree.map(lambda x: x[0], first))
    return found[0]


def _inner(walk: Walk, loop: _Loop, deltas: Sequence[jax.Array] | None) -> Walk:
    equations = [*walk.equations, loop.eqn]
    return Walk(walk.run, walk.registry, walk.smooth, deltas, outer=walk, equations=equations)


def _start(loop: _Loop, draws: list[Draws | None]) -> list[PyTree]:
    """The carry of the first step: pairs of means and variances for what is random."""
    start: list[PyTree] = []
    for value, of in zip(loop.carry, draws, strict=True):
        if of is None:
            start.append(None if isinstance(value, KeyValue) else value)
        else:
            array = value if isinstance(value, Random) else known(value)
            start.append((array.mean, array.variance))
    return start


def _pairs(values: Sequence[PyTree]) -> list[PyTree]:
    """Means and variances of random arrays; keys are left out."""
    return [
        (value.mean, value.variance)
        if isinstance(value, Random)
        else (None if isinstance(value, KeyValue) else value)
        for value in values
    ]


def _step(
    inner: Walk, loop: _Loop, draws: list[Draws | None], carry: list[PyTree], xs: list[PyTree]
) -> list[PyTree]:
    """The outputs of the body, settled."""
    given: list[PyTree] = list(loop.consts)
    for place, (value, of) in enumerate(zip(carry, draws, strict=True)):
        if of is not None:
            given.append(_array(value, of))
        elif place in loop.steps:
            data = loop.steps[place]
            is_key = isinstance(loop.carry[place], KeyValue)
            given.append(KeyValue(data, 1) if is_key else Steps(data, value))
        elif isinstance(loop.carry[place], KeyValue):
            raise inner.refusal(loop.eqn, "a key that the loop carries and computes with")
        else:
            given.append(value)
    for value, row in zip(loop.xs, xs, strict=True):
        if isinstance(value, KeyValue):
            given.append(KeyValue(value.data, 1))
        elif isinstance(value, Random):
            given.append(_array(row, value.draws, value.law, value.independent, value.exact))
        else:
            given.append(Steps(value, row) if keys.is_known(value) and np.ndim(value) else row)
    closed = loop.eqn.params["jaxpr"]
    outputs = inner.run(inner, closed.jaxpr, closed.consts, given)
    return [elementwise.settle(inner, value) for value in outputs]


def _run(walk: Walk, loop: _Loop, draws: list[Draws | None], body: _Body) -> list[PyTree]:
    count, length = len(loop.carry), loop.length
    sources = [Source(np.zeros((length, *shape), np.float32), of) for shape, of in body.sources]
    start = len(walk.sources)
    deltas = walk.add(sources)

    def step(carry: list[PyTree], row: tuple) -> tuple[list[PyTree], tuple]:
        xs, own = row
        inner = _inner(walk, loop, own)
        outputs = _step(inner, loop, draws, carry, xs)
        after = [_carried(value, of) for value, of in zip(outputs, draws, strict=False)]
        return after, (_pairs(outputs[count:]), [source.variance for source in inner.sources])

    params = loop.eqn.params
    end, (ys, variances) = jax.lax.scan(
        step,
        _start(loop, draws),
        (_pairs(loop.xs), deltas),
        length=length,
        reverse=params["reverse"],
    )
    for index, variance in enumerate(variances):
        walk.sources[start + index] = Source(jax.lax.stop_gradient(variance), sources[index].draws)
    return [
        loop.ends.get(place, _output(walk, value, of))
        for place, (value, of) in enumerate(zip([*end, *ys], [*draws, *body.draws[count:]], strict=True))
    ]


def _carried(value: PyTree, draws: Draws | None) -> PyTree:
    """What the next step gets."""
    if draws is None:
        return None if isinstance(value, KeyValue) else getattr(value, "now", value)
    array = value if isinstance(value, Random) else known(value)
    return array.mean, jax.lax.stop_gradient(array.variance)


def _output(walk: Walk, value: PyTree, draws: Draws | None) -> PyTree:
    return value if draws is None else _array(value, draws | walk.registry.earlier(draws))


def _array(
    pair: tuple[jax.Array, jax.Array],
    draws: Draws,
    law: str = "other",
    independent: bool = False,
    exact: bool = False,
) -> Random:
    """The array of a pair of means and variances."""
    mean, variance = pair
    return Random(mean, variance, draws, law, independent, exact)
