"""Estimates and their confidence intervals."""

from typing import NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, ndtri

from jaxdrop import _carries, _checks, _predictions
from jaxdrop._types import ArrayLike, Numeric, PyTree
from jaxdrop.mc import _designs
from jaxdrop.mc.reducers._grouped import GROUPS

# Estimates of class probabilities that are shares: means of numbers in [0, 1].
_SHARES = frozenset({"mean", "variation_ratio"})


class Estimate(NamedTuple):
    """Monte-Carlo estimates and their standard errors.

    A standard error is itself an estimate, with a relative standard error of about `1 / sqrt(2 (T - 1))`
    for T samples: 13 % from T = 32 on. Below that, `value` plus or minus 1.96 standard errors covers too
    rarely: 70 % for T = 2, 88 % for T = 5. `interval` takes that into account.

    The arrays of a data set whose results are in a folder read its files when they are indexed.

    Attributes:
      value: The estimates: a dictionary for each reducer, in the tree of the reducers.
      standard_error: Their Monte-Carlo standard errors, of the same structure.
      num_samples: The number of samples used, an int32 scalar; of a data set `[N]`, per example. With
        `Clustered` reducers the number of clusters, and with `balanced` that of sets, which are what is
        independent.
    """

    value: PyTree
    standard_error: PyTree
    num_samples: ArrayLike

    def interval(
        self, level: Numeric = 0.95, *, groups: int = GROUPS, balanced: int | None = None
    ) -> tuple[PyTree, PyTree]:
        """Confidence intervals of all estimates, each by itself, for Monte-Carlo error only.

        - "mean" and "variation_ratio" of class probabilities are shares and have Clopper-Pearson
          intervals, which are those of votes. They are not empty where all samples agree, and wide where
          the probabilities of the samples are alike, as those spread less than votes. Of balanced samples
          they are those of as many votes as there are sets; with `balanced`, of as many as give the
          standard error, at most one for each sample, which is much narrower.
        - "variance" has a Student interval of its logarithm.
        - All others have Student intervals, exact for the mean of normal outputs.

        The degrees of freedom are `min(num_samples, groups) - 1`. An interval is NaN where the standard
        error is: for one sample, or for a variance up to two.

        Args:
          level: The coverage, a scalar in (0, 1); may be traced.
          groups: The least `groups` of the reducers; other than 0.
          balanced: The size of the sets of balanced samples, as `estimate` got it. None: independent samples,
            or sets that count as one vote each.

        Returns:
          The lower ends and the upper ends, two trees of the structure of `value`.

        Raises:
          TypeError: If `level` is not real, or `groups` or `balanced` is not an integer.
          ValueError: If `level` is outside (0, 1) or not a scalar, `groups` is below 2, or `balanced` is not
            a size of sets.

        References:
          Student, "The probable error of a mean", 1908; Clopper and Pearson, "The use of confidence or
          fiducial limits illustrated in the case of the binomial", 1934; Korn and Graubard, "Confidence
          intervals for proportions with small expected number of positive counts estimated from survey
          data", 1998 (sets).

        Examples:
          >>> found = Estimate({"mean": jnp.zeros(1)}, {"mean": jnp.ones(1)}, 5)
          >>> lower, upper = found.interval(0.95)
          >>> upper["mean"].round(2)
          Array([2.78], dtype=float32)
        """
        level = _predictions.check_level(_checks.check_scalar(level, "level"))
        _checks.check_count(groups, "groups", 2)
        size = _designs.check_balanced(balanced)
        tail = (1 - jnp.asarray(level, jnp.float32)) / 2
        count = jnp.asarray(self.num_samples)
        width = _student(jnp.clip(count, max=groups).astype(jnp.float32) - 1, tail)

        def ends(kind: str, value: ArrayLike, error: ArrayLike) -> tuple[jax.Array, jax.Array]:
            value, error = _predictions.widened(value), _predictions.widened(error)
            shape = count.shape + (1,) * (value.ndim - count.ndim)
            far = width.reshape(shape) * error
            if kind == "share":
                votes = count.astype(value.dtype).reshape(shape)
                if size is not None:
                    votes = _effective_votes(value, far, votes, size, tail)
                return _clopper_pearson(value, votes, tail)
            if kind == "variance":
                ratio = jnp.exp(far / jnp.where(value > 0, value, 1))
                return value / ratio, value * ratio
            return value - far, value + far

        leaves, structure = jax.tree.flatten(self.value)
        kinds, errors = jax.tree.leaves(_kinds(self.value)), jax.tree.leaves(self.standard_error)
        pairs = [ends(*of) for of in zip(kinds, leaves, errors, strict=True)]
        lower, upper = (structure.unflatten([pair[end] for pair in pairs]) for end in (0, 1))
        return lower, upper


