"""Uncertainty metrics: decomposition, scores, calibration, conformal prediction and acquisition.

All are pure functions of arrays. Samples have the axis of samples first: `[T, B, K]` for the
probabilities of K classes, `[T, B, ...]` for predictions of numbers. Everything works under `jit` and
`vmap`, in float32 at least. Concrete arguments are checked: probabilities, labels, levels, shapes, NaN.
"""

from jaxdrop.uncertainty.acquisition import Selection, bald, batch_bald, max_entropy, top
from jaxdrop.uncertainty.binary import binary_brier, binary_ece, binary_nll, binary_reliability
from jaxdrop.uncertainty.calibration import Temperature, VectorScaling, fit_temperature, fit_vector_scaling
from jaxdrop.uncertainty.classification import (
    Reliability,
    accuracy,
    brier,
    classwise_ece,
    ece,
    nll,
    reliability,
)
from jaxdrop.uncertainty.conformal import (
    CQR,
    LAC,
    AdaptiveSets,
    FNRSets,
    GroupQuantile,
    Residual,
    SetCoverage,
    WeightedQuantile,
    conformal_quantile,
    fit_aps,
    fit_box,
    fit_cqr,
    fit_fnr,
    fit_group_quantile,
    fit_lac,
    fit_raps,
    fit_residual,
    fit_weighted_quantile,
    risk_threshold,
    set_coverage,
)
from jaxdrop.uncertainty.decomposition import (
    Variance,
    decompose_variance,
    entropy,
    expected_entropy,
    mutual_information,
    total_entropy,
    variation_ratio,
)
from jaxdrop.uncertainty.intervals import interval_score, weighted_interval_score
from jaxdrop.uncertainty.isotonic import Isotonic, fit_isotonic, isotonic_regression
from jaxdrop.uncertainty.mixtures import (
    crps_gaussian_mixture,
    gaussian_mixture_quantile,
    pit_gaussian_mixture,
)
from jaxdrop.uncertainty.multivariate import energy_score, variogram_score
from jaxdrop.uncertainty.recalibration import (
    Recalibration,
    StddevScale,
    fit_recalibration,
    fit_stddev_scale,
)
from jaxdrop.uncertainty.regression import coverage, crps, crps_gaussian, gaussian_nll, pinball, sharpness
from jaxdrop.uncertainty.regression_calibration import (
    QuantileReliability,
    ence,
    pit,
    pit_gaussian,
    quantile_reliability,
)
from jaxdrop.uncertainty.selective import RiskCoverage, aurc, auroc, fpr95, risk_coverage

__all__ = [
    "CQR",
    "LAC",
    "AdaptiveSets",
    "FNRSets",
    "GroupQuantile",
    "Isotonic",
    "QuantileReliability",
    "Recalibration",
    "Reliability",
    "Residual",
    "RiskCoverage",
    "Selection",
    "SetCoverage",
    "StddevScale",
    "Temperature",
    "Variance",
    "VectorScaling",
    "WeightedQuantile",
    "accuracy",
    "aurc",
    "auroc",
    "bald",
    "batch_bald",
    "binary_brier",
    "binary_ece",
    "binary_nll",
    "binary_reliability",
    "brier",
    "classwise_ece",
    "conformal_quantile",
    "coverage",
    "crps",
    "crps_gaussian",
    "crps_gaussian_mixture",
    "decompose_variance",
    "ece",
    "ence",
    "energy_score",
    "entropy",
    "expected_entropy",
    "fit_aps",
    "fit_box",
    "fit_cqr",
    "fit_fnr",
    "fit_group_quantile",
    "fit_isotonic",
    "fit_lac",
    "fit_raps",
    "fit_recalibration",
    "fit_residual",
    "fit_stddev_scale",
    "fit_temperature",
    "fit_vector_scaling",
    "fit_weighted_quantile",
    "fpr95",
    "gaussian_mixture_quantile",
    "gaussian_nll",
    "interval_score",
    "isotonic_regression",
    "max_entropy",
    "mutual_information",
    "nll",
    "pinball",
    "pit",
    "pit_gaussian",
    "pit_gaussian_mixture",
    "quantile_reliability",
    "reliability",
    "risk_coverage",
    "risk_threshold",
    "set_coverage",
    "sharpness",
    "top",
    "total_entropy",
    "variation_ratio",
    "variogram_score",
    "weighted_interval_score",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
