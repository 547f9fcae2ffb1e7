"""The analysis of a predictor: one example at a time, from its traced program to its moments."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _visible
from jaxdrop._types import PyTree
from jaxdrop.mc._moments import chunks, conditions, forms, program, pullbacks, surveys
from jaxdrop.mc._moments.values import KeyValue
from jaxdrop.mc._moments.walk import INTERACTIONS, Registry, Walk
from jaxdrop.mc._program import NOT_RANDOM

# The values of decisions that are taken as known, by number.
Given = dict[int, jax.Array]
# The largest difference of the mean path of a batch from that of its rows, as a share of the largest
# output; for half precision, where a row alone may be rounded otherwise, it is larger.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 0.05


class _Study(NamedTuple):
    """What is static in a walk, without its traced values.

    Attributes:
      decisions: The numbers of the draws of one decision for an example.
      shapes: The shapes of the sources.
      draws: The draws that each source is of.
      is_surveyed: Whether arrays of the same draws meet.
      surveyed: How many numbers the arrays of a survey have.
    """

    decisions: list[int]
    shapes: list[tuple[int, ...]]
    draws: list[frozenset[int]]
    is_surveyed: bool
    surveyed: int

    @classmethod
    def of(cls, walk: Walk) -> "_Study":
        shapes = [np.shape(source.variance) for source in walk.sources]
        surveyed = sum(math.prod(array.shape) for array in walk.survey.arrays)
        draws = [source.draws for source in walk.sources]
        return cls(list(walk.chances), shapes, draws, walk.survey.wanted, surveyed)


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
      shape: The shape of the outputs of an example.
      surveyed: How many numbers the deviations of an example have.
    """

    predict: Callable[[jax.Array, PyTree], jax.Array]
    x: PyTree
    registry: Registry
    names: list[str] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    surveyed: int = 0

    def __post_init__(self):
        words = np.array([0, 1], np.uint32)
        with forms.evaluating():
            self._key = _visible.key(jnp.asarray(words))
        # Programs are traced with the meshes of the context, where keys are evaluated without.
        self._like_key = jax.eval_shape(lambda: _visible.key(jnp.asarray(words)))
        self._row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.x)
        self._one = jax.make_jaxpr(self._alone)(self._like_key, self._row)
        (like,) = _kinds(self._one)
        self.shape = like.shape
        found = self._studied({}).decisions
        self._sets = conditions.subsets(len(found))
        self._decisions = found
        plain = self._studied(self._given([jnp.ones((), bool)] * len(self._decisions)))
        self._plain_shapes = plain.shapes
        self._is_surveyed = plain.is_surveyed
        self.surveyed = surveys.COUNT * plain.surveyed if plain.is_surveyed else 0
        if (rule := conditions.rule(self._sets, len(found))) is not None:
            self.registry.rules[rule] = None
        last = self._studied(self._given([jnp.ones((), bool)] * len(self._decisions)), self.registry)
        self.shapes = last.shapes
        every = frozenset(range(len(self.registry.names)))
        sites = [self.registry.site(draws or every) for draws in last.draws]
        decided = [self.registry.names[number] for number in self._decisions]
        self.names = [*dict.fromkeys(one for one in (*sites, *decided) if one != INTERACTIONS), INTERACTIONS]
        self.groups = [self.names.index(name) for name in sites]
        self._decided = [self.names.index(name) for name in (*decided, INTERACTIONS)]

    @property
    def numbers(self) -> int:
        """The number of random numbers of an example."""
        return sum(map(math.prod, self.shapes))

    def moments(self, row: PyTree, covariance: bool, block: int) -> pullbacks.Found:
        """The moments of one example, so many outputs at once."""
        if not self._decisions:
            return self._moments(row, {}, covariance, block)
        walk, _ = self._walk(self._one, row)
        chances = jnp.stack([walk.chances[number] for number in self._decisions])
        found = jax.lax.map(
            lambda values: self._moments(row, self._given(list(values)), covariance, block),
            conditions.values(self._sets, chances),
        )
        return conditions.combined(found, self._sets, chances, self._decided)

    def coupled(self) -> jax.Array:
        """Whether an example's outputs depend on others, by the means of the batch and of its rows."""
        if jax.tree.leaves(self.x)[0].shape[0] == 1:
            return jnp.zeros((), bool)
        whole = self._whole()
        _, of_batch = self._walk(whole, self.x, smooth=False)
        rows = jax.vmap(lambda row: self._walk(self._one, row, smooth=False)[1])(self.x)
        half = _kinds(whole)[0].dtype.itemsize < 4
        largest = jnp.max(jnp.abs(rows), initial=0)
        return (
            jnp.max(jnp.abs(of_batch - rows), initial=0) > (_HALF_TOLERANCE if half else _TOLERANCE) * largest
        )

    def _moments(self, row: PyTree, given: Given, covariance: bool, block: int) -> pullbacks.Found:
        """The moments of one example, given some decisions."""
        survey = self._surveyed(row, given)

        def path(deltas: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
            walk, mean = self._walk(
                self._one, row, deltas, given=given, deviations=survey, registry=self.registry
            )
            return mean.reshape(-1), [jnp.asarray(source.variance) for source in walk.sources]

        if self.shapes:
            return pullbacks.moments(path, self.shapes, self.groups, len(self.names), covariance, block)
        # The given decisions are all that is random.
        mean, _ = path([])
        shares = jnp.zeros((len(self.names), mean.size), jnp.float32)
        pairs = jnp.zeros((mean.size, mean.size), jnp.float32) if covariance else None
        return pullbacks.Found(mean, shares[0], pairs, shares)

    def _surveyed(self, row: PyTree, given: Given) -> list[jax.Array] | None:
        """The deviations of the arrays of a program in which arrays of the same draws meet; else None."""
        if not self._is_surveyed:
            return None

        def paths(deltas: list[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
            walk, _ = self._walk(self._one, row, deltas, given=given)
            arrays = [array.mean for array in walk.survey.arrays]
            return arrays, [jnp.asarray(source.variance) for source in walk.sources]

        zeros = [jnp.zeros(shape, jnp.float32) for shape in self._plain_shapes]
        _, linear, variances = jax.linearize(paths, zeros, has_aux=True)
        signs = surveys.directions(self._plain_shapes)
        steps = [jnp.sqrt(variance)[None] * sign for variance, sign in zip(variances, signs, strict=True)]
        return jax.vmap(linear)(steps)

    def _studied(self, given: Given, registry: Registry | None = None) -> _Study:
        """What is static in a walk; with a survey if it fills the registry."""
        found: list[_Study] = []

        def study(row: PyTree) -> None:
            survey = None if registry is None else self._surveyed(row, given)
            walk, _ = self._walk(self._one, row, given=given, deviations=survey, registry=registry)
            found.append(_Study.of(walk))

        jax.eval_shape(study, self._row)
        return found[0]

    def _given(self, values: Sequence[jax.Array]) -> Given:
        return dict(zip(self._decisions, values, strict=True))

    def _whole(self) -> PyTree:
        """The program of the whole batch."""
        return jax.make_jaxpr(self.predict)(self._like_key, self.x)

    def _alone(self, key: jax.Array, row: PyTree) -> jax.Array:
        return self.predict(key, jax.tree.map(lambda leaf: leaf[None], row))[0]

    def _walk(
        self,
        closed: PyTree,
        x: PyTree,
        deltas: list[jax.Array] | None = None,
        *,
        smooth: bool = True,
        given: Given | None = None,
        deviations: list[jax.Array] | None = None,
        registry: Registry | None = None,
    ) -> tuple[Walk, jax.Array]:
        """A walk through a program, and the mean path of its outputs; by default with its own registry."""
        walk = Walk(program.run, registry or Registry(self.registry.paths), smooth, deltas)
        walk.given, walk.survey = given or {}, surveys.Survey(deviations)
        values = [KeyValue(self._key), *jax.tree.leaves(x)]
        (found,) = program.run(walk, closed.jaxpr, closed.consts, values)
        output = program.output(walk, found)
        if output is not None:
            return walk, output.mean
        if walk.given:
            return walk, jnp.asarray(found, jnp.float32)
        if closed is self._one:
            # What mixes the examples of a batch may leave a single one as it is.
            jax.eval_shape(lambda x: self._walk(self._whole(), x, smooth=False)[1], self.x)
        raise ValueError(NOT_RANDOM)


def _kinds(closed: PyTree) -> list[jax.ShapeDtypeStruct]:
    """The types of the outputs of a program."""
    return list(closed.out_avals)


def mapped(analysis: Analysis, covariance: bool, chunk_size: int | None) -> pullbacks.Found:
    """The moments of all examples, so many at once."""
    batch, outputs = jax.tree.leaves(analysis.x)[0].shape[0], math.prod(analysis.shape)
    sizes = chunks.plan(batch, outputs, analysis.numbers, covariance, chunk_size, surveyed=analysis.surveyed)
    one = partial(analysis.moments, covariance=covariance, block=sizes.outputs)
    return chunks.mapped(one, analysis.x, sizes.examples)
