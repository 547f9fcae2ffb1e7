"""Streamed statistics of samples, each with its Monte-Carlo standard error.

A reducer summarizes some samples in a state of fixed size. States merge, and a state gives estimates
and their standard errors. So any division of the samples into chunks, devices and runs gives the
same result up to rounding. A new reducer implements `Reducer`, or derives from `Grouped`, which adds
the standard errors to three functions.
"""

from jaxdrop.mc.reducers._grouped import Grouped, Reducer
from jaxdrop.mc.reducers.bernoulli import Bernoulli
from jaxdrop.mc.reducers.categorical import Categorical
from jaxdrop.mc.reducers.clustered import Clustered
from jaxdrop.mc.reducers.densities import BernoulliLogDensity, CategoricalLogDensity, GaussianLogDensity
from jaxdrop.mc.reducers.moments import Moments
from jaxdrop.mc.reducers.part import Part
from jaxdrop.mc.reducers.quantiles import Quantiles

__all__ = [
    "Bernoulli",
    "BernoulliLogDensity",
    "Categorical",
    "CategoricalLogDensity",
    "Clustered",
    "GaussianLogDensity",
    "Grouped",
    "Moments",
    "Part",
    "Quantiles",
    "Reducer",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
