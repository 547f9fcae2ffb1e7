"""Linen models that draw in the ways of other people's code.

Each says which modules ask for a key in training, and is applied in training mode with its
statistics at rest (`rest=True`, which a predictor must bring about by itself).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from flax import nnx

import jaxdrop.linen as jl
from tests.normals import standard_normal

KEY = jax.random.key(0)
X = standard_normal(1, (4, 8))
STEPS = standard_normal(2, (4, 5, 8))


@dataclass(frozen=True)
class Pattern:
    """A model and its call in training mode.

    Attributes:
      model: The model.
      sites: Paths of the modules that ask for a key in training, and their streams.
      x: Its inputs.
      train: Arguments of the call in training.
      evaluate: Arguments of the call at evaluation; None if they are the same.
      streams: The streams of keys in training.
      options: Options of `stochastic`.
      easy: Whether a call with the arguments of evaluation can draw the same.
      oracle: The model with its statistics at rest; by default the model itself.
    """

    model: Any
    sites: Mapping[str, str]
    x: Any = field(default_factory=lambda: X)
    train: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Mapping[str, Any] | None = None
    streams: tuple[str, ...] = ("dropout",)
    options: Mapping[str, Any] = field(default_factory=dict)
    easy: bool = False
    oracle: Any = None
    init: Callable[[Any], Any] | None = None


def drop(key, x, rate: float):
    """Dropout as many write it."""
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


class AttentionByHand(nn.Module):
    """BERT, GPT-2 and ViT of a well-known library: weights dropped by a function."""

    rate: float = 0.3

    @nn.compact
    def __call__(self, x, deterministic: bool = True):
        q, k, v = (nn.Dense(8, name=name)(x) for name in "qkv")
        key = None if deterministic else self.make_rng("dropout")
        weights = nn.dot_product_attention_weights(
            q[..., None, :],
            k[..., None, :],
            dropout_rng=key,
            dropout_rate=self.rate,
            deterministic=deterministic,
        )
        return jnp.einsum("...hqk,...khd->...qhd", weights, v[..., None, :])[..., 0, :]


class Encoder(nn.Module):
    def setup(self):
        self.attention, self.dropout, self.norm = AttentionByHand(), nn.Dropout(0.2), nn.LayerNorm()

    def __call__(self, x, deterministic: bool = True):
        x = self.norm(x + self.dropout(self.attention(x, deterministic), deterministic=deterministic))
        return x.mean(1)


class DropPath(nn.Module):
    """Stochastic depth, by hand, from a separate stream."""

    rate: float

    @nn.compact
    def __call__(self, x, is_training: bool):
        if not is_training:
            return x
        keep = jax.random.bernoulli(self.make_rng("drop_path"), 1 - self.rate, (x.shape[0], 1))
        return x * keep / (1 - self.rate)


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x, *, is_training: bool):
        x = nn.Dropout(0.2)(x, deterministic=not is_training)
        return x + DropPath(0.5)(nn.Dense(8)(x), is_training)


class ByScope(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        return drop(self.scope.make_rng("dropout"), x, 0.5) if train else x


class OwnDropout(nn.Dropout):
    """A subclass with another signature."""

    @nn.compact
    def __call__(self, x, training: bool):
        return super().__call__(x, deterministic=not training)


class OwnNorm(nn.BatchNorm):
    @nn.compact
    def __call__(self, x, training: bool):
        return super().__call__(x, use_running_average=not training)


class OwnAttention(nn.MultiHeadDotProductAttention):
    @nn.compact
    def __call__(self, x, training: bool):
        return super().__call__(x, x, deterministic=not training)


class Subclasses(nn.Module):
    rest: bool = False

    @nn.compact
    def __call__(self, x, training: bool = False):
        x = OwnAttention(2, dropout_rate=0.3, name="attention")(x, training).mean(1)
        x = OwnNorm(name="norm")(nn.Dense(8)(x), training and not self.rest)
        return OwnDropout(0.5, name="dropout")(x, training)


class Gated(nn.Module):
    """Dropout that exists in training only."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dense(8)(x)
        if train:
            x = nn.Dropout(0.5, deterministic=False)(x)
        return x


