"""All scores of predictions in one table, each with its standard error."""

import html
import math
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike, Key, PyTree
from jaxdrop.uncertainty import _bins, _rows
from jaxdrop.uncertainty._rows import ReportRow

__all__ = ["Report", "ReportRow", "report"]


@dataclass(frozen=True)
class Report:
    """Scores with their standard errors; `print` shows a table, and so does a notebook.

    Attributes:
      title: What was scored.
      examples: The number of examples.
      rows: The scores, a tuple of `ReportRow`, always in the same order.
    """

    title: str
    examples: int
    rows: tuple[ReportRow, ...]

    def __getitem__(self, name: str) -> ReportRow:
        """The row of a score."""
        found = {row.name: row for row in self.rows}
        if name not in found:
            raise KeyError(f"`name` must be one of {', '.join(found)}, got {name!r}.")
        return found[name]

    def to_dict(self) -> dict[str, PyTree]:
        """Numbers and strings: title, examples and, by name, the fields of each score."""
        scores = {row.name: asdict(row) for row in self.rows}
        for fields in scores.values():
            del fields["name"]
        return {"title": self.title, "examples": self.examples, "scores": scores}

    def __str__(self) -> str:
        """The table in aligned columns."""
        table = [_COLUMNS, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [self.title]
        for cells in table:
            name, value, error, *rest = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            numbers = (text.strip().rjust(len(text)) for text in (value, error))
            lines.append("  ".join([name, *numbers, *rest]).rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The table in HTML, for notebooks."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in _COLUMNS)
        cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row)) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


_COLUMNS = ("score", "value", "std. error", "unit", "better")


def report(
    predictions: ArrayLike | tuple[ArrayLike, ArrayLike],
    targets: ArrayLike,
    *,
    samples: bool = False,
    level: float = 0.9,
    bins: int = 15,
    unit: str = "",
    key: Key | None = None,
    where: ArrayLike | None = None,
) -> Report:
    """All scores that fit predictions and targets, with their standard errors.

    Targets of integers or booleans are labels, and those of floating-point numbers are a regression. Losses
    and entropies are in nats. For data that do not fit in memory, see `tally_mean`.

    Args:
      predictions: Probabilities of K classes, `[B, K]`; probabilities of label 1, `[B]`; or, of a
        regression, a pair of means and standard deviations above 0, `[B]` each. With `samples` they have
        the axis of samples first, `[T, ...]`, and a regression may also be samples of the target, `[T, B]`.
      targets: Labels in [0, K), or 0 and 1, or numbers: `[B]`.
      samples: Whether the predictions are samples, such as those of Monte-Carlo dropout. Probabilities are
        averaged over them, and normal distributions mixed. Samples of the target must have its noise too.
      level: The level of the central intervals of a regression, in (0, 1). With T samples of the target at
        most `(T - 1) / (T + 1)`.
      bins: The number of bins of calibration errors, of equal width for probabilities and of equal mass for
        standard deviations.
      unit: The unit of a regression's targets, for the table.
      key: A PRNG key, used once, for the bootstrap of `classwise_ece` and `ence`, with 200 resamples. None:
        these have no standard error.
      where: Boolean mask that broadcasts to `targets`. Examples that it leaves out do not count, and may
        hold anything. None: all.

    Returns:
      A `Report`. The ends of a normal interval are quantiles of the normal distribution. Those of T samples
      are at ranks `(T + 1) * (1 -+ level) / 2`. If those lie between two samples, the coverage is the mean
      of two intervals, with weights by which it is `level` if the target is one more sample. Rows
      `error_auroc_` say how well an uncertainty tells wrong predictions from right ones.

    Raises:
      TypeError: If an argument is of another type, arrays are traced, or the targets are not integers,
        booleans or floating-point numbers.
      ValueError: If shapes do not match, the mask selects no example, values are not valid probabilities,
        labels, deviations or NaN, or `level` or `bins` is out of range.

    References:
      Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", 2007.

    Examples:
      >>> mean = jnp.linspace(0.0, 4.0, 50)
      >>> print(report((mean, jnp.ones(50)), mean + 2 * jnp.sin(jnp.arange(50.0)), unit="m"))
      regression, 50 examples
      score            value  std. error  unit  better
      nll               1.92        0.10  nats  lower
      rmse             1.416       0.072  m     lower
      crps             0.883       0.062  m     lower
      coverage         0.580       0.071        nearer to 0.9
      interval_score    5.08        0.37  m     lower
      sharpness            1           0  m     lower
      ence            0.4155                    lower
    """
    _bins.check_bins(bins, "equal_mass")
    _predictions.check_level(_checks.check_number(level, "level"))
    if not isinstance(samples, bool):
        raise TypeError(f"`samples` must be a bool, got {type(samples).__name__}.")
    if not isinstance(unit, str):
        raise TypeError(f"`unit` must be a string, got {type(unit).__name__}.")
    key = None if key is None else _checks.check_key(key)
    given = [_concrete(array, "predictions") for array in _parts(predictions)]
    y = _concrete(targets, "targets")
    y = y.astype(np.int32) if y.dtype == np.bool_ else y
    labels = jnp.issubdtype(y.dtype, jnp.integer)
    if not labels and not jnp.issubdtype(y.dtype, jnp.floating):
        raise TypeError(f"`targets` must be integers, booleans or floating-point, got {y.dtype}.")
    _check_shapes(given, y, samples)
    where = _predictions.check_mask(where, y.shape)
    if where is not None:
        chosen = np.flatnonzero(_concrete(where, "where"))
        y, given = y[chosen], [np.take(array, chosen, axis=int(samples)) for array in given]
    if not len(y):
        raise ValueError("`where` must select an example, got none.")
    if labels:
        kind, rows = _of_labels(given, y, samples, bins, key)
    else:
        kind, rows = "regression", _of_numbers(given, y, samples, level, unit, bins, key)
    mixed = f", {len(given[0])} samples" if samples else ""
    return Report(f"{kind}, {len(y)} examples{mixed}", len(y), tuple(rows))


