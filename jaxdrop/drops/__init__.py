"""The family of regularizers: pure functions of a key, an array and a rate, one a file."""

from jaxdrop.drops.alpha import alpha_dropout as alpha_dropout
from jaxdrop.drops.bernoulli import dropout as dropout
from jaxdrop.drops.gaussian import gaussian_dropout as gaussian_dropout
from jaxdrop.drops.noise import gaussian_noise as gaussian_noise
from jaxdrop.drops.spatial import spatial_dropout as spatial_dropout