class Counting(nn.Module):
    """A counter and a moving code book, written in passing."""

    @nn.compact
    def __call__(self, x, train: bool):
        count = self.variable("counters", "calls", lambda: jnp.zeros((), jnp.int32))
        book = self.variable("vq", "book", lambda: jnp.ones((3, 8)))
        nearest = book.value[jnp.argmin(((x[:, None] - book.value[None]) ** 2).sum(-1), -1)]
        if not self.is_initializing():
            count.value += 1
            book.value = 0.9 * book.value + 0.1 * x.mean(0, keepdims=True)
        self.sow("intermediates", "nearest", nearest)
        return nn.Dropout(0.5)(x + nearest, deterministic=not train)


class Heteroscedastic(nn.Module):
    """A head whose noise is on at evaluation too."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dropout(0.5)(nn.Dense(8)(x), deterministic=not train)
        mean, scale = nn.Dense(3)(x), nn.softplus(nn.Dense(3)(x))
        return mean + scale * jax.random.normal(self.make_rng("noise"), mean.shape)


class Layer(nn.Module):
    deterministic: bool

    @nn.compact
    def __call__(self, x, _=None):
        x = drop(self.make_rng("dropout"), x, 0.2) if not self.deterministic else x
        return nn.Dropout(0.3, deterministic=self.deterministic)(nn.Dense(8)(x)), None


class Scanned(nn.Module):
    deterministic: bool = False

    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            nn.remat(Layer),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=3,
        )
        return scan(self.deterministic, name="layers")(x)[0]


class Jitted(nn.Module):
    @nn.compact
    def __call__(self, x):
        x, _ = nn.jit(Layer)(False, name="a")(x)
        return Layer(False, name="b")(x)[0]


class Mapped(nn.Module):
    @nn.compact
    def __call__(self, x):
        many = nn.vmap(
            Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=None,
            axis_size=3,
        )
        return many(False, name="members")(x)[0].mean(0)


class Shared(nn.Module):
    """Two modules in one scope."""

    @nn.compact
    def __call__(self, x):
        inner = Layer(False, name=None)
        nn.share_scope(self, inner)
        return inner(x)[0]


class Boxed(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        kernel = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
        return nn.Dropout(0.5)(nn.Dense(8, kernel_init=kernel)(x), deterministic=not train)


class Inner(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.dropout = nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.linear(x))


class Bridged(nn.Module):
    """An NNX module inside."""

    @nn.compact
    def __call__(self, x):
        return nnx.bridge.ToLinen(Inner, name="nnx")(x)


@flax.struct.dataclass
class Config:
    rate: float = 0.3
    deterministic: bool = False


class Configured(nn.Module):
    """A mode in a configuration, as in Flax's own examples."""

    config: Config

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(self.config.rate, deterministic=self.config.deterministic)(nn.Dense(8)(x))


class Frozen(nn.Module):
    """A backbone that training never turns on."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dropout(0.5, deterministic=True, name="backbone")(nn.Dense(8)(x))
        return nn.Dropout(0.5, name="head")(x, deterministic=not train)


class Asking(nn.Module):
    """A stream that is used if it is there, and the default stream."""

    @nn.compact
    def __call__(self, x):
        x = drop(self.make_rng(), x, 0.2)
        return nn.Dense(3)(drop(self.make_rng("token"), x, 0.2) if self.has_rng("token") else x)


class Handed(nn.Module):
    """Flax's Dropout with a key of its parent."""

    @nn.compact
    def __call__(self, x, train: bool):
        key = self.make_rng("dropout") if train else None
        return nn.Dropout(0.5)(x, deterministic=not train, rng=key)


class Several(nn.Module):
    """Token ids, a mask and an option."""

    @nn.compact
    def __call__(self, ids, *, mask, train: bool):
        x = nn.Embed(10, 8)(ids)
        x = nn.Dropout(0.5)(x, deterministic=not train)
        return (x * mask[..., None]).sum(1)


class Encoding(nn.Module):
    def setup(self):
        self.dense, self.dropout = nn.Dense(8), nn.Dropout(0.5)

    def __call__(self, x):
        return self.dense(x)

    def encode(self, x, train: bool = False):
        return self.dropout(self.dense(x), deterministic=not train)


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        cell = jl.RecurrentDropoutCell(nn.LSTMCell(8), 0.4, deterministic=not train, name="cell")
        return nn.RNN(cell, name="rnn")(x)[:, -1]


class Normalized(nn.Module):
    rest: bool = False

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train or self.rest)(nn.Dense(8)(x))
        x = nn.SpectralNorm(nn.Dense(8))(x, update_stats=train and not self.rest)
        return jl.Dropout(0.5)(nn.relu(x), deterministic=not train)


