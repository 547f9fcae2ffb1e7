"""The analysis of a predictor: one example at a time, from its traced program to its moments."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _visible
from jaxdrop._types import PyTree
from jaxdrop.mc._moments import chunks, forms, program, pullbacks
from jaxdrop.mc._moments.values import KeyValue
from jaxdrop.mc._moments.walk import INTERACTIONS, Registry, Walk

# The largest difference of the mean path of a batch from that of its rows, as a share of the largest
# output; for half precision, where a row alone may be rounded otherwise, it is larger.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 0.05


@dataclass(eq=False)
class Analysis:
    """A traced predictor; valid within the trace that creates it.

    Attributes:
      predict: From a key and inputs `[B, ...]` to an array `[B, ...]`.
      x: The inputs.
      registry: The draws.
      names: The sites; the last is that of interactions.
      shapes: The shapes of the sources.
      groups: The site of each source.
      shape: The shape of an example's outputs.
    """

    predict: Callable[[jax.Array, PyTree], jax.Array]
    x: PyTree
    registry: Registry
    names: list[str] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    shape: tuple[int, ...] = ()

    def __post_init__(self):
        words = np.array([0, 1], np.uint32)
        with forms.evaluating():
            self._key = _visible.key(jnp.asarray(words))
        # Programs are traced with the meshes of the context, where keys are evaluated without.
        self._like_key = jax.eval_shape(lambda: _visible.key(jnp.asarray(words)))
        row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.x)
        self._one = jax.make_jaxpr(self._alone)(self._like_key, row)
        (like,) = _kinds(self._one)
        self.shape = like.shape
        found: list[tuple[tuple[int, ...], str]] = []

        def note(row: PyTree) -> None:
            walk, _ = self._walk(self._one, row, None)
            sources = [(np.shape(one.variance), self.registry.site(one.draws)) for one in walk.sources]
            found.extend(sources)

        jax.eval_shape(note, row)
        self.shapes = [shape for shape, _ in found]
        sites = dict.fromkeys(name for _, name in found if name != INTERACTIONS)
        self.names = [*sites, INTERACTIONS]
        self.groups = [self.names.index(name) for _, name in found]

    @property
    def numbers(self) -> int:
        """The number of random numbers of an example."""
        return sum(map(math.prod, self.shapes))

    def moments(self, row: PyTree, covariance: bool, block: int) -> pullbacks.Found:
        """The moments of one example, so many outputs at once."""

        def path(deltas: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
            walk, mean = self._walk(self._one, row, deltas)
            return mean.reshape(-1), [jnp.asarray(source.variance) for source in walk.sources]

        return pullbacks.moments(path, self.shapes, self.groups, len(self.names), covariance, block)

    def coupled(self) -> jax.Array:
        """Whether an example's outputs depend on others, by the means of the batch and of its rows."""
        if jax.tree.leaves(self.x)[0].shape[0] == 1:
            return jnp.zeros((), bool)
        whole = self._whole()
        _, of_batch = self._walk(whole, self.x, None, smooth=False)
        rows = jax.vmap(lambda row: self._walk(self._one, row, None, smooth=False)[1])(self.x)
        half = _kinds(whole)[0].dtype.itemsize < 4
        largest = jnp.max(jnp.abs(rows), initial=0)
        return (
            jnp.max(jnp.abs(of_batch - rows), initial=0) > (_HALF_TOLERANCE if half else _TOLERANCE) * largest
        )

    def _whole(self) -> PyTree:
        """The program of the whole batch."""
        return jax.make_jaxpr(self.predict)(self._like_key, self.x)

    def _alone(self, key: jax.Array, row: PyTree) -> jax.Array:
        return self.predict(key, jax.tree.map(lambda leaf: leaf[None], row))[0]

    def _walk(
        self, closed: PyTree, x: PyTree, deltas: list[jax.Array] | None, smooth: bool = True
    ) -> tuple[Walk, jax.Array]:
        """A walk through a program, and the mean path of its outputs."""
        registry = self.registry if smooth else Registry(self.registry.paths)
        walk = Walk(program.run, registry, smooth, deltas)
        values = [KeyValue(self._key), *jax.tree.leaves(x)]
        (found,) = program.run(walk, closed.jaxpr, closed.consts, values)
        output = program.output(walk, found)
        if output is None:
            if closed is self._one:
                # What mixes the examples of a batch may leave a single one as it is.
                jax.eval_shape(lambda x: self._walk(self._whole(), x, None, smooth=False)[1], self.x)
            raise ValueError(
                "`predict` must return outputs that depend on its key, got none that do. Run the model in "
                "training mode, or make `predict` by `jaxdrop.linen.stochastic` or `jaxdrop.nnx.stochastic`."
            )
        return walk, output.mean


def _kinds(closed: PyTree) -> list[jax.ShapeDtypeStruct]:
    """The types of the outputs of a program."""
    return list(closed.out_avals)


def mapped(analysis: Analysis, covariance: bool, chunk_size: int | None) -> pullbacks.Found:
    """The moments of all examples, so many at once."""
    batch, outputs = jax.tree.leaves(analysis.x)[0].shape[0], math.prod(analysis.shape)
    sizes = chunks.plan(batch, outputs, analysis.numbers, covariance, chunk_size)
    one = partial(analysis.moments, covariance=covariance, block=sizes.outputs)
    return chunks.mapped(one, analysis.x, sizes.examples)
