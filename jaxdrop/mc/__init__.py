"""Monte-Carlo dropout: samples of any prediction `predict(key, x)`, and statistics streamed from them."""

from jaxdrop.mc.datasets import estimate_dataset as estimate_dataset
from jaxdrop.mc.estimator import Estimate as Estimate
from jaxdrop.mc.estimator import State as State
from jaxdrop.mc.estimator import accumulate as accumulate
from jaxdrop.mc.estimator import estimate as estimate
from jaxdrop.mc.estimator import finish as finish
from jaxdrop.mc.estimator import merge as merge
from jaxdrop.mc.last_layer import LastLayer as LastLayer
from jaxdrop.mc.last_layer import last_layer as last_layer
from jaxdrop.mc.reducers import Categorical as Categorical
from jaxdrop.mc.reducers import CategoricalLogDensity as CategoricalLogDensity
from jaxdrop.mc.reducers import GaussianLogDensity as GaussianLogDensity
from jaxdrop.mc.reducers import Grouped as Grouped
from jaxdrop.mc.reducers import Moments as Moments
from jaxdrop.mc.reducers import Quantiles as Quantiles
from jaxdrop.mc.reducers import Reducer as Reducer
from jaxdrop.mc.sampler import sample as sample
from jaxdrop.mc.stopping import Until as Until