def is_shares(node: PyTree) -> TypeGuard[dict[str, PyTree]]:
    """Whether a node has the estimates of class probabilities."""
    return isinstance(node, dict) and node.keys() >= _SHARES


def widened_shares(errors: PyTree, count: jax.Array) -> PyTree:
    """Standard errors in which those of shares are at least `1 / count`.

    An event that was not seen may have that probability, though all samples agree.
    """

    def wide(error: dict[str, PyTree]) -> dict[str, PyTree]:
        least = 1 / count.astype(jnp.float32)
        return {name: jnp.maximum(one, least) if name in _SHARES else one for name, one in error.items()}

    return jax.tree.map(lambda node: wide(node) if is_shares(node) else node, errors, is_leaf=is_shares)


def _kinds(value: PyTree) -> PyTree:
    """How each estimate is distributed: "share", "variance" or "other"."""

    def is_named(node: PyTree) -> bool:
        return is_shares(node) or (isinstance(node, dict) and "variance" in node)

    def named(node: PyTree) -> PyTree:
        if not is_named(node):
            return "other"
        kinds = dict.fromkeys(_SHARES, "share") if is_shares(node) else {"variance": "variance"}
        return {
            name: jax.tree.map(lambda _, name=name: kinds.get(name, "other"), part)
            for name, part in node.items()
        }

    return jax.tree.map(named, value, is_leaf=is_named)


def _student(freedom: jax.Array, tail: jax.Array) -> jax.Array:
    """The upper quantile of Student's t distribution; NaN without a degree of freedom."""
    x = _beta_quantile(freedom / 2, jnp.full_like(freedom, 0.5), 2 * tail)
    return jnp.where(freedom > 0, jnp.sqrt(freedom * (1 - x) / x), jnp.nan)


def _effective_votes(
    share: jax.Array, far: jax.Array, sets: jax.Array, size: int, tail: jax.Array
) -> jax.Array:
    """How many votes have a normal interval as far as the Student interval of sets: one to `size` a set."""
    spread, square = share * (1 - share), jnp.square(far / ndtri(tail))
    agree = (spread == 0) | (square == 0)
    votes = jnp.clip(jnp.where(agree, jnp.inf, spread / square), sets, sets * size)
    # One set has no standard error.
    return jnp.where(jnp.isnan(far), sets, votes)


def _clopper_pearson(share: jax.Array, count: jax.Array, tail: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The interval of a share of `count` votes; numbers in [0, 1] of that mean spread less than votes."""
    hits = jnp.clip(share * count, 0, count)
    misses = count - hits
    lower = _beta_quantile(hits, misses + 1, tail)
    # The upper end is the lower end of the misses, which keeps the digits of small tails.
    upper = 1 - _beta_quantile(misses, hits + 1, tail)
    return jnp.where(hits > 0, lower, 0), jnp.where(misses > 0, upper, 1)


def _beta_quantile(a: jax.Array, b: jax.Array, p: jax.Array) -> jax.Array:
    """The quantile of the beta distribution, by bisection of its logit."""
    a, b = jnp.maximum(a, 1e-6), jnp.maximum(b, 1e-6)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        below = betainc(a, b, jax.nn.sigmoid(middle)) < p
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    ends = _carries.varying(lambda ends: halve(0, ends), (jnp.full_like(a, -40), jnp.full_like(a, 40)))
    low, high = jax.lax.fori_loop(0, 40, halve, ends)
    return jax.nn.sigmoid((low + high) / 2)