class NormByHand(nn.Module):
    """A norm of somebody's own, with Flax's name of its mode."""

    use_running_average: bool

    @nn.compact
    def __call__(self, x):
        mean = self.variable("batch_stats", "mean", lambda: jnp.ones(x.shape[1:]))
        if self.use_running_average:
            return x - mean.value[None]
        if not self.is_initializing():
            mean.value = 0.9 * mean.value + 0.1 * x.mean(0)
        return x - x.mean(0, keepdims=True)


class NormalizedByHand(nn.Module):
    rest: bool = False

    @nn.compact
    def __call__(self, x, train: bool = False):
        return nn.Dropout(0.5)(NormByHand(not train or self.rest)(x), deterministic=not train)


TRAIN, EVALUATE = {"train": True}, {"train": False}
TOKENS = {"ids": jnp.arange(20).reshape(4, 5) % 10, "mask": jnp.ones((4, 5)).at[1, 3:].set(0)}
PATTERNS = {
    "attention by hand": Pattern(
        Encoder(), {"attention": "dropout", "dropout": "dropout"}, STEPS, {"deterministic": False}, {}
    ),
    "stochastic depth by hand": Pattern(
        Residual(),
        {"Dropout_0": "dropout", "DropPath_0": "drop_path"},
        train={"is_training": True},
        evaluate={"is_training": False},
        streams=("dropout", "drop_path"),
    ),
    "scope": Pattern(ByScope(), {"": "dropout"}, train=TRAIN, evaluate=EVALUATE),
    "subclasses": Pattern(
        Subclasses(),
        {"attention": "dropout", "dropout": "dropout"},
        STEPS,
        {"training": True},
        {},
        easy=True,
        oracle=Subclasses(rest=True),
    ),
    "dropout in training only": Pattern(Gated(), {"Dropout_0": "dropout"}, train=TRAIN, evaluate={}),
    "written in passing": Pattern(
        Counting(), {"Dropout_0": "dropout"}, train=TRAIN, evaluate=EVALUATE, easy=True
    ),
    "noise at evaluation": Pattern(
        Heteroscedastic(),
        {"Dropout_0": "dropout", "": "noise"},
        train=TRAIN,
        evaluate={},
        streams=("dropout", "noise"),
        easy=True,
    ),
    "scan of remat": Pattern(Scanned(), {"layers": "dropout", "layers/Dropout_0": "dropout"}),
    "jit": Pattern(Jitted(), dict.fromkeys(("a", "a/Dropout_0", "b", "b/Dropout_0"), "dropout")),
    "vmap": Pattern(Mapped(), {"members": "dropout", "members/Dropout_0": "dropout"}),
    "one scope for two": Pattern(Shared(), {"": "dropout", "Dropout_0": "dropout"}),
    "boxed parameters": Pattern(Boxed(), {"Dropout_0": "dropout"}, train=TRAIN, evaluate=EVALUATE, easy=True),
    "NNX inside": Pattern(Bridged(), {"nnx": "default, dropout"}, streams=("dropout", "default")),
    "configuration": Pattern(Configured(Config()), {"Dropout_0": "dropout"}),
    "frozen backbone": Pattern(Frozen(), {"head": "dropout"}, train=TRAIN, evaluate={}, easy=True),
    "streams asked for": Pattern(Asking(), {"": "params, token"}, streams=("params", "token")),
    "key handed on": Pattern(Handed(), {"": "dropout"}, train=TRAIN, evaluate=EVALUATE),
    "several inputs": Pattern(
        Several(), {"Dropout_0": "dropout"}, TOKENS, TRAIN, EVALUATE, options={"unpack": True}, easy=True
    ),
    "method by name": Pattern(
        Encoding(), {"dropout": "dropout"}, train=TRAIN, evaluate={}, options={"method": "encode"}, easy=True
    ),
    "method by function": Pattern(
        Encoding(), {"dropout": "dropout"}, options={"method": lambda module, x: module.encode(x, train=True)}
    ),
    "recurrent": Pattern(Recurrent(), {"cell": "dropout"}, STEPS, TRAIN, EVALUATE, easy=True),
    "statistics": Pattern(
        Normalized(),
        {"Dropout_0": "dropout"},
        train=TRAIN,
        evaluate={},
        easy=True,
        oracle=Normalized(rest=True),
    ),
    "statistics by hand": Pattern(
        NormalizedByHand(),
        {"Dropout_0": "dropout"},
        train=TRAIN,
        evaluate={},
        easy=True,
        oracle=NormalizedByHand(rest=True),
    ),
}
