"""Values of a program whose draws are random: arrays with moments, and functions of them.

A value that is none of these is known: an array that does not depend on the key.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import ArrayLike, PyTree
from jaxdrop.mc._moments import forms
from jaxdrop.mc._moments.forms import Form

# The numbers of the draws that an array depends on.
Draws = frozenset[int]
# Whether each decision is true.
Case = tuple[bool, ...]


class RefusalError(ValueError):
    """A program that has a step without a known law."""


@dataclass(eq=False)
class Random:
    """An array of random numbers.

    Attributes:
      mean: The means, as a differentiable function of the perturbations of all sources.
      variance: The variance of each number.
      draws: The draws that it depends on.
      law: The marginals: "normal"; "decision", which is 0 or 1; "uniform" on (0, 1); or "other", which is
        taken to be normal.
      independent: Whether the numbers are known to be independent of each other.
      exact: Whether the variances are exact.
      chance: Of decisions, the function of an array that is their probability; None if that is known.
    """

    mean: jax.Array
    variance: jax.Array
    draws: Draws
    law: str = "other"
    independent: bool = False
    exact: bool = False
    chance: "Chain | None" = None
    _views: dict[tuple, "Random"] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mean.shape

    def view(self, name: tuple, fun: Callable[[jax.Array], jax.Array], independent: bool = True) -> "Random":
        """The same numbers in another arrangement; the same object for the same name."""
        if name not in self._views:
            flags = self.independent and independent, self.exact
            self._views[name] = Random(fun(self.mean), fun(self.variance), self.draws, self.law, *flags)
        return self._views[name]


@dataclass(eq=False)
class Chain:
    """An elementwise function of at most one array that is no decision, and of a few decisions.

    Attributes:
      base: The array, or None.
      decisions: The decisions.
      cases: What the function of the array is, for each case of the decisions.
      shape: The shape.
      dtype: The dtype that it has in the program.
    """

    base: Random | None
    decisions: tuple[Random, ...]
    cases: dict[Case, Form]
    shape: tuple[int, ...]
    dtype: np.dtype
    settled: Random | None = None

    @property
    def bases(self) -> tuple[Random, ...]:
        return (*((self.base,) if self.base is not None else ()), *self.decisions)

    @property
    def draws(self) -> Draws:
        return frozenset().union(*(base.draws for base in self.bases))


@dataclass(eq=False)
class KeyValue:
    """A key, the words of one, or keys: known numbers, of which a draw is named.

    Attributes:
      data: The numbers; in a loop with a leading axis of steps.
      loops: The number of loops around it in whose steps it differs, 0 or 1.
    """

    data: PyTree
    loops: int = 0


@dataclass(eq=False)
class Steps:
    """Known integers that count the steps of a loop.

    Attributes:
      data: Their values, with a leading axis of steps.
      now: The value of the step, traced.
    """

    data: ArrayLike
    now: jax.Array


def is_random(value: PyTree) -> bool:
    """Whether a value is random: an array with moments, or a function of such."""
    return isinstance(value, Random | Chain)


def known(value: PyTree) -> Random:
    """A known array as one without variance."""
    value = jnp.asarray(wide(value), jnp.float32)
    return Random(value, jnp.zeros_like(value), frozenset(), "normal", True, True)


def wide(value: PyTree) -> PyTree:
    """A known array in float32, if it is floating-point; NumPy scalars stay such."""
    if isinstance(value, Steps):
        value = value.now
    if np.ndim(value):
        value = jnp.broadcast_to(forms.number(value), np.shape(value))
    if not jnp.issubdtype(jax.dtypes.result_type(value), jnp.floating):
        return value
    return np.float32(value) if isinstance(value, np.generic) else jnp.asarray(value).astype(jnp.float32)
