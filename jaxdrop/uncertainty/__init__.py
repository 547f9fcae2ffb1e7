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
from jaxdrop.uncertainty.densities import (
    DDU,
    Mahalanobis,
    RelativeMahalanobis,
    fit_ddu,
    fit_mahalanobis,
    fit_relative_mahalanobis,
)
from jaxdrop.uncertainty.detection import (
    aupr_with_error,
    auroc_difference,
    auroc_with_error,
    fpr95_with_error,
)
from jaxdrop.uncertainty.errors import Score, aurc_with_error, bootstrap, ece_with_error, mean_with_error
from jaxdrop.uncertainty.intervals import interval_score, weighted_interval_score
from jaxdrop.uncertainty.isotonic import Isotonic, fit_isotonic, isotonic_regression
from jaxdrop.uncertainty.mixtures import (
    crps_gaussian_mixture,
    gaussian_mixture_quantile,
    pit_gaussian_mixture,
)
from jaxdrop.uncertainty.multivariate import energy_score, variogram_score
from jaxdrop.uncertainty.ood import energy, knn_distance, max_logit, max_probability
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
from jaxdrop.uncertainty.reports import Report, ReportRow, report
from jaxdrop.uncertainty.selective import RiskCoverage, aupr, aurc, auroc, fpr95, risk_coverage
from jaxdrop.uncertainty.tallies import (
    BinnedScore,
    Tally,
    finish,
    merge,
    tally_auroc,
    tally_classwise_ece,
    tally_ece,
    tally_mean,
    tally_rms,
)

__all__ = [
    "CQR",
    "DDU",
    "LAC",
    "AdaptiveSets",
    "BinnedScore",
    "FNRSets",
    "GroupQuantile",
    "Isotonic",
    "Mahalanobis",
    "QuantileReliability",
    "Recalibration",
    "RelativeMahalanobis",
    "Reliability",
    "Report",
    "ReportRow",
    "Residual",
    "RiskCoverage",
    "Score",
    "Selection",
    "SetCoverage",
    "StddevScale",
    "Tally",
    "Temperature",
    "Variance",
    "VectorScaling",
    "WeightedQuantile",
    "accuracy",
    "aupr",
    "aupr_with_error",
    "aurc",
    "aurc_with_error",
    "auroc",
    "auroc_difference",
    "auroc_with_error",
    "bald",
    "batch_bald",
    "binary_brier",
    "binary_ece",
    "binary_nll",
    "binary_reliability",
    "bootstrap",
    "brier",
    "classwise_ece",
    "conformal_quantile",
    "coverage",
    "crps",
    "crps_gaussian",
    "crps_gaussian_mixture",
    "decompose_variance",
    "ece",
    "ece_with_error",
    "ence",
    "energy",
    "energy_score",
    "entropy",
    "expected_entropy",
    "finish",
    "fit_aps",
    "fit_box",
    "fit_cqr",
    "fit_ddu",
    "fit_fnr",
    "fit_group_quantile",
    "fit_isotonic",
    "fit_lac",
    "fit_mahalanobis",
    "fit_raps",
    "fit_recalibration",
    "fit_relative_mahalanobis",
    "fit_residual",
    "fit_stddev_scale",
    "fit_temperature",
    "fit_vector_scaling",
    "fit_weighted_quantile",
    "fpr95",
    "fpr95_with_error",
    "gaussian_mixture_quantile",
    "gaussian_nll",
    "interval_score",
    "isotonic_regression",
    "knn_distance",
    "max_entropy",
    "max_logit",
    "max_probability",
    "mean_with_error",
    "merge",
    "mutual_information",
    "nll",
    "pinball",
    "pit",
    "pit_gaussian",
    "pit_gaussian_mixture",
    "quantile_reliability",
    "reliability",
    "report",
    "risk_coverage",
    "risk_threshold",
    "set_coverage",
    "sharpness",
    "tally_auroc",
    "tally_classwise_ece",
    "tally_ece",
    "tally_mean",
    "tally_rms",
    "top",
    "total_entropy",
    "variation_ratio",
    "variogram_score",
    "weighted_interval_score",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
