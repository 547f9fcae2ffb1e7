"""Which outputs of a traced program depend on which of its inputs.

The analysis goes into loops, branches, calls and functions with custom derivatives. Of other
primitives, and of those with effects, all outputs depend on all inputs.
"""

import contextlib
from collections.abc import Callable

import jax.extend.core as jex

from jaxdrop._types import PyTree

Flags = list[bool]
# The parameters of an equation.
Params = dict[str, PyTree]
# The parameter that holds the program of a call whose inputs and outputs are those of the program.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "shard_map": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def dependent_outputs(jaxpr: jex.Jaxpr, inputs: Flags) -> Flags:
    """For each output, whether it depends on any of the marked inputs."""
    marked = {var for var, flag in zip(jaxpr.invars, inputs, strict=True) if flag}

    def is_marked(var: jex.Var | jex.Literal) -> bool:
        return not isinstance(var, jex.Literal) and var in marked

    for eqn in jaxpr.eqns:
        given = [is_marked(var) for var in eqn.invars]
        if not any(given):
            continue
        if eqn.effects:
            # It may write to its inputs.
            marked |= {var for var in eqn.invars if not isinstance(var, jex.Literal)}
        outputs = _through(eqn, given)
        marked |= {var for var, flag in zip(eqn.outvars, outputs, strict=True) if flag}
    return [is_marked(var) for var in jaxpr.outvars]


def called(eqn: jex.JaxprEqn) -> jex.Jaxpr | None:
    """The program of a call without effects, whose inputs and outputs are its own; else None."""
    name = eqn.primitive.name
    return _open(eqn.params[_CALLS[name]]) if name in _CALLS and not eqn.effects else None


def _through(eqn: jex.JaxprEqn, given: Flags) -> Flags:
    """The outputs of an equation that depend on the given inputs."""
    name = eqn.primitive.name
    if (program := called(eqn)) is not None:
        return dependent_outputs(program, given)
    if not eqn.effects and name in _CONTROL:
        # A JAX with other parameters: the careful answer.
        with contextlib.suppress(KeyError, AttributeError):
            return _CONTROL[name](eqn.params, given)
    return [True] * len(eqn.outvars)


def _scan(params: Params, given: Flags) -> Flags:
    if "ft_in" in params:  # newer JAX
        consts, carried, _ = (len(list(part)) for part in params["ft_in"].unpack())
    else:
        consts, carried = params["num_consts"], params["num_carry"]
    carry, rest = given[consts : consts + carried], given[consts + carried :]
    body = _open(params["jaxpr"])
    while True:
        outputs = dependent_outputs(body, [*given[:consts], *carry, *rest])
        after = _either(carry, outputs[:carried])
        if after == carry:
            return [*carry, *outputs[carried:]]
        carry = after


def _while(params: Params, given: Flags) -> Flags:
    split = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    carry = given[split[1] :]
    while True:
        (stop,) = dependent_outputs(_open(params["cond_jaxpr"]), [*given[: split[0]], *carry])
        outputs = dependent_outputs(_open(params["body_jaxpr"]), [*given[split[0] : split[1]], *carry])
        # The number of steps reaches all that is carried.
        after = [True] * len(carry) if stop else _either(carry, outputs)
        if after == carry:
            return carry
        carry = after


def _cond(params: Params, given: Flags) -> Flags:
    branches = [dependent_outputs(_open(branch), given[1:]) for branch in params["branches"]]
    return [given[0] or any(flags) for flags in zip(*branches, strict=True)]


_CONTROL: dict[str, Callable[[Params, Flags], Flags]] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}


def _either(a: Flags, b: Flags) -> Flags:
    return [x or y for x, y in zip(a, b, strict=True)]


def _open(jaxpr: jex.Jaxpr) -> jex.Jaxpr:
    """The program without its constants, which it may be closed over."""
    return getattr(jaxpr, "jaxpr", jaxpr)
