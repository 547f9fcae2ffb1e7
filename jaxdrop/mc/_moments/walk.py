"""The state of a walk through a program: its sources of randomness, its draws, the rules that it used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import PyTree
from jaxdrop.mc._moments import places
from jaxdrop.mc._moments.surveys import Survey
from jaxdrop.mc._moments.values import Draws, Random, RefusalError

# The share of what no single site makes.
INTERACTIONS = "interactions"
# The number of the directions of a survey, which is no draw's.
_DIRECTIONS = -1
_RESTS = "rests: what is not linear in the same draws taken as uncorrelated"
# What names a draw: the words of its keys, one or many.
Identity = tuple[bytes, ...]


@dataclass(eq=False)
class Source:
    """Independent random numbers.

    Attributes:
      variance: Their variances.
      draws: The draws that they come from.
    """

    variance: jax.Array | np.ndarray
    draws: Draws


@dataclass(eq=False)
class Registry:
    """What a program draws, which each walk through it finds alike.

    Attributes:
      paths: The paths of the modules that draw, where they are known.
      names: The name of each draw; an earlier step of a loop has another number.
      rules: The approximate rules that were used.
    """

    paths: tuple[str, ...] = ()
    names: list[str] = field(default_factory=list)
    rules: dict[str, None] = field(default_factory=dict)
    _numbers: dict[Identity, int] = field(default_factory=dict)
    _uses: dict[bytes, tuple[Identity, tuple]] = field(default_factory=dict)
    _earlier: dict[int, int] = field(default_factory=dict)

    def number(self, identity: Identity, use: tuple, equations: Sequence[jex.JaxprEqn], kind: str) -> int:
        """The number of a draw; raises a `RefusalError` if its key has another use."""
        for words in identity:
            if self._uses.setdefault(words, (identity, use)) != (identity, use):
                raise RefusalError("a key that is used twice, for different draws")
        if identity not in self._numbers:
            self._numbers[identity] = self._add(self._new_name(equations, kind))
        return self._numbers[identity]

    def earlier(self, draws: Draws) -> Draws:
        """Draws of a loop's body, as those of the steps before."""
        return frozenset(map(self._earlier_number, draws))

    def mark_looped(self, number: int) -> None:
        """Notes that a draw has new numbers in each step of a loop."""
        if number not in self._earlier:
            self._earlier[number] = self._add(self.names[number])

    def is_looped(self, number: int) -> bool:
        """Whether a draw has new numbers in each step of a loop."""
        return number in self._earlier

    def site(self, draws: Draws) -> str:
        """The site that draws belong to, if they all do."""
        found = {self.names[number] for number in draws}
        return found.pop() if len(found) == 1 else INTERACTIONS

    def _earlier_number(self, number: int) -> int:
        return self._earlier.get(number, number)

    def _add(self, name: str) -> int:
        self.names.append(name)
        return len(self.names) - 1

    def _new_name(self, equations: Sequence[jex.JaxprEqn], kind: str) -> str:
        name = places.name(equations, kind, self.paths)
        if name in self.paths or name not in self.names:
            return name
        return next(f"{name} #{i}" for i in range(2, len(self.names) + 3) if f"{name} #{i}" not in self.names)


# Evaluates a program: `run(walk, jaxpr, consts, values)`.
Run = Callable[["Walk", jex.Jaxpr, Sequence[PyTree], Sequence[PyTree]], list[PyTree]]


