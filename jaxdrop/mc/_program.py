"""The sampling program of a predictor: its static part, its arrays, and its chunks."""

import types
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Key, PyTree
from jaxdrop.mc import _chunks, _designs, _devices, _prefix, _references
from jaxdrop.mc._designs import Design
from jaxdrop.mc._devices import Layout
from jaxdrop.mc.indexed import Indexed

# From a key and inputs `[B, ...]` to outputs `[B, ...]`.
Predict = Callable[[Key, PyTree], PyTree]
# The leaves of a predictor, with None for those that are static.
Arrays = tuple[ArrayLike | None, ...]
# The shape and dtype of an array.
Kind = tuple[tuple[int, ...], np.dtype]
# A `jax.tree_util.PyTreeDef`, which type checkers take for a variable.
Structure = PyTree
# The refusal of outputs that are the same for all keys.
NOT_RANDOM = (
    "`predict` must return outputs that depend on its key, got none that do. Run the model in training "
    "mode, or make `predict` by `jaxdrop.linen.stochastic` or `jaxdrop.nnx.stochastic`."
)
# Programs that are kept. Each was compiled, which takes longer than anything done with it here.
_MOST_PROGRAMS = 128


class Execution(NamedTuple):
    """How a program runs; static.

    Attributes:
      chunk: How many samples are computed at once.
      shared: Whether one draw serves all inputs.
      layout: The devices; None for one device.
    """

    chunk: int
    shared: bool
    layout: Layout | None


class Static(NamedTuple):
    """The static part of a predictor, which is a function and the arguments bound to it; hashable.

    Attributes:
      function: A reference to the function.
      treedef: The structure of the bound arguments.
      leaves: References to their leaves, with None for those that are arrays.
      design: The counts of a predictor that is told the numbers of its samples, or the size of balanced
        sets; None for independent samples.
    """

    function: _references.Reference
    treedef: Structure
    leaves: tuple[_references.Reference | None, ...]
    design: Design | None

    def bind(self, arrays: Arrays) -> tuple[Callable[..., PyTree], PyTree]:
        """The predictor with these arrays, and the arrays of which each sample gets a row."""
        pairs = zip(arrays, self.leaves, strict=True)
        leaves = [array if leaf is None else leaf() for array, leaf in pairs]
        args, kwargs, rows = self.treedef.unflatten(leaves)
        function: Any = self.function()
        return partial(function, *args, **kwargs), rows

    @property
    def is_told(self) -> bool:
        """Whether the predictor is told the numbers of its samples."""
        return self.design is not None and self.design.balanced is None

    def source(self, key: Key, t: jax.Array, row: PyTree) -> PyTree:
        """What sample t is drawn from: its own key, or its number and row."""
        if self.design is None:
            return jax.random.fold_in(key, t)
        size = self.design.balanced
        return (t, row) if size is None else _designs.key_in_set(key, t, size)

    def like_source(self, arrays: Arrays, key: Key) -> PyTree:
        """A source of which only the types count; within a trace."""
        if self.design is None:
            return key
        _, rows = self.bind(arrays)
        return self.source(key, jnp.int32(0), jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], rows))

    def check_count(self, count: int, name: str, first: int = 0) -> None:
        """Raises an error if there are not so many samples."""
        most = None if self.design is None else self.design.max_samples
        if most is not None and first + count > most:
            start = f" from sample {first} on" if first else ""
            raise ValueError(
                f"`{name}` must be at most {most - first}{start}, the samples or members that "
                f"`predict` has, {most} in all, got {count}."
            )

    def is_whole(self) -> bool:
        """Whether everything referred to still exists."""
        return all(leaf is None or leaf() is not None for leaf in (self.function, *self.leaves))