def _of_labels(
    given: list[np.ndarray], labels: np.ndarray, samples: bool, bins: int, key: Key | None
) -> tuple[str, _rows.Rows]:
    rank = given[0].ndim - samples
    if len(given) == 2 or rank > 2:
        expected = "probabilities, [B, K] or [B], as `targets` are labels (those of a regression are floats)"
        raise ValueError(f"`predictions` must be {expected}, got {_told(given)}.")
    probs = given[0]
    classes = probs.shape[-1] if rank == 2 else 2
    if rank == 2:
        _predictions.check_probabilities(probs, "[..., K]", "predictions")
    else:
        array = _checks.check_floating(probs, "predictions")
        _checks.check_all(array, "predictions", "lie in [0, 1]", lambda values: (values >= 0) & (values <= 1))
    of = jax.ShapeDtypeStruct((len(labels), classes), probs.dtype)
    _predictions.check_labels(labels, of, "targets", "predictions")
    if rank == 2:
        return f"{classes} classes", _rows.of_classes(probs, labels, samples, bins, key)
    return "binary labels", _rows.of_binary(probs, labels, samples, bins)


def _of_numbers(
    given: list[np.ndarray], y: np.ndarray, samples: bool, level: float, unit: str, bins: int, key: Key | None
) -> _rows.Rows:
    if given[0].ndim - samples != 1 or (len(given) == 1 and not samples):
        expected = "a pair of means and standard deviations, or samples with `samples=True`"
        raise ValueError(f"`predictions` must be {expected}, as `targets` are numbers, got {_told(given)}.")
    for array, name in ((y, "targets"), *((array, "predictions") for array in given)):
        _predictions.check_finite(_predictions.check_values(array, name), name)
    if len(given) == 1:
        return _rows.of_samples(given[0], y, level, unit)
    _predictions.check_positive(given[1], "predictions[1]")
    of_parts = _rows.of_mixture if samples else _rows.of_normal
    return of_parts(given[0], given[1], y, level, unit, bins, key)


def _parts(predictions: ArrayLike | tuple[ArrayLike, ArrayLike]) -> tuple[ArrayLike, ...]:
    if not isinstance(predictions, tuple):
        return (predictions,)
    if len(predictions) != 2:
        raise ValueError(f"`predictions` must be an array or a pair, got {len(predictions)} parts.")
    return predictions


def _concrete(array: PyTree, name: str) -> np.ndarray:
    array = _predictions.exact(array)
    if not _predictions.is_visible(array):
        raise TypeError(f"`{name}` must be concrete (under `jit` use `tally_mean` and others), got a tracer.")
    if not hasattr(array, "dtype"):
        raise TypeError(f"`{name}` must be an array, got {type(array).__name__}.")
    return np.asarray(array)


def _check_shapes(given: list[np.ndarray], y: np.ndarray, samples: bool) -> None:
    if y.ndim != 1 or not len(y):
        raise ValueError(f"`targets` must be of shape [B] (flatten pixels or tokens), got {y.shape}.")
    axis = int(samples)
    if any(array.ndim <= axis or array.shape[axis] != len(y) for array in given):
        hint = "" if samples else " (for samples [T, B, ...] set `samples=True`)"
        raise ValueError(
            f"`predictions` must have the {len(y)} examples of `targets` along axis {axis}{hint}, "
            f"got {_told(given)}."
        )
    if samples and len(given[0]) < 2:
        raise ValueError("`predictions` must have at least 2 samples, got 1.")
    if len({array.shape for array in given}) > 1:
        raise ValueError(f"`predictions` must be a pair of one shape, got {_told(given)}.")


def _told(given: list[np.ndarray]) -> str:
    return "shapes " + " and ".join(str(array.shape) for array in given)


def _cells(row: ReportRow) -> tuple[str, ...]:
    """A row as text, to two digits of the standard error."""
    value, error = row.value, row.standard_error
    if math.isfinite(value) and math.isfinite(error) and error > 0:
        places = 1 - math.floor(math.log10(error))
        if 0 <= places <= 6:
            return row.name, f"{value:.{places}f}", f"{error:.{places}f}", row.unit, row.better
    told = "" if math.isnan(error) else f"{error:.2g}"
    return row.name, f"{value:.4g}", told, row.unit, row.better
