"""Plots of predictions, uncertainty and training with matplotlib, each with its standard errors.

Needs the extra `plots`; `import jaxdrop` does not import this module. Each function takes arrays or results
of the library, draws in `ax` or in a new figure, and returns the axes. Color is never the only cue: line
styles and markers tell the same.
"""

from jaxdrop.plots._axes import PALETTE
from jaxdrop.plots.classification import reliability_diagram
from jaxdrop.plots.conformal import interval_widths, set_sizes
from jaxdrop.plots.detection import risk_coverage_curve, roc_curve, score_histograms
from jaxdrop.plots.regression import (
    pit_histogram,
    prediction_bands,
    quantile_calibration,
    targets_against_predictions,
)
from jaxdrop.plots.sampling import convergence
from jaxdrop.plots.sites import share_bars, share_map
from jaxdrop.plots.training import tuning_curve
from jaxdrop.plots.weights import weight_sparsity

__all__ = [
    "PALETTE",
    "convergence",
    "interval_widths",
    "pit_histogram",
    "prediction_bands",
    "quantile_calibration",
    "reliability_diagram",
    "risk_coverage_curve",
    "roc_curve",
    "score_histograms",
    "set_sizes",
    "share_bars",
    "share_map",
    "targets_against_predictions",
    "tuning_curve",
    "weight_sparsity",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