class Program:
    """The compiled functions of the static part of a predictor, and facts about its samples."""

    def __init__(self, static: Static):
        self.static = static
        self._compiled: dict[Callable[..., PyTree], Callable[..., PyTree]] = {}
        # Their own caches, so that all of it ends with the program.
        self.trace = lru_cache(maxsize=64)(partial(_trace_outputs, static))

    def outputs(self, arrays: Arrays, x: PyTree) -> PyTree:
        """The types of one sample; checks that there is a row for each example."""
        leaves, structure = jax.tree.flatten((arrays, jax.random.key(0), x))
        wide = bool(jax.config.jax_enable_x64)
        return self.trace(structure, tuple(map(kind, leaves)), False, wide).outputs

    def run(self, fun: Callable[..., PyTree], *args: PyTree, **options: object) -> PyTree:
        """`fun(static, *args, **options)`, compiled once for each value of the options."""
        if fun not in self._compiled:
            self._compiled[fun] = jax.jit(partial(fun, self.static), static_argnames=tuple(options))
        return self._compiled[fun](*args, **options)


# From the least to the most recently used.
_programs: dict[Static, Program] = {}


class Plan(NamedTuple):
    """A predictor split into its program and its arrays, and facts found by tracing it.

    Attributes:
      program: The program.
      arrays: The arrays.
      execution: How to run it.
      outputs: The types of one sample.
      uses_key: Whether the outputs depend on the key.
      sizes: What the size of the chunks depends on.
    """

    program: Program
    arrays: Arrays
    execution: Execution
    outputs: PyTree
    uses_key: bool
    sizes: _chunks.Sizes


class _Traced(NamedTuple):
    """Facts about one sample: its working set in bytes, its types, whether it depends on the key."""

    working_set: int
    outputs: PyTree
    uses_key: bool


def plan(
    predict: Predict,
    key: Key,
    x: PyTree,
    most: int,
    chunk_size: int | None = None,
    shared: bool = False,
    mesh: Mesh | None = None,
    spec: PartitionSpec | None = None,
    allow_deterministic: bool = False,
    balanced: int | None = None,
) -> Plan:
    """Checks the arguments before any work, and chooses the chunk size."""
    _checks.check_key(key)
    design = None
    if balanced is not None:
        design = _designs.balanced_design(balanced, isinstance(predict, Indexed), key)
    batch = check_batch(x)
    layout = _devices.make_layout(mesh, spec, batch)
    shards = 1 if layout is None else layout.shards(layout.samples)
    program, arrays = split(predict, design)
    leaves, structure = jax.tree.flatten((arrays, key, x))
    kinds = tuple(kind(leaf) for leaf in leaves)
    # Types depend on this setting too.
    wide = bool(jax.config.jax_enable_x64)
    traced: _Traced = program.trace(structure, kinds, bool(shared), wide)
    if not (traced.uses_key or allow_deterministic):
        # A sampling function without the option checks first, by `check_random`.
        raise ValueError(f"{NOT_RANDOM} Or set `allow_deterministic=True`: all samples are then equal.")
    sizes = _chunks.Sizes(most, chunk_size, traced.working_set, balanced, shards)
    return Plan(
        program,
        arrays,
        Execution(sizes.chunk(), bool(shared), layout),
        traced.outputs,
        traced.uses_key,
        sizes,
    )


def check_random(predict: Predict, key: Key, x: PyTree, shared: bool = False) -> None:
    """Checks that the outputs depend on the key, for a function that cannot allow others."""
    if not plan(predict, key, x, 1, 1, shared, allow_deterministic=True).uses_key:
        raise ValueError(NOT_RANDOM)


def split(predict: Predict, design: Design | None = None) -> tuple[Program, Arrays]:
    """The program of a predictor, and its arrays."""
    rows = None
    if isinstance(predict, Indexed):
        design, rows, predict = predict.design(), predict.rows, predict.function
    function, args, kwargs = _bound(predict)
    leaves, treedef = jax.tree.flatten((args, kwargs, rows))
    others = tuple(None if _is_array(leaf) else _references.refer(leaf, _forget) for leaf in leaves)
    arrays = tuple(leaf if _is_array(leaf) else None for leaf in leaves)
    static = Static(_references.refer(function, _forget), treedef, others, design)
    program = _programs.pop(static, None) or Program(static)
    _programs[static] = program
    while len(_programs) > _MOST_PROGRAMS:
        _programs.pop(next(iter(_programs)), None)
    return program, arrays


