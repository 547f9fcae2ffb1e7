"""Flax NNX modules: the functions of `jaxdrop` with a rate, a mode and a stream of keys.

`Dropout` takes every argument of Flax's own: `from jaxdrop.nnx import Dropout` switches a model.
`bits=32` reproduces Flax's masks exactly, and in float32 its outputs. Unlike Flax's, it takes only
real floating-point arrays, and scales half precision in float32.

All modules but `Masksembles` and `MCDropout`, which is always active, have `deterministic` (if true,
no noise; `model.train()` and `model.eval()` set it). All have `rngs` (streams, of which one is forked,
or one stream), and all but `Masksembles` have `rng_collection` (the name of that stream, "dropout" by
default). Options are keyword-only. `jaxdrop.linen` has the same modules.
"""

from jaxdrop.nnx.attention import AttentionDropout, DropHead, DropKey, attention_fn
from jaxdrop.nnx.batch_norm import mc_batch_norm
from jaxdrop.nnx.dense import ShakeoutDense, SparseVariationalDense, VariationalDense
from jaxdrop.nnx.elements import AlphaDropout, Dropout, GaussianDropout, GaussianNoise, Standout
from jaxdrop.nnx.graphs import DropEdge, DropMessage, DropNode
from jaxdrop.nnx.layers import DropConnect, DropLayer, EmbeddingDropout, TargetedDropout
from jaxdrop.nnx.learned import ConcreteDropout, Masksembles
from jaxdrop.nnx.predictive import MCDropout, stochastic
from jaxdrop.nnx.rates import list_rates, with_rates
from jaxdrop.nnx.recurrent import RecurrentDropoutCell, ZoneoutCell
from jaxdrop.nnx.sequences import LockedDropout, NEFTune, WordDropout, Zoneout
from jaxdrop.nnx.structured import (
    Cutout,
    DropBlock,
    DropPath,
    FeatureAlphaDropout,
    PatchDropout,
    ShakeDrop,
    SpatialDropout,
)
from jaxdrop.nnx.trainables import trainable

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
    "trainable",
    "with_rates",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
