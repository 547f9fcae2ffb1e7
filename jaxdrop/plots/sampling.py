"""Plots of Monte-Carlo convergence: estimates and their standard errors against the number of samples."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike
from jaxdrop.mc import Estimate, Reducer
from jaxdrop.plots import _arrays, _axes
from jaxdrop.plots._axes import Axes
from jaxdrop.uncertainty import Score

__all__ = ["convergence"]

_RATE = "1 / sqrt(T)"
# Numbers of samples at which samples are summarized, at most, and the first of them: a standard error from
# fewer samples is noise.
_COUNTS, _FIRST = 16, 4
# The range of the estimates that the band of errors shows, in percent.
_RANGE = (5, 95)
# Up to so many samples the axis has powers of 2, and beyond, of 10.
_POWERS_OF_TWO = 1024


class _Curve(NamedTuple):
    """Estimates by number of samples.

    Attributes:
      counts: The numbers of samples, `[P]`, ascending.
      values: The estimates, `[P, ...]`.
      errors: Their standard errors, `[P, ...]`.
    """

    counts: np.ndarray
    values: np.ndarray
    errors: np.ndarray


def convergence(
    samples: ArrayLike | Sequence[Estimate],
    *,
    reducer: Reducer | None = None,
    of: str = "mean",
    index: int | tuple[int, ...] | None = None,
    show: Literal["estimate", "error"] = "estimate",
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plots a Monte-Carlo estimate, or its standard error, against the number of samples.

    Of samples, those of the first T are summarized, for several T: the points of a curve share samples, and
    say how an estimate settles, not how often it would be wrong. Below T = 32 standard errors are themselves
    uncertain; see `Estimate.interval`.

    Args:
      samples: Samples from `mc.sample`, `[T, ...]`, of at least two; or `mc.Estimate`s of several numbers of
        samples, of one reducer each.
      reducer: What summarizes samples, such as `mc.Categorical()`, in float32, of samples `[T, B, ...]`; None
        for the mean, in float64.
      of: The name of the estimate, such as "mean" or "mutual_information".
      index: The one among an array of estimates. None: the only one; or all of them, with `show="error"`,
        as their median and the range from the 5 % to the 95 % quantile.
      show: "estimate" for estimates, with a band of one standard error. "error" for the standard errors, on
        logarithmic axes, with a line that falls as `1 / sqrt(T)` through the last.
      label: The name in the legend. Each call on the same axes has another color.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If `samples` are not real, or traced, or neither an array nor estimates.
      ValueError: If there are fewer than two samples or estimates, values are not finite, `of` is not a name
        of an estimate, or `index` does not choose one.

    References:
      Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016.

    Examples:
      >>> ax = convergence(np.random.default_rng(0).normal(size=64))
      >>> ax.get_xlabel()
      'Monte-Carlo samples T'
    """
    _checks.check_choice(show, ("estimate", "error"), "show")
    if isinstance(samples, jax.Array | np.ndarray):
        curve = _of_samples(samples, reducer, of)
    elif isinstance(samples, list | tuple) and all(isinstance(one, Estimate) for one in samples):
        if reducer is not None:
            raise ValueError("`reducer` must be None for estimates, which have been reduced, got one.")
        curve = _of_estimates(samples, of, index)
    else:
        kind = type(samples).__name__
        raise TypeError(f"`samples` must be an array or a list of `mc.Estimate`s, got {kind}.")
    curve = _chosen(curve, index, show)
    if show == "error":
        return _draw_errors(curve, label, ax, of)
    return _draw_estimates(curve, label, ax, of)


def _of_estimates(estimates: Sequence[Estimate], of: str, index: int | tuple[int, ...] | None) -> _Curve:
    """The curve of estimates at several numbers of samples."""
    _checks.check_count(len(estimates), "the number of estimates", 2)
    counts, values, errors = [], [], []
    for one in estimates:
        number = np.asarray(_arrays.check_known(one.num_samples, "num_samples"))
        if number.ndim and index is not None:
            example = index[0] if isinstance(index, tuple) else index
            number = number[[example]] if -len(number) <= example < len(number) else number
        if np.unique(number).size != 1:
            differ = "as their numbers of samples differ"
            raise ValueError(f"`index` must choose an example, {differ}, got {index}.")
        counts.append(int(np.unique(number)[0]))
        for found, tree in ((values, one.value), (errors, one.standard_error)):
            found.append(_named(tree, of))
    if len(set(counts)) < len(counts):
        raise ValueError(f"`samples` must hold estimates of different numbers of samples, got {counts}.")
    if len({value.shape for value in values}) > 1:
        shapes = ", ".join(str(value.shape) for value in values)
        raise ValueError(f"`samples` must hold estimates of one shape, got {shapes}.")
    order = np.argsort(counts)
    return _Curve(np.array(counts)[order], np.stack(values)[order], np.stack(errors)[order])


def _of_samples(samples: ArrayLike, reducer: Reducer | None, of: str) -> _Curve:
    """The curve of the first samples, for several numbers of them."""
    array = _arrays.numbers(samples, "samples", finite=True)
    if not array.ndim or len(array) < 2:
        raise ValueError(f"`samples` must have a first axis of at least 2 samples, got shape {array.shape}.")
    counts = np.unique(np.geomspace(min(_FIRST, len(array)), len(array), _COUNTS).round().astype(int))
    if reducer is not None:
        return _reduced(array, reducer, of, counts)
    _checks.check_choice(of, ("mean",), "of")
    # About the first sample nothing cancels.
    off = array - array[0]
    means, squares = (np.cumsum(x, axis=0)[counts - 1] for x in (off, off**2))
    number = counts.reshape(-1, *[1] * (array.ndim - 1))
    means = means / number
    variance = np.maximum(squares / number - means**2, 0) * number / (number - 1)
    return _Curve(counts, array[0] + means, np.sqrt(variance / number))


