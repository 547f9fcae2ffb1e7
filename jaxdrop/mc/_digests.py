"""Digests of all that a result depends on: short strings, the same in every process."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr

from jaxdrop._types import Key, PyTree
from jaxdrop.mc import _batches, _designs, _program, _trees
from jaxdrop.mc._batches import Examples
from jaxdrop.mc._estimates import Estimate
from jaxdrop.mc._program import Predict
from jaxdrop.mc.reducers import Reducer
from jaxdrop.mc.stopping import Until

# Facts of a call by name, as JSON has them.
Facts = dict[str, str | int | bool]
# Raised when the files or the digests change.
_FORMAT = 1
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Traced(NamedTuple):
    """Digests of a traced function.

    Attributes:
      program: Of its operations.
      constants: Of the arrays that it closes over, by value.
    """

    program: str
    constants: str


def of_arrays(tree: PyTree) -> str:
    """The digest of the structure, types and values of a tree of arrays."""
    leaves, structure = jax.tree.flatten(tree)
    found = hashlib.sha256(_without_addresses(structure).encode())
    for leaf in leaves:
        array = _value(leaf)
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def of_function(fun: Callable[..., PyTree], *args: PyTree) -> Traced:
    """The digests of a function, traced with arguments of which only the types matter."""
    return of_program(*jax.make_jaxpr(fun, return_shape=True)(*args))


def of_program(closed: PyTree, outputs: PyTree) -> Traced:
    """The digests of a traced program, without what its outputs do not depend on."""
    live, _ = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    found = _of_jaxpr(live, closed.consts, {})
    return Traced(_of_text([found.program, jax.tree.structure(outputs)]), found.constants)


def facts(
    predict: Predict,
    key: Key,
    first: Examples,
    padded: Examples,
    like: Estimate,
    *,
    num_samples: int | Until,
    reducers: Reducer | PyTree,
    shared: bool,
    balanced: int | None = None,
) -> Facts:
    """All that the results of a data set depend on but its later batches.

    Neither the size of the chunks nor the devices is among it. `first` is the first batch, `padded` the
    same padded, and `like` has the types of its estimates.
    """
    size, balanced = _batches.count(padded), _designs.check_balanced(balanced)
    plan = _program.plan(predict, key, padded.x, 1, 1, shared, allow_deterministic=True, balanced=balanced)
    static = plan.program.static
    arrays, of_key, x, targets = jax.tree.map(_type, (plan.arrays, key, padded.x, padded.targets))
    source = () if static.design is None else (jax.eval_shape(static.like_source, arrays, of_key),)
    sample = of_function(
        lambda arrays, key, x, *source: _program.function(static, arrays, key, x, shared)(*source or (key,)),
        *(arrays, of_key, x, *source),
    )
    # Of independent samples the facts are those that older folders have.
    design: Facts = {} if balanced is None else {"balanced": balanced}
    return design | {
        "format": _FORMAT,
        "version of JAX": jax.__version__,
        "key": _of_key(key),
        "num_samples": _of_count(num_samples, like),
        "shared": bool(shared),
        "batch size": size,
        "reducers": _of_reducers(reducers, plan.outputs, targets),
        "program of `predict`": sample.program,
        "weights of `predict`": of_arrays(plan.arrays) + sample.constants,
        "data": of_arrays(first.x),
        "targets": of_arrays(first.targets),
    }


def _type(leaf: PyTree) -> jax.ShapeDtypeStruct:
    """The type that JAX gives an array."""
    return jax.ShapeDtypeStruct(*_program.kind(leaf))


def _of_key(key: Key) -> str:
    """The words of a key, and how they are made into random bits."""
    typed = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
    words = np.asarray(jax.random.key_data(typed)).tolist()
    partitionable = getattr(jax.config, "jax_threefry_partitionable", True)
    return f"{jax.random.key_impl(typed)} {words}, partitionable={partitionable}"


def _of_count(num_samples: int | Until, like: Estimate) -> int | str:
    """The number of samples, or the rule in words with the digest of what it watches."""
    if not isinstance(num_samples, Until):
        return int(num_samples)
    rule = _of_text(of_function(num_samples.is_sure, like.standard_error, like.num_samples))
    return f"at most {num_samples.max_samples}, every {num_samples.every}, until {rule}"


def _of_reducers(reducers: PyTree, outputs: PyTree, targets: PyTree) -> str:
    """The digest of the programs of the reducers, traced for one sample."""

    def of_reducer(one: Reducer) -> list[Traced]:
        samples, index = _one_sample(outputs)
        state = jax.eval_shape(one.summarize, samples, index, targets)
        return [
            of_function(one.summarize, samples, index, targets),
            of_function(one.merge, state, state),
            of_function(one.finish, state),
        ]

    leaves, structure = jax.tree.flatten(_trees.map_reducers(of_reducer, reducers))
    return _of_text([structure, *leaves])


def _one_sample(outputs: PyTree) -> tuple[PyTree, jax.ShapeDtypeStruct]:
    """The types of one sample with its axis, and of its number."""
    samples = jax.tree.map(lambda y: jax.ShapeDtypeStruct((1, *y.shape), y.dtype), outputs)
    return samples, jax.ShapeDtypeStruct((1,), jnp.int32)


def _of_jaxpr(jaxpr: jex.Jaxpr, consts: Sequence[PyTree], known: dict[int, Traced]) -> Traced:
    """The digests of a program; `known` has those of inner programs, which may stand in many places."""
    number = {var: i for i, var in enumerate((*jaxpr.constvars, *jaxpr.invars))}
    constants = [of_arrays(list(consts))]

    def atom(one: jex.Var | jex.Literal) -> str:
        return parameter(one.val) if isinstance(one, jex.Literal) else str(number.get(one))

    def parameter(value: PyTree) -> str:
        if hasattr(value, "eqns"):
            if id(value) not in known:
                inner = getattr(value, "jaxpr", value), getattr(value, "consts", ())
                known[id(value)] = _of_jaxpr(*inner, known)
            constants.append(known[id(value)].constants)
            return known[id(value)].program
        if isinstance(value, tuple | list):
            return f"({', '.join(map(parameter, value))})"
        if isinstance(value, set | frozenset):
            return f"({', '.join(sorted(map(parameter, value)))})"
        if hasattr(value, "__array__") and np.ndim(value):
            constants.append(of_arrays(value))
            return f"{value.dtype}{np.shape(value)}"
        return _without_addresses(value)

    lines = [str(var.aval) for var in number]
    for eqn in jaxpr.eqns:
        inputs = [atom(var) for var in eqn.invars]
        params = [f"{name}={parameter(eqn.params[name])}" for name in sorted(eqn.params)]
        number |= {var: len(number) + i for i, var in enumerate(eqn.outvars)}
        lines.append(f"{[str(var.aval) for var in eqn.outvars]} {eqn.primitive} {params} {inputs}")
    lines.append(str([atom(var) for var in jaxpr.outvars]))
    return Traced(_of_text(lines), _of_text(constants))


def _value(leaf: PyTree) -> np.ndarray:
    """An array on the host; of keys, their words."""
    if isinstance(leaf, jax.Array):
        typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return _batches.whole(jax.random.key_data(leaf) if typed else leaf)
    return np.asarray(leaf)


def _of_text(lines: Sequence[object]) -> str:
    return hashlib.sha256("\n".join(map(_without_addresses, lines)).encode()).hexdigest()


def _without_addresses(value: object) -> str:
    return _ADDRESS.sub("", str(value))
