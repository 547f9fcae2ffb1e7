"""Monte-Carlo dropout: samples of any predictor `predict(key, x)`, and statistics streamed from them."""

from jaxdrop.mc.check_moments import MomentsCheck, check_moments
from jaxdrop.mc.datasets import estimate_dataset
from jaxdrop.mc.ensembles import ensemble
from jaxdrop.mc.estimator import Estimate, State, accumulate, estimate, finish, merge
from jaxdrop.mc.gaussian_classes import gaussian_classes
from jaxdrop.mc.indexed import Indexed
from jaxdrop.mc.laplace import Laplace, laplace_classification, laplace_regression
from jaxdrop.mc.last_layer import LastLayer, last_layer
from jaxdrop.mc.match import match
from jaxdrop.mc.moments import OutputMoments, moments
from jaxdrop.mc.reducers import (
    Bernoulli,
    BernoulliLogDensity,
    Categorical,
    CategoricalLogDensity,
    Clustered,
    GaussianLogDensity,
    Grouped,
    Moments,
    Part,
    Quantiles,
    Reducer,
)
from jaxdrop.mc.sampler import sample
from jaxdrop.mc.site_shares import SiteShares, site_shares
from jaxdrop.mc.stopping import Until
from jaxdrop.mc.swag import SWAG, swag

__all__ = [
    "SWAG",
    "Bernoulli",
    "BernoulliLogDensity",
    "Categorical",
    "CategoricalLogDensity",
    "Clustered",
    "Estimate",
    "GaussianLogDensity",
    "Grouped",
    "Indexed",
    "Laplace",
    "LastLayer",
    "Moments",
    "MomentsCheck",
    "OutputMoments",
    "Part",
    "Quantiles",
    "Reducer",
    "SiteShares",
    "State",
    "Until",
    "accumulate",
    "check_moments",
    "ensemble",
    "estimate",
    "estimate_dataset",
    "finish",
    "gaussian_classes",
    "laplace_classification",
    "laplace_regression",
    "last_layer",
    "match",
    "merge",
    "moments",
    "sample",
    "site_shares",
    "swag",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
