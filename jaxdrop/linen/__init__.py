"""Flax Linen modules: thin shells over the pure functions of `jaxdrop`.

A shell owns its rate, whether it is deterministic, and where its key comes from. `Dropout` takes
every argument of Flax's own: with `from jaxdrop.linen import Dropout` a model switches, and with
`bits=32` it goes on with the very masks that it had, and in float32 with the very outputs. Unlike
Flax's, it takes real floating-point arrays alone, and scales half precision in float32.

Beside those that a module's own page names, all but `Masksembles` have the fields `deterministic`
(whether to draw nothing; here or at call time; `MCDropout` has it not, for it always draws) and
`rng_collection` (the collection that the key is drawn from, "dropout" by default). Options are given
by name. `jaxdrop.nnx` has the same modules.
"""

from jaxdrop.linen.attention import AttentionDropout as AttentionDropout
from jaxdrop.linen.attention import DropHead as DropHead
from jaxdrop.linen.attention import DropKey as DropKey
from jaxdrop.linen.attention import attention_fn as attention_fn
from jaxdrop.linen.dense import ShakeoutDense as ShakeoutDense
from jaxdrop.linen.dense import SparseVariationalDense as SparseVariationalDense
from jaxdrop.linen.dense import VariationalDense as VariationalDense
from jaxdrop.linen.elements import AlphaDropout as AlphaDropout
from jaxdrop.linen.elements import Dropout as Dropout
from jaxdrop.linen.elements import GaussianDropout as GaussianDropout
from jaxdrop.linen.elements import GaussianNoise as GaussianNoise
from jaxdrop.linen.elements import Standout as Standout
from jaxdrop.linen.graphs import DropEdge as DropEdge
from jaxdrop.linen.layers import DropConnect as DropConnect
from jaxdrop.linen.layers import DropLayer as DropLayer
from jaxdrop.linen.layers import EmbeddingDropout as EmbeddingDropout
from jaxdrop.linen.layers import TargetedDropout as TargetedDropout
from jaxdrop.linen.learned import ConcreteDropout as ConcreteDropout
from jaxdrop.linen.learned import Masksembles as Masksembles
from jaxdrop.linen.predictive import MCDropout as MCDropout
from jaxdrop.linen.predictive import stochastic as stochastic
from jaxdrop.linen.recurrent import RecurrentDropoutCell as RecurrentDropoutCell
from jaxdrop.linen.recurrent import ZoneoutCell as ZoneoutCell
from jaxdrop.linen.sequences import LockedDropout as LockedDropout
from jaxdrop.linen.sequences import WordDropout as WordDropout
from jaxdrop.linen.sequences import Zoneout as Zoneout
from jaxdrop.linen.structured import Cutout as Cutout
from jaxdrop.linen.structured import DropBlock as DropBlock
from jaxdrop.linen.structured import DropPath as DropPath
from jaxdrop.linen.structured import FeatureAlphaDropout as FeatureAlphaDropout
from jaxdrop.linen.structured import PatchDropout as PatchDropout
from jaxdrop.linen.structured import SpatialDropout as SpatialDropout
