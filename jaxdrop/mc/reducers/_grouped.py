"""The protocol of a reducer, and a base class that adds jackknife standard errors."""

import abc
from functools import partial
from types import ModuleType
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, PyTree

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
          index: The numbers of the samples, `[C]`, consecutive, int32; -1 for a sample to ignore.
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


def explain_nan(reducer: Reducer, values: Estimates) -> None:
    """Lets a reducer that has an `explain_nan` explain a NaN."""
    explain = getattr(reducer, "explain_nan", None)
    if explain is not None:
        explain(values)


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

    def explain_nan(self, values: Estimates) -> None:  # noqa: B027
        """Raises an error that explains a NaN; called if one of the concrete estimates of a call is NaN."""

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
        groups, place = self.groups or 1, np.arange(index.shape[0], dtype=np.int32)
        # NumPy, where the numbers are known, so that the compiled program computes none of this.
        number = np.asarray(index) if _checks.is_concrete(index) else index
        samples = jax.tree.map(partial(zero_ignored, number), samples)
        weights = (number >= 0).astype(np.float32)
        samples, weights = jax.tree.map(partial(deal, groups), (samples, weights))
        state = jax.vmap(self.summary, (1, 1, None))(samples, weights, targets) | {"n": weights.sum(0)}
        # A chunk starts at a multiple of its length, which may be in the middle of the groups.
        first = namespace(number).where(number >= 0, number - place, 0).max() % groups
        if len(place) % groups == 0 or _checks.is_scalar(first, 0):
            return state
        return jax.tree.map(lambda leaf: jnp.roll(leaf, first, 0), state)

    def merge(self, a: Summary, b: Summary) -> Summary:
        """Joins two states group by group."""
        return jax.vmap(self._joined)(a, b)

    def finish(self, state: Summary) -> tuple[Estimates, Estimates]:
        """Computes the estimates of all samples, and their standard errors."""
        values = self._all_values(state)
        return jax.tree.map(lambda value: value[0], values), self._errors(state["n"], values)

    def finish_by_groups(self, state: Summary) -> tuple[Estimates, Estimates]:
        """The same with all errors from groups, whatever samples within a group have in common."""
        values = self._all_values(state)
        return jax.tree.map(lambda value: value[0], values), Grouped._errors(self, state["n"], values)

    def _all_values(self, state: Summary) -> Estimates:
        """The estimates of all groups, `[1 + G, ...]` with those of all but each."""
        return jax.vmap(self.values)(self._pool(state) if self.groups else state)

    def _errors(self, sizes: jax.Array, values: Estimates) -> Estimates:
        """The standard errors of estimates from all groups, `[1 + G, ...]` with those from all but each."""
        leaves, structure = jax.tree.flatten(values)
        if not self.groups:
            return structure.unflatten([jnp.full_like(leaf[0], jnp.nan) for leaf in leaves])
        # Those of one shape at once: every operation is a kernel on a GPU.
        shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
        errors = {}
        for shape in dict.fromkeys(shapes):
            places = [place for place, other in enumerate(shapes) if other == shape]
            found = _jackknife(sizes, jnp.stack([leaves[place] for place in places], 1))
            errors |= dict(zip(places, found, strict=True))
        return structure.unflatten([errors[place] for place in range(len(leaves))])

    def _pool(self, state: Summary) -> Summary:
        """The state of all groups, and those of all but each, in one axis `[1 + G, ...]`."""
        groups, whole = state["n"].shape[0], jax.tree.map(lambda leaf: leaf[:1], state)
        if groups == 1:
            return jax.tree.map(lambda leaf: jnp.concatenate([leaf, jnp.zeros_like(leaf)]), whole)
        # Two halves are joined pairwise, and the pairs pooled: few operations, which need no loop.
        half = -(-groups // 2)
        a, b = (jax.tree.map(partial(_part, start, half), state) for start in (0, half))
        joined = jax.vmap(self._joined)
        pooled = self._pool(joined(a, b))
        others = jax.tree.map(lambda leaf: leaf[1:], pooled)
        return jax.tree.map(
            lambda whole, *without: jnp.concatenate([whole[:1], *without])[: 1 + groups],
            pooled,
            joined(others, b),
            joined(others, a),
        )

    def _joined(self, a: Summary, b: Summary) -> Summary:
        """Joins two states, either of which may be empty."""
        joined = self.join(a, b)
        return jax.tree.map(
            lambda x, y, z: jnp.where(a["n"] == 0, y, jnp.where(b["n"] == 0, x, z)), a, b, joined
        )


def deal(groups: int, rows: ArrayLike) -> ArrayLike:
    """Rows `[C, ...]` in turn to the groups, `[C / groups, groups, ...]`, with rows of zeros at the end."""
    return _part(0, -(-len(rows) // groups) * groups, rows).reshape(-1, groups, *rows.shape[1:])


def _part(start: int, size: int, rows: ArrayLike) -> ArrayLike:
    """Some rows, with rows of zeros at the end."""
    found = rows[start : start + size]
    return namespace(rows).pad(found, [(0, size - len(found))] + [(0, 0)] * (rows.ndim - 1))


def namespace(array: ArrayLike) -> ModuleType:
    return np if isinstance(array, np.ndarray) else jnp


def zero_ignored(index: ArrayLike, samples: jax.Array) -> jax.Array:
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


def scaled(weights: jax.Array, rows: jax.Array) -> jax.Array:
    """Each row times its weight."""
    return weights.astype(rows.dtype).reshape(-1, *[1] * (rows.ndim - 1)) * rows


def pooled(rows: jax.Array) -> jax.Array:
    """The sum of all rows, and those of all but each, `[1 + G, ...]`; nothing is subtracted."""
    groups = rows.shape[0]
    chosen = np.concatenate([np.ones((1, groups)), 1 - np.eye(groups)]).astype(rows.dtype)
    return jnp.tensordot(chosen, rows, 1, precision="highest")


def pooled_counts(n: jax.Array) -> jax.Array:
    """`pooled` whole numbers, whose differences are exact."""
    return n.sum() - namespace(n).pad(n, (1, 0))


def pooled_logs(logs: jax.Array) -> jax.Array:
    """The logs of `pooled` sums of numbers given as logarithms."""
    # The largest is set aside: the others are summed relative to the second, and may be far below it.
    first = jnp.arange(len(logs)).reshape(-1, *[1] * (logs.ndim - 1)) == logs.argmax(0)[None]
    rest = jnp.where(first, -jnp.inf, logs)
    second = rest.max(0, keepdims=True)
    sums = pooled(jnp.exp(gap(second, rest)))
    others = jnp.where(sums > 0, second + jnp.log(sums), -jnp.inf)
    whole = jnp.logaddexp(logs.max(0)[None], others)
    return jnp.where(jnp.pad(first, [(1, 0)] + [(0, 0)] * (logs.ndim - 1)), others, whole)


def gap(a: jax.Array, b: jax.Array) -> jax.Array:
    """`b - a`; 0 between equal infinities, such as the logits of a masked class."""
    return jnp.where(a == b, 0, b - a)


def _jackknife(sizes: jax.Array, values: jax.Array) -> jax.Array:
    """The standard error of the estimate, the first value, from those without each group.

    It is NaN for fewer than two groups. If all agree on an infinite value, such as a log density of minus
    infinity, it is 0.
    """
    whole, without = values[:1], values[1:]
    used = sizes > 0
    count, n = used.sum(), sizes.sum()
    shape = (-1, *[1] * (whole.ndim - 1))
    dtype = jnp.float64 if whole.dtype == jnp.float64 else sizes.dtype
    ratio = (n / sizes.clip(1)).reshape(shape).astype(dtype)
    used = used.reshape(shape)
    # Busing's pseudo-values minus their center, computed from the change that a group makes to the
    # estimate, so that nothing cancels.
    moved = jnp.where(used, gap(whole, without), 0)
    center = ((1 - 1 / ratio) * moved).sum(0, keepdims=True)
    terms = jnp.where(used, (center - (ratio - 1) * moved) ** 2 / (ratio - 1), 0)
    return jnp.where(count > 1, jnp.sqrt(terms.sum(0) / count.astype(terms.dtype)), jnp.nan)
