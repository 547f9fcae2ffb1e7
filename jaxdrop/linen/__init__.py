"""Flax Linen modules: the functions of `jaxdrop` with a rate, a mode and a key.

`Dropout` takes every argument of Flax's own: `from jaxdrop.linen import Dropout` switches a model.
`bits=32` reproduces Flax's masks exactly, and in float32 its outputs. Unlike Flax's, it takes only
real floating-point arrays, and scales half precision in float32.

All modules but `Masksembles` and `MCDropout`, which is always active, have `deterministic` (if true,
no noise; set here or in the call). All but `Masksembles` have `rng_collection` (the collection that
the key is drawn from, "dropout" by default). Options are keyword-only. `jaxdrop.nnx` has the same
modules.
"""

from jaxdrop.linen.attention import AttentionDropout, DropHead, DropKey, attention_fn
from jaxdrop.linen.batch_norm import mc_batch_norm
from jaxdrop.linen.dense import ShakeoutDense, SparseVariationalDense, VariationalDense
from jaxdrop.linen.elements import AlphaDropout, Dropout, GaussianDropout, GaussianNoise, Standout
from jaxdrop.linen.graphs import DropEdge, DropMessage, DropNode
from jaxdrop.linen.layers import DropConnect, DropLayer, EmbeddingDropout, TargetedDropout
from jaxdrop.linen.learned import ConcreteDropout, Masksembles
from jaxdrop.linen.predictive import MCDropout, stochastic
from jaxdrop.linen.rates import list_rates, with_rates
from jaxdrop.linen.recurrent import RecurrentDropoutCell, ZoneoutCell
from jaxdrop.linen.sequences import LockedDropout, NEFTune, WordDropout, Zoneout
from jaxdrop.linen.structured import (
    Cutout,
    DropBlock,
    DropPath,
    FeatureAlphaDropout,
    PatchDropout,
    ShakeDrop,
    SpatialDropout,
)

__all__ = [
    "AlphaDropout",
    "AttentionDropout",
    "ConcreteDropout",
    "Cutout",
    "DropBlock",
    "DropConnect",
    "DropEdge",
    "DropHead",
    "DropKey",
    "DropLayer",
    "DropMessage",
    "DropNode",
    "DropPath",
    "Dropout",
    "EmbeddingDropout",
    "FeatureAlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "LockedDropout",
    "MCDropout",
    "Masksembles",
    "NEFTune",
    "PatchDropout",
    "RecurrentDropoutCell",
    "ShakeDrop",
    "ShakeoutDense",
    "SparseVariationalDense",
    "SpatialDropout",
    "Standout",
    "TargetedDropout",
    "VariationalDense",
    "WordDropout",
    "Zoneout",
    "ZoneoutCell",
    "attention_fn",
    "list_rates",
    "mc_batch_norm",
    "stochastic",
    "with_rates",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
