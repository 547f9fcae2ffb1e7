"""Means over independent runs, their standard errors, and verdicts at two of them."""

from typing import NamedTuple

import numpy as np


class Mean(NamedTuple):
    """A mean over independent runs and its standard error, NaN for a single run."""

    value: float
    error: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Mean":
        """Mean of one value per run, `[runs]`."""
        return cls(*map(float, mean_and_error(values)))

    def show(self, factor: float = 1.0, digits: int = 2) -> str:
        """Text such as `1.23±0.05`, after multiplying by `factor`."""
        return f"{factor * self.value:.{digits}f}±{factor * self.error:.{digits}f}"

    def percent(self, digits: int = 2) -> str:
        """Text in percent, such as `12.34±0.56`."""
        return self.show(100, digits)

    def verdict(
        self, lower: str = "helps", higher: str = "hurts", unclear: str = "unclear", single: str = "one seed"
    ) -> str:
        """Word for a paired difference, tested against 0 at two standard errors.

        Args:
          lower: The word if the difference is below 0; the default suits errors and losses.
          higher: The word if it is above 0.
          unclear: The word if it is within two standard errors of 0.
          single: The word if there is no standard error.
        """
        if not np.isfinite(self.error):
            return single
        if abs(self.value) <= 2 * self.error:
            return unclear
        return lower if self.value < 0 else higher


def mean_and_error(values: np.ndarray, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors along the axis of runs; the error of one run is NaN."""
    values = np.asarray(values, np.float64)
    mean, runs = values.mean(axis), values.shape[axis]
    if runs < 2:
        return mean, np.full_like(mean, np.nan)
    return mean, values.std(axis, ddof=1) / np.sqrt(runs)
