"""The family of regularizers as the law suite sees it: a new member is covered once listed here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen, nnx

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx


@dataclass(frozen=True)
class Member:
    """A regularizer, its shells, and what its paper says of it."""

    name: str
    pure: Callable
    linen: type[linen.Module]
    nnx: type[nnx.Module]
    # The variance of one element, given the input and the level.
    variance: Callable[[jax.Array, float], jax.Array]
    level: str = "rate"
    # Whether what is dropped is replaced, so that an infinity there is gone.
    selects: bool = True
    # Whether the moments hold for a standardised input only.
    standardised: bool = False
    # The elements that share one draw, for an input of shape [64, 32, 128].
    shared: int = 1

    @property
    def is_rate(self) -> bool:
        return self.level == "rate"


def _bernoulli(x: jax.Array, p: float) -> jax.Array:
    return x**2 * p / (1 - p)


FAMILY = (
    Member("dropout", jaxdrop.dropout, jaxdrop.linen.Dropout, jaxdrop.nnx.Dropout, _bernoulli),
    Member(
        "spatial_dropout",
        jaxdrop.spatial_dropout,
        jaxdrop.linen.SpatialDropout,
        jaxdrop.nnx.SpatialDropout,
        _bernoulli,
        shared=32,
    ),
    Member(
        "gaussian_dropout",
        jaxdrop.gaussian_dropout,
        jaxdrop.linen.GaussianDropout,
        jaxdrop.nnx.GaussianDropout,
        _bernoulli,
        selects=False,
    ),
    Member(
        "gaussian_noise",
        jaxdrop.gaussian_noise,
        jaxdrop.linen.GaussianNoise,
        jaxdrop.nnx.GaussianNoise,
        lambda x, stddev: jnp.full_like(x, stddev**2),
        level="stddev",
        selects=False,
    ),
    Member(
        "alpha_dropout",
        jaxdrop.alpha_dropout,
        jaxdrop.linen.AlphaDropout,
        jaxdrop.nnx.AlphaDropout,
        lambda x, _: jnp.ones_like(x),
        standardised=True,
    ),
)

# The members, and plain dropout in each of its other modes, which keep every law as well.
VARIANTS = (
    *FAMILY,
    Member(
        "dropout of 8 bits",
        partial(jaxdrop.dropout, bits=8),
        partial(jaxdrop.linen.Dropout, bits=8),
        partial(jaxdrop.nnx.Dropout, bits=8),
        lambda x, p: _bernoulli(x, 1 - round((1 - p) * 256) / 256),
    ),
    Member(
        "dropout of 32 bits",
        partial(jaxdrop.dropout, bits=32),
        partial(jaxdrop.linen.Dropout, bits=32),
        partial(jaxdrop.nnx.Dropout, bits=32),
        _bernoulli,
    ),
    Member(
        "dropout with broadcast_dims",
        partial(jaxdrop.dropout, broadcast_dims=(1,)),
        partial(jaxdrop.linen.Dropout, broadcast_dims=(1,)),
        partial(jaxdrop.nnx.Dropout, broadcast_dims=(1,)),
        _bernoulli,
        shared=32,
    ),
)
