"""Scores over many batches without keeping predictions: sums that merge, and the scores that they give.

A tally summarizes the examples of one batch. Tallies merge, over batches, devices and hosts, in any
order, and finish to a score and its standard error. They are pytrees of arrays that can be saved, and
the same size whatever the number of examples.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, PyTree
from jaxdrop.uncertainty import _bins, _pairs, _tallied, classification
from jaxdrop.uncertainty._tallied import BinnedScore
from jaxdrop.uncertainty.errors import Score

__all__ = [
    "BinnedScore",
    "Tally",
    "finish",
    "merge",
    "tally_auroc",
    "tally_classwise_ece",
    "tally_ece",
    "tally_mean",
    "tally_rms",
]


@functools.partial(register_dataclass, data_fields=["sums"], meta_fields=["kind"])
@dataclass(frozen=True)
class Tally:
    """Sums over examples, from which a score is computed; see `merge` and `finish`.

    Attributes:
      sums: The sums by name, arrays `[2, ...]`: rounded sums, and what the rounding left out. So they keep
        twice the digits of their dtype, and a million batches cost none of the result. They add as they
        are, too: `jax.lax.psum` merges the tallies of devices to the digits of one number.
      kind: The score that they are for.
    """

    sums: _tallied.Sums
    kind: Literal["mean", "rms", "ece", "classwise_ece", "auroc"]


def tally_mean(values: ArrayLike, *, where: ArrayLike | None = None) -> Tally:
    """Tally of a mean over examples, of any score per example, such as `nll`, `brier` or `crps`.

    The share of targets in their intervals, or the accuracy, is the mean of booleans.

    Args:
      values: A value per example, `[...]`; real or boolean.
      where: Boolean mask that broadcasts to `values`. Examples that it leaves out do not count, and may
        hold anything. None: all.

    Returns:
      A `Tally` that finishes to a `Score` of scalars: the mean, and the standard deviation over the root
      of the number of examples. The standard error is NaN for fewer than two examples, and where the mean
      square is not within the range of the dtype, 1e-30 to 1e38 in float32: choose other units.

    Raises:
      TypeError: If `values` are not real, or `where` is not boolean.
      ValueError: If `values` are empty, or concrete ones are NaN.

    References:
      Dekker, "A floating-point technique for extending the available precision", 1971.

    Examples:
      >>> first, second = tally_mean(jnp.array([1.0, 1.0])), tally_mean(jnp.array([0.0, 1.0]))
      >>> finish(merge(first, second))
      Score(value=Array(0.75, dtype=float32), standard_error=Array(0.25, dtype=float32))
    """
    return Tally(_tallied.sums_of_mean(values, where, squared=False), "mean")


def tally_rms(values: ArrayLike, *, where: ArrayLike | None = None) -> Tally:
    """Tally of a root mean square: RMSE of the errors `y - mean`, or `sharpness` of standard deviations.

    Args:
      values: A value per example, `[...]`.
      where: Boolean mask that broadcasts to `values`. Examples that it leaves out do not count, and may
        hold anything. None: all.

    Returns:
      A `Tally` that finishes to a `Score` of scalars in the units of the values; the standard error is that
      of the mean square over twice the root. It is NaN for fewer than two examples, and where the mean
      fourth power is not within the range of the dtype, 1e-30 to 1e38 in float32: choose other units.

    Raises:
      TypeError: If `values` are not real, or `where` is not boolean.
      ValueError: If `values` are empty, or concrete ones are NaN.

    Examples:
      >>> finish(tally_rms(jnp.array([3.0, 4.0]))).value
      Array(3.535534, dtype=float32)
    """
    return Tally(_tallied.sums_of_mean(values, where, squared=True), "rms")


def tally_ece(
    probs: ArrayLike, labels: ArrayLike, *, bins: int = 15, where: ArrayLike | None = None
) -> Tally:
    """Tally of the expected calibration error, in bins of equal width.

    Bins of equal mass depend on all examples at once, so tallies of them cannot merge: use `ece`.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      bins: The number of bins, at least 1.
      where: Boolean mask that broadcasts to `labels`. Examples that it leaves out do not count, and may
        hold anything, such as a label of 255 or -100. None: all.

    Returns:
      A `Tally` that finishes to a `Score` of scalars: `ece`, and the standard error of `ece_with_error`.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` or `bins` are not integers, or `where` is not
        boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, concrete values are not
        valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range, or `bins` is
        below 1.

    Examples:
      >>> finish(tally_ece(jnp.array([[0.1, 0.9], [0.7, 0.3], [0.2, 0.8]]), jnp.array([1, 0, 0]))).value
      Array(0.4, dtype=float32)
    """
    _bins.check_bins(bins, "equal_width")
    hits = classification.accuracy(probs, labels, where=where)
    probs, _, where = _predictions.check_examples(probs, labels, where)
    return Tally(_tallied.sums_of_gaps(jnp.max(probs, axis=-1), hits, where, bins), "ece")


def tally_classwise_ece(
    probs: ArrayLike, labels: ArrayLike, *, bins: int = 15, where: ArrayLike | None = None
) -> Tally:
    """Tally of the classwise expected calibration error, in bins of equal width.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      bins: The number of bins, at least 1.
      where: Boolean mask that broadcasts to `labels`. Examples that it leaves out do not count, and may
        hold anything, such as a label of 255 or -100. None: all.

    Returns:
      A `Tally` that finishes to a `Score` of scalars: `classwise_ece`, and an upper bound of its standard
      error, the mean of those of the classes. The bound is the error itself for two classes; `bootstrap`
      gives it for more. For binary probabilities p, stack `1 - p` and p: the value is then `binary_ece`.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` or `bins` are not integers, or `where` is not
        boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, concrete values are not
        valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range, or `bins` is
        below 1.

    Examples:
      >>> probs = jnp.array([[0.1, 0.9], [0.7, 0.3], [0.2, 0.8]])
      >>> finish(tally_classwise_ece(probs, jnp.array([1, 0, 0]))).value
      Array(0.4, dtype=float32)
    """
    _bins.check_bins(bins, "equal_width")
    probs, labels, where = _predictions.check_examples(probs, labels, where)
    inside = (labels >= 0) & (labels < probs.shape[-1])
    hits = jax.nn.one_hot(labels, probs.shape[-1], dtype=probs.dtype)
    hits = jnp.where(inside[..., None], hits, jnp.nan)
    of_class = functools.partial(_tallied.sums_of_gaps, where=where, bins=bins)
    return Tally(jax.vmap(of_class, in_axes=-1, out_axes=1)(probs, hits), "classwise_ece")


def tally_auroc(
    scores: ArrayLike, outside: ArrayLike, *, bits: int = 16, where: ArrayLike | None = None
) -> Tally:
    """Tally of the AUROC, with scores rounded to floating-point numbers of a few bits.

    Each bin has numbers of the same leading bits, so the bins cover all scores, and need no range. With 16
    bits, numbers within 1 part in 256 can share a bin. Near 1 that is coarse: in place of a confidence p
    take `-log(1 - p)` or an entropy. The finished score states the largest error that the bins can cause.

    Args:
      scores: Uncertainties, `[...]`, which should be larger for examples outside; may be infinite.
      outside: Booleans that broadcast to `scores`: whether each example is out of distribution, or
        predicted wrong.
      bits: The number of leading bits of a float32, between 10 and 24. The sums have `2**bits` bins.
      where: Boolean mask that broadcasts to `scores`. Examples that it leaves out do not count, and may
        hold anything. None: all.

    Returns:
      A `Tally` that finishes to a `BinnedScore` of scalars: the AUROC of the bins, DeLong's standard error,
      and half the share of pairs in one bin, which bounds the difference from `auroc`.

    Raises:
      TypeError: If `scores` are not real, `outside` or `where` are not boolean, or `bits` is not an integer.
      ValueError: If `scores` are empty, concrete ones are NaN, the shapes do not match, or `bits` is not
        within 10 and 24.

    References:
      DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver
      operating characteristic curves: a nonparametric approach", 1988.

    Examples:
      >>> found = finish(tally_auroc(jnp.array([0.1, 0.2, 0.3, 0.4]), jnp.array([False, False, False, True])))
      >>> found.value, found.bound
      (Array(1., dtype=float32), Array(0., dtype=float32))
    """
    if not 10 <= _checks.check_integer(bits, "bits") <= 24:
        raise ValueError(f"`bits` must be between 10 and 24, got {bits}.")
    shape = np.shape(scores)
    is_outside = _predictions.check_mask(outside, shape, "outside")
    if is_outside is None:
        raise TypeError("`outside` must be a boolean array, got None.")
    where = _predictions.check_mask(where, shape)
    scores = _predictions.check_values(scores, "scores", where)
    return Tally(_tallied.counts_of(scores, is_outside, where, bits), "auroc")


def merge(first: PyTree, *others: PyTree) -> PyTree:
    """The tallies of all examples of several.

    Args:
      first: A `Tally`, or a tree of them.
      *others: Those of other examples, of the same structure.

    Returns:
      Tallies of the structure of each. The order makes no difference up to rounding.

    Raises:
      TypeError: If a leaf is not a `Tally`.
      ValueError: If the trees differ in structure, or tallies in their kind or number of bins.

    Examples:
      >>> parts = [{"nll": tally_mean(jnp.ones(n))} for n in (2, 3)]
      >>> finish(merge(*parts))["nll"].value
      Array(1., dtype=float32)
    """
    merged = _checked(first)
    for other in others:
        if _structure(_checked(other)) != _structure(first):
            raise ValueError("`others` must have the tree structure of `first`, got another.")
        merged = jax.tree.map(_merged, merged, other, is_leaf=_is_tally)
    return merged


def finish(tallies: PyTree) -> PyTree:
    """The scores of tallies, with their standard errors.

    Args:
      tallies: A `Tally`, or a tree of them.

    Returns:
      A `Score` for each, or a `BinnedScore` for an AUROC, in the same tree. Values are NaN without examples.

    Raises:
      TypeError: If a leaf is not a `Tally`.

    Examples:
      >>> finish({"accuracy": tally_mean(jnp.array([True, False]))})["accuracy"].value
      Array(0.5, dtype=float32)
    """
    return jax.tree.map(_finished, _checked(tallies), is_leaf=_is_tally)


def _is_tally(leaf: PyTree) -> bool:
    return isinstance(leaf, Tally)


def _checked(tallies: PyTree) -> PyTree:
    for leaf in jax.tree.leaves(tallies, is_leaf=_is_tally):
        if not _is_tally(leaf):
            raise TypeError(f"`tallies` must be a tree of `Tally`, got a leaf {type(leaf).__name__}.")
    return tallies


def _finished(tally: Tally) -> Score | BinnedScore:
    return _meshes.on_automatic_axes(_tallied.FINISHED[tally.kind], tally.sums)


def _structure(tallies: PyTree) -> PyTree:
    return jax.tree.structure(tallies, is_leaf=_is_tally)


def _merged(a: Tally, b: Tally) -> Tally:
    shapes = [{name: np.shape(leaf) for name, leaf in tally.sums.items()} for tally in (a, b)]
    if a.kind != b.kind or shapes[0] != shapes[1]:
        told = f"{a.kind} of shapes {shapes[0]} and {b.kind} of shapes {shapes[1]}"
        raise ValueError(f"`tallies` to merge must be of one kind and number of bins, got {told}.")
    return Tally({name: _pairs.add(jnp.asarray(a.sums[name]), b.sums[name]) for name in a.sums}, a.kind)
