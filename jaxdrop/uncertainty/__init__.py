"""What predictive samples say, how good it is, and what to do with it: pure functions of arrays.

Samples have the axis of samples first: `[T, B, K]` for the probabilities of K classes, `[T, B, ...]`
for predictions of numbers. Everything works under `jit` and `vmap`, in float32 at least. Concrete
arguments are checked: probabilities, labels, levels, shapes, NaN.
"""

from jaxdrop.uncertainty.acquisition import Selection as Selection
from jaxdrop.uncertainty.acquisition import bald as bald
from jaxdrop.uncertainty.acquisition import batch_bald as batch_bald
from jaxdrop.uncertainty.acquisition import max_entropy as max_entropy
from jaxdrop.uncertainty.acquisition import top as top
from jaxdrop.uncertainty.calibration import Isotonic as Isotonic
from jaxdrop.uncertainty.calibration import Temperature as Temperature
from jaxdrop.uncertainty.calibration import VectorScaling as VectorScaling
from jaxdrop.uncertainty.calibration import fit_isotonic as fit_isotonic
from jaxdrop.uncertainty.calibration import fit_temperature as fit_temperature
from jaxdrop.uncertainty.calibration import fit_vector_scaling as fit_vector_scaling
from jaxdrop.uncertainty.calibration import isotonic_regression as isotonic_regression
from jaxdrop.uncertainty.classification import Reliability as Reliability
from jaxdrop.uncertainty.classification import accuracy as accuracy
from jaxdrop.uncertainty.classification import brier as brier
from jaxdrop.uncertainty.classification import classwise_ece as classwise_ece
from jaxdrop.uncertainty.classification import ece as ece
from jaxdrop.uncertainty.classification import nll as nll
from jaxdrop.uncertainty.classification import reliability as reliability
from jaxdrop.uncertainty.conformal import CQR as CQR
from jaxdrop.uncertainty.conformal import LAC as LAC
from jaxdrop.uncertainty.conformal import AdaptiveSets as AdaptiveSets
from jaxdrop.uncertainty.conformal import conformal_quantile as conformal_quantile
from jaxdrop.uncertainty.conformal import fit_aps as fit_aps
from jaxdrop.uncertainty.conformal import fit_cqr as fit_cqr
from jaxdrop.uncertainty.conformal import fit_lac as fit_lac
from jaxdrop.uncertainty.conformal import fit_raps as fit_raps
from jaxdrop.uncertainty.decomposition import Variance as Variance
from jaxdrop.uncertainty.decomposition import decompose_variance as decompose_variance
from jaxdrop.uncertainty.decomposition import entropy as entropy
from jaxdrop.uncertainty.decomposition import expected_entropy as expected_entropy
from jaxdrop.uncertainty.decomposition import mutual_information as mutual_information
from jaxdrop.uncertainty.decomposition import total_entropy as total_entropy
from jaxdrop.uncertainty.decomposition import variation_ratio as variation_ratio
from jaxdrop.uncertainty.regression import coverage as coverage
from jaxdrop.uncertainty.regression import crps as crps
from jaxdrop.uncertainty.regression import crps_gaussian as crps_gaussian
from jaxdrop.uncertainty.regression import gaussian_nll as gaussian_nll
from jaxdrop.uncertainty.regression import pinball as pinball
from jaxdrop.uncertainty.regression import sharpness as sharpness
from jaxdrop.uncertainty.selective import RiskCoverage as RiskCoverage
from jaxdrop.uncertainty.selective import aurc as aurc
from jaxdrop.uncertainty.selective import auroc as auroc
from jaxdrop.uncertainty.selective import fpr95 as fpr95
from jaxdrop.uncertainty.selective import risk_coverage as risk_coverage