def _bound(predict: Any) -> tuple[Any, tuple, dict[str, PyTree]]:
    """A function, and the arguments bound to it that are trees of arrays."""
    if isinstance(predict, jax.tree_util.Partial):
        function, args, kwargs = _bound(predict.func)
        return function, (*args, *predict.args), kwargs | predict.keywords
    if isinstance(predict, types.MethodType) and _is_tree(predict.__self__):
        return predict.__func__, (predict.__self__,), {}
    return (_call, (predict,), {}) if _is_tree(predict) else (predict, (), {})


def _call(predict: Predict, *args: PyTree, **kwargs: PyTree) -> PyTree:
    """The function of a predictor that is itself a tree of arrays."""
    return predict(*args, **kwargs)


def _is_tree(one: object) -> bool:
    """Whether JAX knows the arrays in it."""
    return not jax.tree_util.all_leaves([one])


def _forget(_: object, programs: dict[Static, Program] = _programs) -> None:
    """Drops the programs of functions and objects that are gone; also while Python exits."""
    for static in list(programs):
        if not static.is_whole():
            programs.pop(static, None)


def check_batch(x: PyTree, name: str = "x") -> int:
    """The size of the leading axis."""
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(x)}
    if len(sizes) != 1 or not all(size and size[0] for size in sizes):
        shapes = " and ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(x))
        found = f"shapes {shapes}" if shapes else "no arrays"
        raise ValueError(f"`{name}` must hold arrays that share one non-empty leading axis, got {found}.")
    ((batch,),) = sizes
    return batch


def _trace_outputs(
    static: Static,
    structure: Structure,
    kinds: tuple[Kind, ...],
    shared: bool,
    wide: bool,  # tells one setting of x64 from the other
) -> _Traced:
    """Traces one sample."""
    found: list[_Traced] = []

    def trace(arrays: Arrays, key: Key, x: PyTree) -> None:
        parts = _prefix.KeyFreeSplit(
            function(static, arrays, key, x, shared), static.like_source(arrays, key)
        )
        found.append(_Traced(parts.working_set, parts.outputs, parts.uses_key))

    arrays, key, x = structure.unflatten([jax.ShapeDtypeStruct(*kind) for kind in kinds])
    jax.eval_shape(trace, arrays, key, x)
    _check_rows(found[0].outputs, jax.tree.leaves(x)[0].shape[0])
    return found[0]


def _check_rows(outputs: PyTree, batch: int) -> None:
    for leaf in jax.tree.leaves(outputs):
        if leaf.shape[:1] != (batch,):
            raise ValueError(
                "`predict` must return arrays with one row per example, got "
                f"{leaf.shape} for a batch of {batch}."
            )


def function(static: Static, arrays: Arrays, key: Key, x: PyTree, shared: bool) -> Callable[[PyTree], PyTree]:
    """The prediction as a function of a source alone: see `Static.source`."""
    predict, _ = static.bind(arrays)

    def given(source: PyTree, x: PyTree) -> PyTree:
        if not static.is_told:
            return predict(source, x)
        t, row = source
        return predict(key, t, x) if row is None else predict(row, key, t, x)

    if not shared:
        return lambda source: given(source, x)

    def one_row(source: PyTree, row: PyTree) -> PyTree:
        outputs = given(source, jax.tree.map(lambda leaf: leaf[None], row))
        _check_rows(outputs, 1)
        return jax.tree.map(lambda leaf: leaf[0], outputs)

    return lambda source: jax.vmap(partial(one_row, source))(x)


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def kind(leaf: PyTree) -> Kind:
    """The shape and the dtype that JAX gives an array."""
    if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        leaf = jax.typeof(leaf)
    return leaf.shape, leaf.dtype
