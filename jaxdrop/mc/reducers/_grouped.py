"""What a reducer is, and standard errors for those that know estimates alone."""

import abc
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxdrop import _checks

GROUPS = 32
State = dict[str, Any]


class Reducer(Protocol):
    """What `estimate` asks of a reducer: a pytree, whose leaves may be traced."""

    def check(self, outputs: Any, targets: Any) -> None:
        """Raises what is wrong with the types of one sample, or with concrete targets."""
        ...

    def check_values(self, values: State) -> None:
        """Raises what only shows in concrete estimates."""
        ...

    def summarise(self, samples: Any, index: jax.Array, targets: Any) -> State:
        """The state of some samples.

        Args:
          samples: A tree of arrays `[C, B, ...]`.
          index: Which samples they are, `[C]`, int32; -1 for one that does not count.
          targets: What `estimate` was given.

        Returns:
          Arrays whose shapes are the same for any C, and all 0 for no samples.
        """
        ...

    def merge(self, a: State, b: State) -> State:
        """The state of the samples of two states."""
        ...

    def finish(self, state: State) -> tuple[State, State]:
        """The estimates, and their standard errors under the same names."""
        ...


class Grouped(abc.ABC):
    """Standard errors for a reducer that knows estimates alone, by a jackknife over groups.

    Sample t belongs to group t modulo `groups`. The error is that of Busing et al., 1999, for
    groups of different sizes; with 32 groups it is itself off by about 13 % (one standard error).

    A subclass has `summary(samples, weights, targets)`, a state whose entry "n" is the sum of the
    weights; `join(a, b)` of two states of which neither is empty; and `values(state)`, the
    estimates.

    Attributes:
      groups: How many groups; 0 for no standard errors, and that much less memory.
    """

    groups: int

    def check(self, outputs: Any, targets: Any) -> None:
        """The number of groups."""
        _checks.check_count(self.groups, "groups", 0)

    def check_values(self, values: State) -> None:  # noqa: B027
        """Nothing, unless a subclass knows better."""

    @abc.abstractmethod
    def summary(self, samples: Any, weights: jax.Array, targets: Any) -> State:
        """The state of samples that count by weights of 0 or 1."""

    @abc.abstractmethod
    def join(self, a: State, b: State) -> State:
        """The state of the samples of two states, neither of them empty."""

    @abc.abstractmethod
    def values(self, state: State) -> State:
        """The estimates."""

    def summarise(self, samples: Any, index: jax.Array, targets: Any) -> State:
        """A state with a leading axis of groups."""
        count, groups = index.shape[0], self.groups or 1
        samples = jax.tree.map(partial(_without_idle, index), samples)
        weights = (index >= 0).astype(jnp.float32)
        if count % groups == 0:
            # Dealt as they lie, for a chunk starts at a multiple of its length.
            samples = jax.tree.map(lambda y: y.reshape(-1, groups, *y.shape[1:]), samples)
            return jax.vmap(self.summary, (1, 1, None))(samples, weights.reshape(-1, groups), targets)
        own = weights[None] * (index[None] % groups == jnp.arange(groups)[:, None])
        return jax.vmap(self.summary, (None, 0, None))(samples, own, targets)

    def merge(self, a: State, b: State) -> State:
        """Group by group."""
        return jax.vmap(self._joined)(a, b)

    def finish(self, state: State) -> tuple[State, State]:
        """The estimates of all samples, and their errors."""
        whole, before = self._joins(state, reverse=False)
        estimate = self.values(whole)
        if not self.groups:
            return estimate, jax.tree.map(lambda value: jnp.full_like(value, jnp.nan), estimate)
        _, after = self._joins(state, reverse=True)
        without = jax.vmap(lambda a, b: self.values(self._joined(a, b)))(before, after)
        return estimate, jax.tree.map(partial(_jackknife, state["n"]), estimate, without)

    def _joins(self, state: State, *, reverse: bool) -> tuple[State, State]:
        """The groups joined one after another: all of them, and for each those that came before it."""
        nothing = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), state)
        # A loop, for the program is small: there are few groups.
        return jax.lax.scan(lambda sum, one: (self._joined(sum, one), sum), nothing, state, reverse=reverse)

    def _joined(self, a: State, b: State) -> State:
        some = self.join(a, b)
        return jax.tree.map(
            lambda x, y, z: jnp.where(a["n"] == 0, y, jnp.where(b["n"] == 0, x, z)), a, b, some
        )


def _without_idle(index: jax.Array, samples: jax.Array) -> jax.Array:
    """Zeros for samples that do not count, whatever they are."""
    return jnp.where((index >= 0).reshape(-1, *[1] * (samples.ndim - 1)), samples, 0)


def average(weights: jax.Array, samples: jax.Array) -> jax.Array:
    """The mean over the first axis of those with a weight of 1, in float32; 0 for none.

    Those with a weight of 0 may be anything, NaN too.
    """
    shares = weights / jnp.maximum(weights.sum(), 1)
    counted = jnp.where(weights.reshape(-1, *[1] * (samples.ndim - 1)) > 0, samples.astype(jnp.float32), 0)
    return jnp.tensordot(shares, counted, 1, precision="highest")


def _jackknife(sizes: jax.Array, whole: jax.Array, without: jax.Array) -> jax.Array:
    """The standard error from the estimates without each group; NaN for fewer than two groups."""
    used = sizes > 0
    count, n = used.sum(), sizes.sum()
    shape = (-1, *[1] * whole.ndim)
    ratio = (n / jnp.maximum(sizes, 1)).reshape(shape)
    used = used.reshape(shape)
    # Busing's pseudo-values less their centre, told by what a group moves the estimate by: nothing cancels.
    moved = jnp.where(used, without - whole[None], 0)
    terms = jnp.where(used, ((1 - 1 / ratio) * moved).sum(0, keepdims=True) - (ratio - 1) * moved, 0) ** 2
    terms = jnp.where(used, terms / (ratio - 1), 0)
    error = jnp.where(count > 1, jnp.sqrt(terms.sum(0) / count), jnp.nan)
    # An infinite estimate that every part agrees on, such as a log density of minus infinity, is sure.
    agreed = jnp.isinf(whole) & jnp.all(~used | (without == whole[None]), 0)
    return jnp.where(agreed & (count > 1), 0, error)
