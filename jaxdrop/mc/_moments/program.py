"""Evaluation of a traced program with random values: one equation after the other."""

from collections.abc import Sequence

import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import PyTree
from jaxdrop.mc import _dependence
from jaxdrop.mc._moments import draws, elementwise, forms, keys, loops, rules, softmax
from jaxdrop.mc._moments.values import KeyValue, Random, Steps, is_random
from jaxdrop.mc._moments.walk import Walk


def run(walk: Walk, jaxpr: jex.Jaxpr, consts: Sequence[PyTree], args: Sequence[PyTree]) -> list[PyTree]:
    """The outputs of a program."""
    values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, args, strict=True))

    def read(var: jex.Var | jex.Literal) -> PyTree:
        if isinstance(var, jex.Literal):
            return np.asarray(var.val, getattr(var.aval, "dtype", None))[()]
        return values[var]

    found = softmax.find(jaxpr)
    for index, eqn in enumerate(jaxpr.eqns):
        if index in found.ends and is_random(read(found.ends[index].logits)):
            end = found.ends[index]
            outputs: list[PyTree] = [softmax.apply(walk, read(end.logits), end.axes)]
        elif index in found.inner and is_random(read(found.inner[index])):
            # Only the end of the softmax needs it.
            outputs = [None] * len(eqn.outvars)
        else:
            outputs = _outputs(walk, eqn, list(map(read, eqn.invars)))
        values |= dict(zip(eqn.outvars, outputs, strict=True))
    return [read(var) for var in jaxpr.outvars]


def _outputs(walk: Walk, eqn: jex.JaxprEqn, given: list[PyTree]) -> list[PyTree]:
    has_keys = any(isinstance(value, KeyValue) for value in given)
    is_any_random = any(map(is_random, given))
    if has_keys and (draw := draws.drawn(walk, eqn, given)) is not None:
        return [draw]
    name = eqn.primitive.name
    if name == "platform_index":
        # The default branch, which is the last.
        return [np.int32(len(eqn.params["platforms"]) - 1)]
    if name == "cond" and isinstance(given[0], np.generic):
        return _call(walk, eqn, eqn.params["branches"][int(given[0])], given[1:])
    inner = _dependence.called(eqn)
    if name == "shard_map" and (has_keys or is_any_random):
        raise walk.refusal(eqn, "`shard_map`")
    if inner is not None and (has_keys or is_any_random or any(isinstance(v, Steps) for v in given)):
        closed = next(p for p in eqn.params.values() if getattr(p, "jaxpr", p) is inner)
        return _call(walk, eqn, closed, given)
    if has_keys and is_any_random and name != "scan":
        raise walk.refusal(eqn, f"`{name}` of a key and a random array")
    if name == "scan" and (has_keys or is_any_random):
        return loops.scan(walk, eqn, given)
    if has_keys:
        return _of_keys(walk, eqn, given)
    if not is_any_random:
        if name == "broadcast_in_dim" and isinstance(given[0], np.generic):
            return [forms.filled(given[0], eqn.params["shape"])]
        known = keys.counted(eqn, given)
        if known is not None:
            return known
        return forms.bind(eqn, [value.now if isinstance(value, Steps) else value for value in given])
    if name in elementwise.PRIMITIVES:
        return [elementwise.apply(walk, eqn, given)]
    return rules.apply(walk, eqn, given)


def _call(walk: Walk, eqn: jex.JaxprEqn, closed: PyTree, given: list[PyTree]) -> list[PyTree]:
    walk.equations.append(eqn)
    jaxpr, consts = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())
    outputs = run(walk, jaxpr, consts, given)
    walk.equations.pop()
    return outputs


def _of_keys(walk: Walk, eqn: jex.JaxprEqn, given: list[PyTree]) -> list[PyTree]:
    """The outcome of an equation of keys and known values."""
    if all(forms.kind(out).size == 0 for out in eqn.outvars):
        # The draw of size zero that registers the use of a key.
        return [jnp.zeros(forms.kind(out).shape, forms.kind(out).dtype) for out in eqn.outvars]
    found = keys.derived(eqn, given)
    if found is None:
        raise walk.refusal(eqn, f"`{eqn.primitive.name}` of a key")
    return list(found)


def output(walk: Walk, value: PyTree) -> Random | None:
    """An output with its moments; None for one that is known."""
    found = elementwise.settle(walk, value)
    return found if isinstance(found, Random) else None
