"""Split conformal prediction: sets and intervals with guaranteed coverage.

A fit on held-out examples returns a small pytree that is called on new predictions. If old and new
examples are exchangeable, the set contains the truth with a probability of at least `level`, over the
draw of both and for any model. If no two scores are equal it is at most 1 / (N + 1) more.
"""

from jaxdrop.uncertainty.conformal.diagnostics import SetCoverage, set_coverage
from jaxdrop.uncertainty.conformal.intervals import CQR, Residual, fit_box, fit_cqr, fit_residual
from jaxdrop.uncertainty.conformal.quantiles import (
    GroupQuantile,
    WeightedQuantile,
    conformal_quantile,
    fit_group_quantile,
    fit_weighted_quantile,
)
from jaxdrop.uncertainty.conformal.risk import FNRSets, fit_fnr, risk_threshold
from jaxdrop.uncertainty.conformal.sets import LAC, AdaptiveSets, fit_aps, fit_lac, fit_raps

__all__ = [
    "CQR",
    "LAC",
    "AdaptiveSets",
    "FNRSets",
    "GroupQuantile",
    "Residual",
    "SetCoverage",
    "WeightedQuantile",
    "conformal_quantile",
    "fit_aps",
    "fit_box",
    "fit_cqr",
    "fit_fnr",
    "fit_group_quantile",
    "fit_lac",
    "fit_raps",
    "fit_residual",
    "fit_weighted_quantile",
    "risk_threshold",
    "set_coverage",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
