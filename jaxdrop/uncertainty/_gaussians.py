"""Gaussians fitted to features of classes, as means and whitening matrices."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Numeric

_Fit = TypeVar("_Fit")


class Given(NamedTuple):
    """The checked arguments of a fit.

    Attributes:
      features: The features, `[N, D]`; 0 where masked.
      labels: The classes, `[N]`; those out of range count nowhere.
      known: Whether each example counts, `[N]`.
      valid: Whether no label that counts is out of range.
      num_classes: The number of classes.
      shrinkage: The share of the identity in a covariance.
    """

    features: jax.Array
    labels: jax.Array
    known: jax.Array
    valid: jax.Array
    num_classes: int
    shrinkage: jax.Array


def check_features(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    shrinkage: Numeric,
    where: ArrayLike | None,
    least: int = 1,
) -> Given:
    """Checks the arguments of a fit that needs `least` examples of each class."""
    num_classes = _checks.check_count(num_classes, "num_classes")
    shrinkage = _checks.check_rate(_checks.check_scalar(shrinkage, "shrinkage"), "shrinkage")
    where = _predictions.check_mask(where, np.shape(features)[:-1])
    features = check_vectors(features, "features", where, 2)
    scores = jax.ShapeDtypeStruct((*features.shape[:-1], num_classes), features.dtype)
    labels = _predictions.check_labels(labels, scores, of_name="features", where=where)
    known = jnp.ones(labels.shape, bool) if where is None else jnp.asarray(where)
    labels = jnp.where(known, labels, -1).reshape(-1)
    if _predictions.is_visible(labels):
        counts = np.bincount(np.asarray(labels) + 1, minlength=num_classes + 1)[1:]
        if counts.min() < least:
            few = f"got {counts.min()} of class {counts.argmin()}"
            raise ValueError(f"`labels` must have at least {least} of each class, {few}.")
    inside = (labels >= 0) & (labels < num_classes)
    features, known = features.reshape(-1, features.shape[-1]), known.reshape(-1)
    valid = jnp.all(inside | ~known)
    return Given(features, labels, inside, valid, num_classes, jnp.asarray(shrinkage, features.dtype))


def check_vectors(x: ArrayLike, name: str, where: ArrayLike | None, least: int) -> jax.Array:
    """Finite vectors along the last axis of at least `least`, in float32 at least; 1 where masked."""
    _checks.check_floating(x, name)
    each = None if where is None else _predictions.check_mask(where[..., None], np.shape(x))
    x = _predictions.filled(_predictions.check_values(x, name, each), where, 1)
    return _predictions.check_finite(
        _checks.check_rank(x, least, "[N, D]" if least > 1 else "[..., D]", name), name
    )


def check_width(features: jax.Array, width: int) -> None:
    """Raises unless the last axis has this size."""
    if features.shape[-1] != width:
        raise ValueError(f"`features` must have {width} along the last axis, got {features.shape[-1]}.")


def check_fit(fit: _Fit, given: Given) -> _Fit:
    """The fit; raises if its arrays are concrete and not finite: a covariance is singular."""
    leaves = jax.tree.leaves(fit)
    if not all(map(_predictions.is_visible, (*leaves, given.features, given.known))):
        return fit
    if all(np.isfinite(leaf).all() for leaf in leaves):
        return fit
    features = np.asarray(given.features)[np.asarray(given.known)]
    still = int(np.sum(features.min(0) == features.max(0)))
    raise ValueError(
        f"`features` must have a covariance of full rank to the precision of {features.dtype}, got one of "
        f"{len(features)} examples of {features.shape[1]} features, {still} of them constant: leave some "
        "out, or set `shrinkage` to 1e-3 or more."
    )


def tied(given: Given) -> tuple[jax.Array, jax.Array]:
    """The means of the classes, `[K, D]`, and the whitening of their common covariance, `[D, D]`."""
    fit = partial(_tied, num_classes=given.num_classes)
    index = jnp.where(given.known, given.labels, given.num_classes)
    means, whitening = _meshes.on_automatic_axes(fit, given.features, index, given.shrinkage)
    return means, jnp.where(given.valid, whitening, jnp.nan)


@partial(jax.jit, static_argnames="num_classes")
def _tied(
    x: jax.Array, index: jax.Array, shrinkage: jax.Array, num_classes: int
) -> tuple[jax.Array, jax.Array]:
    used = (index < num_classes)[:, None]
    count = jnp.zeros(num_classes, jnp.int32).at[index].add(1, mode="drop")
    share = jnp.where(count > 0, 1 / jnp.maximum(count, 1).astype(x.dtype), jnp.nan)[:, None]
    at = jnp.minimum(index, num_classes - 1)

    def mean(values: jax.Array) -> jax.Array:
        return share * jnp.zeros((num_classes, x.shape[1]), x.dtype).at[index].add(values, mode="drop")

    # A sum of many loses digits; the sum of the residuals does not.
    means = mean(x)
    means = means + mean(x - means[at])
    rest = jnp.where(used, x - means[at], 0)
    return means, _whitening(rest, jnp.sum(count), shrinkage)


def separate(given: Given) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The logarithm of each class's share, `[K]`, its mean, `[K, D]`, and its whitening, `[K, D, D]`."""
    classes, rows = given.num_classes, None
    if all(map(_predictions.is_visible, (given.labels, given.known))):
        rows = _grouped(np.where(given.known, given.labels, classes), classes)
    index = jnp.where(given.known, given.labels, classes)
    fit = partial(_separate, num_classes=classes)
    weights, means, whitening = _meshes.on_automatic_axes(fit, given.features, index, given.shrinkage, rows)
    return weights, means, jnp.where(given.valid, whitening, jnp.nan)


