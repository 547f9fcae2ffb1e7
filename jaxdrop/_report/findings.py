"""What the analysis of each kind of predictions finds, and scores that all of them use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

import jax
import numpy as np
from matplotlib.figure import Figure

from jaxdrop import uncertainty
from jaxdrop._report.blocks import Picture, Table
from jaxdrop._types import Key
from jaxdrop.uncertainty import Report, ReportRow

_T = TypeVar("_T")
# Fewer held-out examples than these are not fitted to.
LEAST = 20


@dataclass(frozen=True)
class Coverage:
    """How conformal sets or intervals do on the scored part.

    Attributes:
      method: The method, such as "LAC".
      asked: The coverage that is asked for, in (0, 1).
      coverage: The coverage found, a value and its standard error.
      size: The mean number of classes, or the mean width, and its standard error.
      guarantee: What is guaranteed, a sentence.
    """

    method: str
    asked: float
    coverage: tuple[float, float]
    size: tuple[float, float]
    guarantee: str


@dataclass(frozen=True)
class Analysis:
    """What is found on the scored part; arrays have an entry for each of its examples.

    Attributes:
      before: The scores of the predictions; None if they have no distribution before the fit.
      after: The scores of the fitted predictions; None without a fit.
      fitted: What was fitted, or why nothing was, sentences.
      coverages: Conformal sets or intervals.
      doubts: Uncertainties by name, the main one first, `[n]`.
      doubt_error: The Monte-Carlo standard error of the first of them, `[n]`; of parts, the mean of theirs,
        which is an upper limit.
      loss: The loss of each example, `[n]`.
      loss_name: Its name.
      pictures: Pictures with their topics, "calibration", "uncertainty" or "sets".
      factor: The temperature, the factor of the deviations or the noise, by name.
    """

    before: Report | None
    after: Report | None
    fitted: Sequence[str]
    coverages: Sequence[Coverage]
    doubts: dict[str, np.ndarray]
    doubt_error: np.ndarray
    loss: np.ndarray
    loss_name: str
    pictures: Sequence[tuple[str, Picture]]
    factor: dict[str, float] = field(default_factory=dict)

    @property
    def doubt(self) -> np.ndarray:
        """The main uncertainty."""
        return next(iter(self.doubts.values()))

    @property
    def noise_share(self) -> float:
        """The part of the variance of the uncertainty between examples that is Monte-Carlo noise."""
        spread = float(np.var(self.doubt, ddof=1)) if len(self.doubt) > 1 else 0.0
        return float(np.mean(self.doubt_error**2)) / spread if spread else float("nan")


class Calibrated(NamedTuple, Generic[_T]):
    """What a held-out part was used for.

    Attributes:
      words: What was fitted, or why nothing was, sentences.
      fitted: What the fit gives; None without a fit.
      factor: The fitted number, by name.
      coverages: Conformal sets.
    """

    words: list[str]
    fitted: _T | None
    factor: dict[str, float]
    coverages: list[Coverage]


def calibrated(
    held: int,
    level: float,
    fit: Callable[[], tuple[str, _T | None, dict[str, float]]],
    sets: Callable[[], list[Coverage]],
) -> Calibrated[_T]:
    """Fits to the held-out examples, and makes conformal sets, each where there are enough of them."""
    if held < LEAST:
        return Calibrated(too_few(held), None, {}, [])
    told, fitted, factor = fit()
    problem = too_few_for_sets(held, level)
    return Calibrated([told, *([problem] if problem else [])], fitted, factor, [] if problem else sets())


def keys(key: Key, number: int) -> list[Key]:
    """Keys as a list."""
    return list(jax.random.split(key, number))


def mean(values: np.ndarray) -> tuple[float, float]:
    """A mean over examples and its standard error."""
    found = uncertainty.mean_with_error(values)
    return float(found.value), float(found.standard_error)


def with_rows(report: Report, rows: Sequence[ReportRow]) -> Report:
    """A report with other rows; one of a name that is there takes its place."""
    new = {row.name: row for row in rows}
    kept = tuple(new.pop(row.name, row) for row in report.rows)
    return replace(report, rows=(*kept, *new.values()))


def words(name: str) -> str:
    """A name as words."""
    return name.replace("stddev", "standard deviation").replace("_", " ")


def too_few(held: int) -> list[str]:
    """Why nothing was fitted."""
    return [
        f"Nothing was calibrated: {held} examples are held out, and a fit needs {LEAST}. A larger `holdout`, "
        "or `calibration` data, holds out more."
    ]


def all_right(number: int, what: str = "examples") -> str:
    """Why there is no temperature: the smaller it is, the larger is the likelihood."""
    return f"No temperature was fitted: all {number} held-out {what} are predicted right, so none is best."


def too_few_for_sets(held: int, level: float) -> str | None:
    """Why there are no conformal sets, if their threshold would be infinite."""
    least = int(np.ceil(level / (1 - level) - 1e-9))
    if held >= least:
        return None
    return f"There are no conformal sets: a level of {level:g} needs {least} held-out examples, {held} are."


def drawn(title: str, text: str, draw: Callable[..., object], values: Table | None = None) -> Picture:
    """A picture of one axes, which `draw` fills."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    draw(figure.add_subplot())
    return Picture(title, figure, text, values)