@dataclass(eq=False)
class Walk:
    """One walk through a program, or through the body of a loop.

    Attributes:
      run: What evaluates the programs of calls and loops.
      registry: The draws.
      smooth: Whether nonlinear functions are averaged; if not, all is evaluated at the mean.
      deltas: The perturbations of the sources, in the order of those; None for zeros.
      outer: The walk around a loop.
      sources: The sources so far.
      drawn: The draws so far, by number, each with its rate.
      equations: The calls that lead to the equation in progress, the outermost first.
      given: The values of decisions that are taken as known, by number.
      chances: The probabilities of single decisions outside of loops, by number.
      survey: The deviations of the arrays on which the rules for dependent arrays rest.
    """

    run: Run
    registry: Registry
    smooth: bool = True
    deltas: Sequence[jax.Array] | None = None
    outer: "Walk | None" = None
    sources: list[Source] = field(default_factory=list)
    drawn: dict[int, tuple[Random, PyTree]] = field(default_factory=dict)
    equations: list[jex.JaxprEqn] = field(default_factory=list)
    given: dict[int, jax.Array] = field(default_factory=dict)
    chances: dict[int, jax.Array] = field(default_factory=dict)
    survey: Survey = field(default_factory=Survey)
    _places: dict[int, int] = field(default_factory=dict)
    _rests: list[tuple[Draws, Sequence[Draws]]] = field(default_factory=list)

    def inject(
        self, mean: jax.Array, variance: jax.Array, draws: Draws, factors: Sequence[Draws] = ()
    ) -> jax.Array:
        """Adds a source of this variance to a mean path: what is not linear.

        Args:
          mean: The mean path.
          variance: The variance of the source.
          draws: The draws that it comes from.
          factors: If it is a sum of products, each of two or more of some independent deviations, the draws
            of those; of one of which there are other functions, too, they are listed twice.
        """
        self._check_rest(draws, factors)
        delta = self._add(Source(jax.lax.stop_gradient(variance), draws))
        return mean if delta is None else mean + delta

    def standard(self, number: int, shape: tuple[int, ...]) -> jax.Array | np.ndarray:
        """The perturbation of a draw of unit variance; the same one for the same draw."""
        if number not in self._places:
            self._places[number] = len(self.sources)
            draws = frozenset() if number == _DIRECTIONS else frozenset({number})
            self.sources.append(Source(np.ones(shape, np.float32), draws))
        place = self._places[number]
        return np.zeros(shape, np.float32) if self.deltas is None else self.deltas[place]

    def decision(self, number: int) -> jax.Array | None:
        """The value of a draw that is taken as known."""
        return self.given.get(number) if self.outer is None else self.outer.decision(number)

    def deviations(self, array: Random) -> jax.Array | None:
        """The linear deviations of an array along the directions of a survey, `[R, ...]`.

        None if there is no survey yet, or in a loop.
        """
        return self.survey.of(array) if self.outer is None and self.smooth else None

    def variance(self, array: Random) -> jax.Array:
        """The variances of an array: by the survey, where those that are carried on are not exact."""
        found = None if array.exact else self.deviations(array)
        return array.variance if found is None else jnp.mean(found**2, 0)

    def scatter(self, mean: jax.Array, along: jax.Array) -> jax.Array:
        """Adds what is not linear to a mean path, by its values along the directions of a survey, `[R, ...]`.

        A source for each direction, the same for all arrays: so these parts are correlated as they are.
        """
        noise = self.standard(_DIRECTIONS, along.shape[:1])
        parts = jax.lax.stop_gradient(along - jnp.mean(along, 0, keepdims=True))
        return mean + jnp.tensordot(noise, parts, 1) / np.sqrt(np.float32(len(along) - 1))

    def spread(self, variance: jax.Array) -> jax.Array:
        """The variance that is carried on: none, if all is evaluated at the mean."""
        return jax.lax.stop_gradient(variance) if self.smooth else jnp.zeros_like(variance)

    def note(self, rule: str) -> None:
        """Notes the use of an approximate rule."""
        self.registry.rules[rule] = None

    def add(self, sources: Sequence[Source]) -> Sequence[jax.Array] | None:
        """Adds the sources of a loop; returns their perturbations."""
        start = len(self.sources)
        self.sources.extend(sources)
        return None if self.deltas is None else self.deltas[start : start + len(sources)]

    def refusal(self, eqn: jex.JaxprEqn, what: str) -> RefusalError:
        """The error for an equation without a rule."""
        at = places.place([*self.equations, eqn])
        return RefusalError(
            "`predict` must be made of draws and steps whose moments are known, got "
            f"{what}{f' at {at}' if at else ''}; `mc.estimate` samples it."
        )

    def _check_rest(self, draws: Draws, factors: Sequence[Draws]) -> None:
        """Notes that what is not linear may be correlated with what was not linear before."""
        own = factors or (draws, draws)
        correlated = any(_share(own, others) and _share(their, draws) for others, their in self._rests)
        if self.outer is not None:  # with that of the steps before
            correlated |= _share(own, frozenset(one for one in draws if not self.registry.is_looped(one)))
        if correlated:
            self.note(_RESTS)
        self._rests.append((draws, own))

    def _add(self, source: Source) -> jax.Array | None:
        found = self.add([source])
        return None if found is None else found[0]


def _share(factors: Sequence[Draws], draws: Draws) -> bool:
    """Whether a product of two of the factors may be a function of these draws alone."""
    return sum(bool(one & draws) for one in factors) > 1
