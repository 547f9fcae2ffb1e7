"""Standard errors of scores: how far a score would spread over other test sets of the same size.

Each function returns a `Score`, a value and its standard error. Examples are taken to be independent
draws; for a data set with several rows per subject, score subjects. The standard errors of means, AURC and
ECE take a sort or a pass, as do those of detection, in `detection.py`; `bootstrap` takes any score.

A standard error is an estimate, too: for fewer than about 30 examples it is often too small, and it is
0 where a score has reached its limit, such as an accuracy or an AUROC of 1.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Key, PyTree
from jaxdrop.uncertainty import _bins, _ranks, classification, selective
from jaxdrop.uncertainty._unchecked import variance_of_mean

__all__ = ["Score", "aurc_with_error", "bootstrap", "ece_with_error", "mean_with_error"]


class Score(NamedTuple):
    """A score and its standard error.

    Attributes:
      value: The score, or a tree of scores.
      standard_error: The standard deviation of the score over test sets of the same size, estimated
        from one; of the structure of `value`.
    """

    value: PyTree
    standard_error: PyTree


def bootstrap(
    key: Key,
    score: Callable[..., PyTree],
    *arrays: PyTree,
    paired: bool,
    num_resamples: int = 200,
) -> Score:
    """Bootstrap: the standard deviation of any score over resamples of its examples.

    The resamples are computed one after another, so the memory is that of one. Resample i uses
    `fold_in(key, i)`, and all scores that `score` returns use the same: return a difference to compare
    two. The value itself is computed from the arrays as they are.

    Args:
      key: A PRNG key, used once.
      score: A function of the arrays that can be traced and returns a tree of floating-point arrays, such
        as `auroc`; hashable, and compiled once if it is one object in all calls. Concrete float64 numbers
        are float32 in the resamples, unless x64 is enabled.
      *arrays: Arguments of `score`: arrays of examples along the first axis, or trees of them. A mask is
        an array like others.
      paired: If true, all arguments describe the same examples, and are resampled by the same indices:
        `(probs, labels)`. If false, each argument describes other examples, and is resampled by itself:
        `(scores_in, scores_out)`.
      num_resamples: The number of resamples, at least 2. The standard error has a relative standard
        error of `1 / sqrt(2 * num_resamples)`, 5 % for 200.

    Returns:
      A `Score` of trees of what `score` returns.

    Raises:
      TypeError: If `key` is not a PRNG key, or `num_resamples` is not an integer.
      ValueError: If no array is given, arrays of the same examples differ in their first axis or have
        fewer than 2 examples, or `num_resamples` is below 2.

    References:
      Efron, "Bootstrap methods: another look at the jackknife", 1979.

    Examples:
      >>> x = jax.random.normal(jax.random.key(0), (400,))
      >>> found = bootstrap(jax.random.key(1), jnp.median, x, paired=True)
      >>> 0.04 < found.standard_error < 0.09  # asymptotically sqrt(pi / 2) / 20
      Array(True, dtype=bool)
    """
    _checks.check_key(key)
    _checks.check_count(num_resamples, "num_resamples", 2)
    groups = (arrays,) if paired else arrays
    counts = tuple(_count(group, paired) for group in groups) or (_count((), paired),)
    value = jax.tree.map(_predictions.widened, score(*arrays))
    resample = functools.partial(_spread, score=score, counts=counts, paired=paired, num=num_resamples)
    return Score(value, _meshes.on_automatic_axes(resample, key, *arrays))


# Compiled once for each function and shapes: a lambda that is written in a call is another each time.
@functools.partial(jax.jit, static_argnames=("score", "counts", "paired", "num"))
def _spread(
    key: Key, *arrays: PyTree, score: Callable[..., PyTree], counts: tuple[int, ...], paired: bool, num: int
) -> PyTree:
    """The standard deviations of a score over resamples."""

    def one(index: jax.Array) -> PyTree:
        keys = jax.random.split(jax.random.fold_in(key, index), len(counts))
        parts = [
            _taken(group, jax.random.randint(own, (count,), 0, count, jnp.int32))
            for own, group, count in zip(keys, (arrays,) if paired else arrays, counts, strict=True)
        ]
        return jax.tree.map(_predictions.widened, score(*(parts[0] if paired else parts)))

    found = jax.lax.map(one, jnp.arange(num, dtype=jnp.int32))
    return jax.tree.map(lambda leaf: jnp.std(leaf, axis=0, ddof=1), found)


def mean_with_error(values: ArrayLike, *, where: ArrayLike | None = None) -> Score:
    """Mean of a score per example, such as `nll`, `brier` or `accuracy`, with its standard error.

    Args:
      values: A value per example, `[N]`.
      where: Boolean mask that broadcasts to `values`. Examples that it leaves out do not count, and may
        hold anything. None: all.

    Returns:
      A `Score` of scalars, in float32 at least: the mean, and the standard deviation over the root of
      the number of examples. The standard error of fewer than two examples is NaN.

    Raises:
      TypeError: If `values` are not real, or `where` is not boolean.
      ValueError: If `values` are empty or not of one axis, or concrete ones are NaN.

    Examples:
      >>> mean_with_error(jnp.array([1.0, 1.0, 0.0, 1.0]))
      Score(value=Array(0.75, dtype=float32), standard_error=Array(0.25, dtype=float32))
    """
    where = _predictions.check_mask(where, np.shape(values))
    values = _predictions.widened(_predictions.check_vector(values, "values", where))
    used = jnp.ones(values.shape, bool) if where is None else jnp.asarray(where)
    return Score(jnp.mean(values, where=used), jnp.sqrt(variance_of_mean(values, used)))


def aurc_with_error(uncertainty: ArrayLike, loss: ArrayLike, *, where: ArrayLike | None = None) -> Score:
    """AURC with the standard error of its influence function, in the time of a sort.

    Args:
      uncertainty: An uncertainty score, `[B]`, larger for less certain examples; may be infinite.
      loss: The loss of each example, `[B]`, such as `1 - accuracy(probs, labels)`.
      where: Boolean mask that broadcasts to `uncertainty`. Examples that it leaves out do not count, and
        may hold anything. None: all.

    Returns:
      A `Score` of scalars, in float32 at least; the value is that of `aurc`.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty or not of one axis, the shapes differ, or concrete values
        are NaN.

    References:
      Efron, "The jackknife, the bootstrap and other resampling plans", 1982, of influence functions.

    Examples:
      >>> loss = (jnp.arange(400.0) % 7 == 0).astype(float)
      >>> aurc_with_error(jnp.arange(400.0), loss).standard_error.round(2)
      Array(0.03, dtype=float32)
    """
    where = _predictions.check_mask(where, np.shape(uncertainty))
    curve = selective.risk_coverage(uncertainty, loss, where=where)
    loss = _predictions.widened(_predictions.exact(loss))
    (uncertainty,) = _predictions.ranked(_predictions.exact(uncertainty))
    certain = _meshes.on_automatic_axes(_ranks.ascending, uncertainty, where)
    return _meshes.on_automatic_axes(_aurc, curve.risk, loss, certain)


def ece_with_error(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    mode: _bins.Mode = "equal_width",
    where: ArrayLike | None = None,
) -> Score:
    """Expected calibration error with its standard error, from sums over the bins.

    The gap of each bin is taken to be normal, and its absolute value to be folded normal. The error
    says nothing about the bias: ECE is too large, the more the fewer examples a bin has.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      bins: The number of bins, at least 1.
      mode: "equal_width" for bins `(i / bins, (i + 1) / bins]`; "equal_mass" for bins of equally
        many examples.
      where: Boolean mask that broadcasts to `labels`. Examples that it leaves out do not count, and may
        hold anything, such as a label of 255 or -100. None: all.

    Returns:
      A `Score` of scalars, in float32 at least; the value is that of `ece`. For a calibrated model the
      standard error is too large by a quarter, as the gaps that it is computed from are noise.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` or `bins` are not integers, or `where` is not
        boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, concrete values are not
        valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range, `bins` is
        below 1, or `mode` is not one of the two.

    References:
      Leone, Nelson and Nottingham, "The folded normal distribution", 1961.

    Examples:
      >>> found = ece_with_error(jnp.array([[0.1, 0.9]] * 100), jnp.arange(100) % 2)
      >>> found.value.round(3), found.standard_error.round(3)
      (Array(0.4, dtype=float32), Array(0.05, dtype=float32))
    """
    value = classification.ece(probs, labels, bins=bins, mode=mode, where=where)
    hits = classification.accuracy(probs, labels, where=where)
    given = probs
    probs, _, where = _predictions.check_examples(probs, labels, where)
    used = jnp.ones(hits.shape, bool) if where is None else jnp.asarray(where)
    of_bins = functools.partial(_ece_error, bins=bins, mode=mode)
    flat = (values.reshape(-1) for values in (*_bins.confidences(given, probs), hits, used))
    return Score(value, _meshes.on_automatic_axes(of_bins, *flat))


def _count(group: PyTree, paired: bool) -> int:
    """The number of examples of arrays that share their first axis."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(group)]
    counts = {shape[:1] for shape in shapes}
    if len(counts) != 1 or () in counts:
        of = "" if paired else "each of "
        told = f"shapes {', '.join(map(str, shapes))}" if shapes else "none"
        other = " (`paired=False` is for sets of different examples)" if paired else ""
        raise ValueError(f"{of}`arrays` must share a first axis of examples{other}, got {told}.")
    ((count,),) = counts
    return _checks.check_count(count, "the number of examples", 2)


def _taken(group: PyTree, index: jax.Array) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], group)


@jax.jit
def _aurc(risk: jax.Array, loss: jax.Array, certain: _ranks.Ranked) -> Score:
    index = jnp.arange(len(risk), dtype=jnp.int32)
    inverse = jnp.where(certain.used, 1 / (index + 1).astype(risk.dtype), 0)
    risk = jnp.where(certain.used, risk, 0)
    first, stop = _ranks.ties(certain.scores)
    size = (jnp.minimum(stop, certain.count) - first).astype(risk.dtype)

    def later(values: jax.Array) -> jax.Array:
        return jax.lax.cumsum(values, reverse=True)

    def tied(values: jax.Array) -> jax.Array:
        """The mean in each group of ties."""
        return (jnp.zeros_like(values).at[first].add(jnp.where(certain.used, values, 0)) / size)[first]

    count = jnp.maximum(certain.count, 1).astype(risk.dtype)
    value = jnp.where(certain.valid, jnp.sum(risk) / count, jnp.nan)
    # How much the risks change with another example of this rank and loss.
    of_each = tied(risk - later(risk * inverse)) + loss[certain.order] * tied(later(inverse))
    return Score(value, jnp.sqrt(variance_of_mean(jnp.where(certain.valid, of_each, jnp.nan), certain.used)))


@functools.partial(jax.jit, static_argnames=("bins", "mode"))
def _ece_error(
    confidence: jax.Array, order: jax.Array, hits: jax.Array, used: jax.Array, bins: int, mode: _bins.Mode
) -> jax.Array:
    return _bins.error_of(_bins.gaps(confidence, order, hits, used, bins, mode))