def _reduced(array: np.ndarray, reducer: Reducer, of: str, counts: np.ndarray) -> _Curve:
    """The curve of a reducer, compiled once: samples beyond a number are ignored."""
    given = jnp.asarray(array, jnp.float32)
    if given.ndim < 2:
        raise ValueError(f"`samples` must be of shape [T, B, ...] for a reducer, got {given.shape}.")
    reducer.check(jax.ShapeDtypeStruct(given.shape[1:], given.dtype), None)
    place = jnp.arange(len(given), dtype=jnp.int32)

    @jax.jit
    def finished(samples: jax.Array, numbers: jax.Array) -> tuple[dict, dict]:
        def first(number: jax.Array) -> tuple[dict, dict]:
            return reducer.finish(reducer.summarize(samples, jnp.where(place < number, place, -1), None))

        return jax.lax.map(first, numbers)

    values, errors = finished(given, jnp.asarray(counts, jnp.int32))
    reducer.check_values(values)
    return _Curve(counts, _named(values, of), _named(errors, of))


def _named(tree: dict[str, jax.Array], of: str) -> np.ndarray:
    """An estimate of a dictionary by its name."""
    if not isinstance(tree, dict):
        raise TypeError(f"`samples` must hold estimates of one reducer, got a {type(tree).__name__} of them.")
    _checks.check_choice(of, list(tree), "of")
    if not hasattr(tree[of], "shape"):
        raise TypeError(f"`of` must name an array, got {of!r}, which is a {type(tree[of]).__name__}.")
    return np.asarray(_arrays.check_known(tree[of], "samples"), np.float64)


def _chosen(curve: _Curve, index: int | tuple[int, ...] | None, show: str) -> _Curve:
    """The curve of one estimate, `[P]`, or of several, `[P, N]`, without points that have no error."""
    shape = curve.values.shape[1:]
    if index is not None:
        place = (index,) if isinstance(index, int | np.integer) else tuple(index)
        fits = len(place) == len(shape) and all(-n <= i < n for i, n in zip(place, shape, strict=True))
        if not fits:
            raise ValueError(f"`index` must choose one of the estimates of shape {shape}, got {index}.")
        curve = curve._replace(values=curve.values[:, *place], errors=curve.errors[:, *place])
    elif np.prod(shape, dtype=int) == 1:
        curve = curve._replace(values=curve.values.reshape(-1), errors=curve.errors.reshape(-1))
    elif show == "estimate":
        raise ValueError(f"`index` must choose one of the estimates of shape {shape}, got None.")
    flat = [array.reshape(len(curve.counts), -1) for array in (curve.values, curve.errors)]
    known = np.all([np.isfinite(array).all(-1) for array in flat], axis=0)
    if not known.any():
        raise ValueError(f"`samples` must give finite estimates of {shape} with standard errors, got none.")
    return _Curve(*(array[known] for array in curve))


def _draw_estimates(curve: _Curve, label: str | None, ax: Axes | None, of: str) -> Axes:
    ax = _axes.axes(ax)
    style = _axes.look(ax)
    counts, values, errors = curve
    text = f"{_axes.told(Score(values[-1], errors[-1]))} at T = {counts[-1]:,}"
    look = {"color": style.color, "ls": style.line, "marker": style.marker, "ms": 4}
    ax.plot(counts, values, **look, label=_axes.with_label(label, text))
    ax.fill_between(counts, values - errors, values + errors, color=style.color, alpha=_axes.BAND, lw=0)
    ax.axhline(values[-1], color=style.color, ls=":", lw=0.8)
    _scale(ax, counts[-1])
    ax.set_ylabel(f"{_words(of)}, ± standard error")
    _axes.show_legend(ax)
    return ax


def _draw_errors(curve: _Curve, label: str | None, ax: Axes | None, of: str) -> Axes:
    ax = _axes.axes(ax)
    style = _axes.look(ax)
    counts, errors = curve.counts, curve.errors
    several = errors.ndim > 1
    middle = np.median(errors.reshape(len(counts), -1), axis=1)
    text = _axes.with_label(label, f"{middle[-1]:.2g} at T = {counts[-1]:,}")
    look = {"color": style.color, "ls": style.line, "marker": style.marker, "ms": 4}
    ax.plot(counts, middle, **look, label=text)
    if several:
        ends = np.percentile(errors.reshape(len(counts), -1), _RANGE, axis=1)
        ax.fill_between(counts, *ends, color=style.color, alpha=_axes.BAND, lw=0)
    if _axes.is_new(ax, _RATE):
        # From the last, which is the least uncertain.
        ax.plot(counts, middle[-1] * np.sqrt(counts[-1] / counts), color=_axes.GRAY, ls=":", label=_RATE)
    _scale(ax, counts[-1])
    if (middle > 0).all():
        ax.set_yscale("log")
    many = f"\nmedian, and {_RANGE[0]} % to {_RANGE[1]} % of the estimates" if several else ""
    ax.set_ylabel(f"standard error of the {_words(of)}{many}")
    _axes.show_legend(ax)
    return ax


def _scale(ax: Axes, most: int) -> None:
    """A logarithmic axis of numbers of samples."""
    ax.set_xscale("log", base=2 if most <= _POWERS_OF_TWO else 10)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.set_xlabel("Monte-Carlo samples T")


def _words(of: str) -> str:
    return of.replace("_", " ")
