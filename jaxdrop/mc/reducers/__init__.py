"""Streamed statistics of samples, each with its Monte-Carlo standard error.

A reducer summarises some samples in a state of fixed size; states merge; and a state gives
estimates and their standard errors. So the same comes of any division of the samples into chunks,
devices and runs, up to rounding. One of your own needs what `Reducer` has, or with `Grouped` under
it three functions that know nothing of errors.
"""

from jaxdrop.mc.reducers._grouped import Grouped as Grouped
from jaxdrop.mc.reducers._grouped import Reducer as Reducer
from jaxdrop.mc.reducers.categorical import Categorical as Categorical
from jaxdrop.mc.reducers.densities import CategoricalLogDensity as CategoricalLogDensity
from jaxdrop.mc.reducers.densities import GaussianLogDensity as GaussianLogDensity
from jaxdrop.mc.reducers.moments import Moments as Moments
from jaxdrop.mc.reducers.quantiles import Quantiles as Quantiles
