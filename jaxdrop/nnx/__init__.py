"""Flax NNX modules: thin shells over the pure functions of `jaxdrop`.

A shell owns its rate, whether it is deterministic, and where its key comes from. `Dropout` takes
every argument of Flax's own: with `from jaxdrop.nnx import Dropout` a model switches, and with
`bits=32` it goes on with the very masks that it had, and in float32 with the very outputs. Unlike
Flax's, it takes real floating-point arrays alone, and scales half precision in float32.

Beside those that a module's own page names, all but `Masksembles` have the arguments
`deterministic` (whether to draw nothing; `model.train()` and `model.eval()` set it; `MCDropout` has
it not, for it always draws), `rngs` (where the keys come from: streams, of which one is forked, or
one stream) and `rng_collection` (the name of that one, "dropout" by default). Options are given by
name. `jaxdrop.linen` has the same modules.
"""

from jaxdrop.nnx.attention import AttentionDropout as AttentionDropout
from jaxdrop.nnx.attention import DropHead as DropHead
from jaxdrop.nnx.attention import DropKey as DropKey
from jaxdrop.nnx.attention import attention_fn as attention_fn
from jaxdrop.nnx.dense import ShakeoutDense as ShakeoutDense
from jaxdrop.nnx.dense import SparseVariationalDense as SparseVariationalDense
from jaxdrop.nnx.dense import VariationalDense as VariationalDense
from jaxdrop.nnx.elements import AlphaDropout as AlphaDropout
from jaxdrop.nnx.elements import Dropout as Dropout
from jaxdrop.nnx.elements import GaussianDropout as GaussianDropout
from jaxdrop.nnx.elements import GaussianNoise as GaussianNoise
from jaxdrop.nnx.elements import Standout as Standout
from jaxdrop.nnx.graphs import DropEdge as DropEdge
from jaxdrop.nnx.layers import DropConnect as DropConnect
from jaxdrop.nnx.layers import DropLayer as DropLayer
from jaxdrop.nnx.layers import EmbeddingDropout as EmbeddingDropout
from jaxdrop.nnx.layers import TargetedDropout as TargetedDropout
from jaxdrop.nnx.learned import ConcreteDropout as ConcreteDropout
from jaxdrop.nnx.learned import Masksembles as Masksembles
from jaxdrop.nnx.predictive import MCDropout as MCDropout
from jaxdrop.nnx.predictive import stochastic as stochastic
from jaxdrop.nnx.recurrent import RecurrentDropoutCell as RecurrentDropoutCell
from jaxdrop.nnx.recurrent import ZoneoutCell as ZoneoutCell
from jaxdrop.nnx.sequences import LockedDropout as LockedDropout
from jaxdrop.nnx.sequences import WordDropout as WordDropout
from jaxdrop.nnx.sequences import Zoneout as Zoneout
from jaxdrop.nnx.structured import Cutout as Cutout
from jaxdrop.nnx.structured import DropBlock as DropBlock
from jaxdrop.nnx.structured import DropPath as DropPath
from jaxdrop.nnx.structured import FeatureAlphaDropout as FeatureAlphaDropout
from jaxdrop.nnx.structured import PatchDropout as PatchDropout
from jaxdrop.nnx.structured import SpatialDropout as SpatialDropout
