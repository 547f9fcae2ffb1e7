"""Checks of what is drawn: known values, real numbers, without NaN, in float64."""

from collections.abc import Callable

import numpy as np

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.uncertainty import BinnedScore, Score


def check_known(value: ArrayLike, name: str) -> ArrayLike:
    """An array whose values are all known here."""
    if not _predictions.is_visible(value):
        raise TypeError(
            f"`{name}` must hold known values: draw outside of `jit`, and gather arrays of others."
        )
    return value


def numbers(value: ArrayLike, name: str, *, finite: bool = False) -> np.ndarray:
    """A non-empty array of real numbers without NaN, in float64."""
    exact = np.asarray(_predictions.check_exact(check_known(value, name), name)).astype(np.float64)
    if finite:
        _checks.check_all(exact, name, "be finite", np.isfinite)
    return exact


def vector(value: ArrayLike, name: str, *, finite: bool = False) -> np.ndarray:
    """A non-empty vector of real numbers without NaN, in float64."""
    array = numbers(value, name, finite=finite)
    if array.ndim != 1:
        raise ValueError(f"`{name}` must have one axis, got shape {array.shape}.")
    return array


def check_alike(array: np.ndarray, like: np.ndarray, name: str, of: str) -> np.ndarray:
    """An array of the shape of another."""
    if array.shape != like.shape:
        raise ValueError(f"`{name}` must have the shape of `{of}`, {like.shape}, got {array.shape}.")
    return array


def spreads(stddev: ArrayLike, like: np.ndarray, of: str) -> np.ndarray:
    """Finite, non-negative standard deviations: one, or of the shape of an array."""
    found = numbers(stddev, "stddev")
    _checks.check_nonnegative(found, "stddev")
    if found.ndim:
        check_alike(found, like, "stddev", of)
    return np.broadcast_to(found, like.shape)


def scored(score: Callable[[np.ndarray], Score | BinnedScore], values: np.ndarray) -> Score:
    """A score in the unit of the values, which are scaled: squares of large and small ones leave float32."""
    scale = np.ldexp(1.0, np.frexp(np.abs(values).max())[1] - 1)  # a power of 2 rounds nothing
    found = score(values / scale)
    return Score(scale * float(found.value), scale * float(found.standard_error))