def _grouped(labels: np.ndarray, classes: int) -> jax.Array:
    """The rows of each class, `[K, n]` for the largest class; beyond them the number of all rows."""
    order = np.argsort(labels, kind="stable")
    stops = np.searchsorted(labels[order], np.arange(classes), side="right")
    starts = np.append(0, stops[:-1])
    rows = starts[:, None] + np.arange(np.max(stops - starts, initial=1))
    return jnp.asarray(
        np.where(rows < stops[:, None], np.append(order, 0)[np.minimum(rows, len(order))], len(order))
    )


@partial(jax.jit, static_argnames="num_classes")
def _separate(
    x: jax.Array, index: jax.Array, shrinkage: jax.Array, rows: jax.Array | None, num_classes: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    total = jnp.sum(index < num_classes).astype(x.dtype)

    def one(of_class: tuple[jax.Array, jax.Array | None]) -> tuple[jax.Array, jax.Array, jax.Array]:
        label, rows = of_class
        if rows is None:
            own, values = index == label, x
        else:
            own, values = rows < len(x), x[jnp.minimum(rows, len(x) - 1)]
        own, count = own[:, None], jnp.sum(own).astype(x.dtype)
        mean = jnp.sum(values, axis=0, where=own) / count
        mean = mean + jnp.sum(values - mean[None], axis=0, where=own) / count
        rest = jnp.where(own, values - mean[None], 0)
        return jnp.log(count / total), mean, _whitening(rest, count, shrinkage)

    return jax.lax.map(one, (jnp.arange(num_classes, dtype=index.dtype), rows))


def _whitening(rest: jax.Array, count: jax.Array, shrinkage: jax.Array) -> jax.Array:
    """The inverse of the upper Cholesky factor of a covariance, `[D, D]`; NaN if that is singular.

    `rest` holds residuals, `[N, D]`. Whitened a second time they show the rounding errors of the first,
    which the second factor removes. It is far from the identity where the first was all rounding.
    """
    largest = jnp.max(jnp.abs(rest))
    rest = rest / jnp.where(largest > 0, largest, 1)
    count = count.astype(rest.dtype)
    identity = jnp.eye(rest.shape[1], dtype=rest.dtype)
    spherical = shrinkage * jnp.sum(rest**2) / (count * len(identity))
    whitening = factor = identity
    for _ in range(2):
        covariance = (1 - shrinkage) / count * dot(rest.T, rest) + spherical * dot(whitening.T, whitening)
        factor = jnp.linalg.cholesky(covariance)
        inverse = jax.scipy.linalg.solve_triangular(factor, identity, lower=True).T
        rest, whitening = dot(rest, inverse), dot(whitening, inverse)
    known = (jnp.abs(factor - identity) <= 0.1).all()
    return jnp.where(known, whitening / jnp.where(largest > 0, largest, 1), jnp.nan)


def scored(
    score: Callable[..., jax.Array], features: ArrayLike, means: jax.Array, *fitted: jax.Array
) -> jax.Array:
    """A score of features `[..., D]` by arrays of a fit, `[...]`, sharded as the features."""
    features = check_vectors(features, "features", None, 1)
    check_width(features, means.shape[-1])
    dtype = _checks.widest(features, means)
    out = jax.sharding.PartitionSpec(*_meshes.partition(features)[:-1])

    def of_rows(features: jax.Array, *fitted: jax.Array) -> jax.Array:
        rows = features.reshape(-1, features.shape[-1])
        return score(rows, *fitted).reshape(features.shape[:-1])

    arrays = (array.astype(dtype) for array in (features, means, *fitted))
    return _meshes.on_automatic_axes(of_rows, *arrays, out=out)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)
