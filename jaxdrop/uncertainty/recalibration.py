"""Recalibration of predicted distributions, fitted on held-out examples.

A scale corrects standard deviations that are too small or too large by one factor; recalibration corrects
a distribution of any shape. Each fit returns a small pytree that is called on new predictions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.uncertainty import _ensembles
from jaxdrop.uncertainty._unchecked import interpolated

__all__ = ["Recalibration", "StddevScale", "fit_recalibration", "fit_stddev_scale"]


class StddevScale(NamedTuple):
    """Standard deviations with a scale; a call returns the new deviations.

    Attributes:
      scale: The scale, at least 0, per output, `[...]`; above 1 predictions get less certain.
    """

    scale: jax.Array

    def __call__(self, stddev: ArrayLike) -> jax.Array:
        """Scaled standard deviations of deviations `[N, ...]`."""
        array = _predictions.check_values(stddev, "stddev")
        _checks.check_nonnegative(array, "stddev")
        return array * _checks.check_broadcastable(self.scale, array.shape, "scale")


class Recalibration(NamedTuple):
    """A non-decreasing map of probabilities; a call maps a predicted CDF to a calibrated one.

    Attributes:
      thresholds: Probabilities of the predicted distribution in ascending order, from 0 to 1, `[N + 2]`.
      values: The calibrated probabilities there, from 0 to 1; linear between them.
    """

    thresholds: jax.Array
    values: jax.Array

    def __call__(self, pit: ArrayLike) -> jax.Array:
        """Calibrated values of a PIT, or of any values of the predicted CDF, `[...]` in [0, 1]."""
        return _mapped(pit, "pit", self.thresholds, self.values)

    def inverse(self, level: Numeric) -> jax.Array:
        """The level of the predicted quantile that is the calibrated quantile of a level, `[...]`."""
        return _mapped(level, "level", self.values, self.thresholds)


def fit_stddev_scale(
    mean: ArrayLike, stddev: ArrayLike, y: ArrayLike, *, where: ArrayLike | None = None
) -> StddevScale:
    """Scaling of standard deviations: the one factor that minimizes the mean Gaussian NLL.

    It is the root mean square of `(y - mean) / stddev` over the examples, in closed form.

    Args:
      mean: Predicted means, `[N, ...]`, of held-out examples.
      stddev: Predicted standard deviations, above 0, of the shape of `mean` or one that broadcasts to it.
      y: Targets, of the shape of `mean`.
      where: Boolean mask of the examples to fit to, which broadcasts to `y`. Others may hold anything.
        None: all.

    Returns:
      A `StddevScale` with a factor per output, `[...]`; 0 if all means are the targets. NaN if no example
      is selected, and where traced values are NaN or deviations not above 0.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are non-finite or
        deviations not above 0.

    References:
      Laves et al., "Well-calibrated regression uncertainty in medical imaging with deep learning", 2020;
      Levi et al., "Evaluating and calibrating uncertainty prediction in regression tasks", 2022.

    Examples:
      >>> scale = fit_stddev_scale(jnp.zeros(2), jnp.ones(2), jnp.array([1.0, 7.0]))
      >>> scale(jnp.array([0.5]))
      Array([2.5], dtype=float32)
    """
    off, stddev, where = _ensembles.check_normal(mean, stddev, y, where)
    _checks.check_rank(off, 1, "[N, ...]", "y")
    _predictions.check_finite(off, "y - mean")
    _predictions.check_finite(_predictions.check_positive(stddev, "stddev"), "stddev")
    z = jnp.where(stddev > 0, off / jnp.where(stddev > 0, stddev, 1), jnp.nan)
    unit = _ensembles.scale_of(z, axes=(0,))
    mean_square = jnp.mean((z / unit) ** 2, axis=0, where=None if where is None else jnp.asarray(where))
    return StddevScale(unit[0] * _ensembles.safe_sqrt(mean_square))


def fit_recalibration(pit: ArrayLike, *, where: ArrayLike | None = None) -> Recalibration:
    """Recalibration of a predicted distribution: the CDF of the PIT of held-out targets.

    If the predicted probability of a target up to its value is `p`, the calibrated one is the share of
    held-out targets for which it was at most `p`. The share is the isotonic regression of the ranks of the
    PIT, `rank / (N + 1)`, and of two equal values the mean. It is the same map for all examples, so
    calibration is that of the average; it needs about a thousand examples for levels near 0 or 1.

    Args:
      pit: Values of `pit`, `pit_gaussian` or `pit_gaussian_mixture`, in [0, 1], `[N]`; further axes are
        examples, too. With a key for those of samples.
      where: Boolean mask of the examples to fit to, which broadcasts to `pit`. Others may hold anything.
        None: all.

    Returns:
      A `Recalibration`: a call on predicted probabilities gives calibrated ones, and its `inverse` the
      level at which to take a predicted quantile. NaN if no example is selected, or a traced value is
      outside [0, 1].

    Raises:
      TypeError: If `pit` is not real, or `where` is not boolean.
      ValueError: If `pit` is empty, or concrete values are outside [0, 1].

    References:
      Kuleshov, Fenner and Ermon, "Accurate uncertainties for deep learning using calibrated
      regression", 2018.

    Examples:
      >>> recalibration = fit_recalibration(jnp.array([0.5, 0.25, 0.75]))
      >>> recalibration(jnp.array([0.25, 0.625])), recalibration.inverse(0.5)
      (Array([0.25 , 0.625], dtype=float32), Array(0.5, dtype=float32))
    """
    where = _predictions.check_mask(where, np.shape(pit))
    pit = _predictions.filled(_predictions.check_values(pit, "pit", where), where, 1)
    _check_probs(pit, "pit")
    used = jnp.ones(pit.size, bool) if where is None else jnp.asarray(where).reshape(-1)
    return Recalibration(*_meshes.on_automatic_axes(_fitted, pit.reshape(-1), used))


@jax.jit
def _fitted(pit: jax.Array, used: jax.Array) -> tuple[jax.Array, jax.Array]:
    count = jnp.sum(used, dtype=jnp.int32)
    valid = jnp.all(jnp.where(used, (pit >= 0) & (pit <= 1), True)) & (count > 0)
    # Masked values are the last, at 1.
    ranked = jnp.sort(jnp.where(used, pit, 2))
    before = jnp.searchsorted(ranked, ranked, side="left")
    upto = jnp.searchsorted(ranked, ranked, side="right")
    mean_rank = (before + upto + 1).astype(pit.dtype) / 2
    values = jnp.where(ranked > 1, 1, mean_rank / (count + 1).astype(pit.dtype))

    def whole(array: jax.Array) -> jax.Array:
        """From 0 to 1."""
        array = jnp.pad(jnp.append(array, jnp.ones_like(array[:1])), (1, 0))
        return jnp.where(valid, array, jnp.nan)

    return whole(jnp.minimum(ranked, 1)), whole(values)


def _mapped(probs: Numeric, name: str, thresholds: jax.Array, values: jax.Array) -> jax.Array:
    array = _check_probs(_predictions.check_values(probs, name), name)
    out = _meshes.partition(array)
    return _meshes.on_automatic_axes(jax.jit(interpolated), array, thresholds, values, out=out)


def _check_probs(probs: jax.Array, name: str) -> jax.Array:
    """Probabilities in [0, 1]."""
    if _predictions.is_visible(probs):
        _checks.check_all(probs, name, "lie in [0, 1]", lambda values: (values >= 0) & (values <= 1))
    return probs
