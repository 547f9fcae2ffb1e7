"""The protocol of a reducer, and a base class that adds jackknife standard errors."""

import abc
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from jaxdrop import _checks
from jaxdrop._types import PyTree

GROUPS = 32
# The state of a reducer, by name; of `Grouped`, of one group or with a leading axis of groups.
Summary = dict[str, PyTree]
# Estimates, or their standard errors, by name.
Estimates = dict[str, PyTree]


class Reducer(Protocol):
    """The interface that `estimate` needs: a pytree, whose leaves may be traced."""

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Raises an error if the types of one sample, or concrete targets, are not supported."""
        ...

    def check_values(self, values: Estimates) -> None:
        """Raises an error that only concrete estimates can show."""
        ...

    def summarize(self, samples: PyTree, index: jax.Array, targets: PyTree) -> Summary:
        """Computes the state of some samples.

        Args:
          samples: A tree of arrays `[C, B, ...]`.
          index: The numbers of the samples, `[C]`, int32; -1 for a sample to ignore.
          targets: The targets given to `estimate`.

        Returns:
          Arrays whose shapes do not depend on C, and that are all 0 for no samples.
        """
        ...

    def merge(self, a: Summary, b: Summary) -> Summary:
        """Computes the state of the samples of two states."""
        ...

    def finish(self, state: Summary) -> tuple[Estimates, Estimates]:
        """Computes the estimates, and their standard errors under the same names."""
        ...


class _Joined(NamedTuple):
    """The groups joined in sequence: all of them, and for each the ones before it."""

    whole: Summary
    before: Summary


class Grouped(abc.ABC):
    """Jackknife standard errors for a reducer that computes estimates only.

    Sample t belongs to group t modulo `groups`. The error is the delete-a-group jackknife of Busing et
    al., 1999, for groups of different sizes. With 32 groups it has itself a relative standard error of
    about 13 %.

    A subclass implements three functions:

    - `summary(samples, weights, targets)`, a state whose entry "n" is the sum of the weights;
    - `join(a, b)`, the state of two states, neither of them empty;
    - `values(state)`, the estimates.

    Attributes:
      groups: The number of groups; 0 for no standard errors, which saves their memory.
    """

    groups: int

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Checks the number of groups."""
        _checks.check_count(self.groups, "groups", 0)

    def check_values(self, values: Estimates) -> None:  # noqa: B027
        """Accepts all estimates, unless a subclass overrides it."""

    @abc.abstractmethod
    def summary(self, samples: PyTree, weights: jax.Array, targets: PyTree) -> Summary:
        """Computes the state of samples `[C, B, ...]` with weights `[C]` of 0 or 1."""

    @abc.abstractmethod
    def join(self, a: Summary, b: Summary) -> Summary:
        """Computes the state of the samples of two states, neither of them empty."""

    @abc.abstractmethod
    def values(self, state: Summary) -> Estimates:
        """Computes the estimates."""

    def summarize(self, samples: PyTree, index: jax.Array, targets: PyTree) -> Summary:
        """Computes a state with a leading axis of groups; see `Reducer`."""
        count, groups = index.shape[0], self.groups or 1
        samples = jax.tree.map(partial(_zero_ignored, index), samples)
        weights = (index >= 0).astype(jnp.float32)
        if count % groups == 0:
            # A chunk starts at a multiple of its length, so a reshape deals the samples to the groups.
            samples = jax.tree.map(lambda y: y.reshape(-1, groups, *y.shape[1:]), samples)
            return jax.vmap(self.summary, (1, 1, None))(samples, weights.reshape(-1, groups), targets)
        group = jnp.arange(groups, dtype=index.dtype)[:, None]
        group_weights = jnp.where(index[None] % groups == group, weights[None], 0)
        return jax.vmap(self.summary, (None, 0, None))(samples, group_weights, targets)

    def merge(self, a: Summary, b: Summary) -> Summary:
        """Joins two states group by group."""
        return jax.vmap(self._joined)(a, b)

    def finish(self, state: Summary) -> tuple[Estimates, Estimates]:
        """Computes the estimates of all samples, and their standard errors."""
        whole, before = self._join_all(state, reverse=False)
        estimate = self.values(whole)
        if not self.groups:
            return estimate, jax.tree.map(lambda value: jnp.full_like(value, jnp.nan), estimate)
        _, after = self._join_all(state, reverse=True)
        without = jax.vmap(lambda a, b: self.values(self._joined(a, b)))(before, after)
        return estimate, jax.tree.map(partial(_jackknife, state["n"]), estimate, without)

    def _join_all(self, state: Summary, *, reverse: bool) -> _Joined:
        """Joins the groups in sequence."""
        empty = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), state)
        # A loop keeps the program small; there are few groups.
        joined = jax.lax.scan(lambda sum, one: (self._joined(sum, one), sum), empty, state, reverse=reverse)
        return _Joined(*joined)

    def _joined(self, a: Summary, b: Summary) -> Summary:
        """Joins two states, either of which may be empty."""
        joined = self.join(a, b)
        return jax.tree.map(
            lambda x, y, z: jnp.where(a["n"] == 0, y, jnp.where(b["n"] == 0, x, z)), a, b, joined
        )


def _zero_ignored(index: jax.Array, samples: jax.Array) -> jax.Array:
    """Replaces samples to ignore, which may be NaN, by zeros."""
    return jnp.where((index >= 0).reshape(-1, *[1] * (samples.ndim - 1)), samples, 0)


def average(weights: jax.Array, samples: jax.Array) -> jax.Array:
    """The mean over the first axis of the samples with weight 1, in float32; 0 if there are none.

    Samples with weight 0 may have any value, including NaN.
    """
    shares = weights / jnp.maximum(weights.sum(), 1)
    counted = jnp.where(weights.reshape(-1, *[1] * (samples.ndim - 1)) > 0, samples.astype(jnp.float32), 0)
    return jnp.tensordot(shares, counted, 1, precision="highest")


def log_sum(weights: jax.Array, logs: jax.Array) -> jax.Array:
    """The log of the sum over the first axis of the samples with weight 1, given as logarithms."""
    shown = jnp.where(weights.reshape(-1, *[1] * (logs.ndim - 1)) > 0, logs, -jnp.inf)
    return logsumexp(shown, 0)


def _jackknife(sizes: jax.Array, whole: jax.Array, without: jax.Array) -> jax.Array:
    """The standard error from the estimates without each group; NaN for fewer than two groups."""
    used = sizes > 0
    count, n = used.sum(), sizes.sum()
    shape = (-1, *[1] * whole.ndim)
    dtype = jnp.float64 if whole.dtype == jnp.float64 else sizes.dtype
    ratio = (n / jnp.maximum(sizes, 1)).reshape(shape).astype(dtype)
    used = used.reshape(shape)
    # Busing's pseudo-values minus their center, computed from the change that a group makes to the
    # estimate, so that nothing cancels.
    moved = jnp.where(used, without - whole[None], 0)
    terms = jnp.where(used, ((1 - 1 / ratio) * moved).sum(0, keepdims=True) - (ratio - 1) * moved, 0) ** 2
    terms = jnp.where(used, terms / (ratio - 1), 0)
    error = jnp.where(count > 1, jnp.sqrt(terms.sum(0) / count.astype(terms.dtype)), jnp.nan)
    # If every part agrees on an infinite estimate, such as a log density of minus infinity, the error is 0.
    agreed = jnp.isinf(whole) & jnp.all(~used | (without == whole[None]), 0)
    return jnp.where(agreed & (count > 1), 0, error)
