"""Dropout and everything near it, in JAX: pure functions of an explicit PRNG key."""

from jaxdrop import penalties as penalties
from jaxdrop import training as training
from jaxdrop.drops import alpha_dropout as alpha_dropout
from jaxdrop.drops import dropout as dropout
from jaxdrop.drops import gaussian_dropout as gaussian_dropout
from jaxdrop.drops import gaussian_noise as gaussian_noise
from jaxdrop.drops import spatial_dropout as spatial_dropout
from jaxdrop.masks import apply_mask as apply_mask
from jaxdrop.masks import keep_mask as keep_mask
from jaxdrop.masks import spatial_mask as spatial_mask
