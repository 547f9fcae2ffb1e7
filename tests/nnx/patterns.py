"""Small models in the style of other people's code, for the oracle."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import jaxdrop
import jaxdrop.nnx as jn
from tests.normals import standard_normal

X = standard_normal(1, (4, 8))


@dataclasses.dataclass
class Case:
    """A model and its sites.

    Attributes:
      make: Makes the model, as a user hands it over.
      sites: Paths of the modules that ask for keys in training, known by hand.
      train: The call of training: of a model in training mode, and further keys.
      x: Inputs.
      options: Options of `stochastic`.
      lacking: Paths of modules that the predictor gives a stream.
      sources: How many further keys the call takes.
    """

    make: Callable[[nnx.Rngs], nnx.Module]
    sites: list[str]
    train: Callable[..., Any] = lambda model, x: model(x)
    x: Any = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    lacking: tuple[str, ...] = ()
    sources: int = 0


class Block(nnx.Module):
    """A transformer block, its dropout in an attention and in a `Sequential`."""

    def __init__(self, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            2, 8, dropout_rate=0.3, broadcast_dropout=False, decode=False, rngs=rngs
        )
        self.mlp = nnx.Sequential(nnx.Linear(8, 8, rngs=rngs), nnx.gelu, nnx.Dropout(0.4, rngs=rngs))

    def __call__(self, x, mask=None):
        x = x + self.attention(self.norm(x), mask=mask)
        return x + self.mlp(x)


class Transformer(nnx.Module):
    """A list and a dictionary of parts."""

    def __init__(self, rngs: nnx.Rngs):
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.parts = nnx.Dict(dropout=nnx.Dropout(0.1, rngs=rngs), head=nnx.Linear(8, 3, rngs=rngs))

    def __call__(self, x):
        x = jnp.repeat(x[:, None], 3, 1) + jnp.arange(3.0)[None, :, None]
        for block in self.blocks:
            x = block(x)
        return self.parts["head"](self.parts["dropout"](x.mean(1)))


class ConvNet(nnx.Module):
    """The mode is an argument of the call, which sets it in each layer."""

    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.norm = nnx.Linear(8, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.dropout, self.head = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x, train: bool = True):
        x = nnx.relu(self.norm(self.linear(x), use_running_average=not train))
        return self.head(self.dropout(x, deterministic=not train))


class DropPath(nnx.Module):
    """Stochastic depth by hand, with a field for the mode."""

    def __init__(self, drop_prob: float, rngs: nnx.Rngs):
        self.drop_prob, self.rngs, self.deterministic = drop_prob, rngs.fork(), False

    def __call__(self, x):
        if self.deterministic:
            return x
        keep = jax.random.bernoulli(self.rngs.dropout(), 1 - self.drop_prob, (x.shape[0], 1))
        return jnp.where(keep, x / (1 - self.drop_prob), 0)


class Residual(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.path = nnx.Linear(8, 8, rngs=rngs), DropPath(0.4, rngs)

    def __call__(self, x):
        return x + self.path(self.linear(x))


class Autoencoder(nnx.Module):
    """Noise by hand in the parent, through the streams' own methods, and in a method."""

    def __init__(self, rngs: nnx.Rngs):
        self.mean, self.scale = nnx.Linear(8, 4, rngs=rngs), nnx.Linear(8, 4, rngs=rngs)
        self.decoder, self.rngs = nnx.Linear(4, 8, rngs=rngs), rngs.fork()

    def encode(self, x):
        return self.mean(x) + jnp.exp(self.scale(x)) * self.rngs.noise.normal((x.shape[0], 4))

    def __call__(self, x):
        return self.decoder(self.encode(x))


class Told(nnx.Module):
    """Dropout without streams, which come with the call."""

    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.first, self.second = nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5), nnx.Dropout(0.3)

    def __call__(self, x, *, rngs: nnx.Rngs | None = None):
        return self.second(self.linear(self.first(x, rngs=rngs)), rngs=rngs)


class Keyed(nnx.Module):
    """A key comes with the call, as in Equinox."""

    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.dropout = nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5)

    def __call__(self, x, key):
        first, second = jax.random.split(key)
        return jaxdrop.dropout(second, self.linear(self.dropout(x, rngs=first)), 0.25)


class Lacking(nnx.Module):
    """Dropout without streams at all, as for a model that is only evaluated."""

    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.dropout, self.own = nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5), jn.Dropout(0.3)

    def __call__(self, x):
        return self.own(self.linear(self.dropout(x)))


class Frozen(nnx.Module):
    """A backbone that stays in evaluation mode when the model is trained."""

    def __init__(self, rngs: nnx.Rngs):
        self.backbone = nnx.Sequential(nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
        self.dropout, self.head = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

    def train(self, **attributes):
        super().train(**attributes)
        self.backbone.eval()

    def __call__(self, x):
        return self.head(self.dropout(self.backbone(x)))


class Cell(nnx.RNNCellBase):
    """A cell with dropout at every step."""

    def __init__(self, rngs: nnx.Rngs):
        self.cell, self.dropout = nnx.LSTMCell(8, 4, rngs=rngs), nnx.Dropout(0.4, rngs=rngs)

    def __call__(self, carry, x):
        return self.cell(carry, self.dropout(x))

    def initialize_carry(self, input_shape, rngs=None):
        return self.cell.initialize_carry(input_shape, rngs)

    @property
    def num_feature_axes(self):
        return 1


class Recurrent(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        zoneout = jn.ZoneoutCell(nnx.LSTMCell(4, 4, rngs=rngs), 0.4, rngs=rngs)
        self.first, self.second = nnx.RNN(Cell(rngs), rngs=rngs), nnx.RNN(zoneout)

    def __call__(self, x):
        return self.second(self.first(jnp.repeat(x[:, None], 3, 1)))[:, -1]


class Layer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.dropout = nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)

    def __call__(self, x):
        return self.dropout(nnx.tanh(self.norm(self.linear(x))))


class Stack(nnx.Module):
    """Layers under `nnx.scan`, made under `nnx.vmap`."""

    def __init__(self, rngs: nnx.Rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=0, out_axes=0)
        def make(rngs):
            return Layer(rngs)

        self.layers = make(rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def run(layer, x):
            return layer(x)

        return run(self.layers, x)


class Lifted(nnx.Module):
    """Layers under `nnx.jit`, `nnx.remat` and `nnx.cond`."""

    def __init__(self, rngs: nnx.Rngs):
        self.jitted, self.saved, self.branch = Layer(rngs), Layer(rngs), Layer(rngs)

    def __call__(self, x):
        x = nnx.jit(lambda layer, x: layer(x))(self.jitted, x)
        x = nnx.remat(lambda layer, x: layer(x))(self.saved, x)
        return nnx.cond(x.sum() > -1e9, lambda layer, x: layer(x), lambda layer, x: layer(-x), self.branch, x)


class MyDropout(nnx.Dropout):
    """The mode has another name."""

    def __call__(self, x, training: bool = False):
        return super().__call__(x, deterministic=not training)


class MyNorm(nnx.BatchNorm):
    def __call__(self, x, training: bool = False):
        return super().__call__(x, use_running_average=not training)


class MyAttention(nnx.MultiHeadAttention):
    def __call__(self, x, deterministic: bool = False):
        return super().__call__(x, deterministic=deterministic)


class Subclasses(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.norm = nnx.Linear(8, 8, rngs=rngs), MyNorm(8, rngs=rngs)
        self.attention = MyAttention(2, 8, dropout_rate=0.3, broadcast_dropout=False, decode=False, rngs=rngs)
        self.dropout = MyDropout(0.5, rngs=rngs)

    def __call__(self, x, training: bool = False):
        x = self.norm(self.linear(x), training)
        x = self.attention(jnp.stack([x, 1 - x], 1), deterministic=not training)[:, 0]
        return self.dropout(x, training)


class Shared(nnx.Module):
    """One module at two places."""

    def __init__(self, rngs: nnx.Rngs):
        self.linear = nnx.Linear(8, 8, rngs=rngs)
        self.dropout = self.again = nnx.Dropout(0.4, rngs=rngs)

    def __call__(self, x):
        return self.again(self.linear(self.dropout(x)))


class Spectral(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.norm = nnx.SpectralNorm(nnx.Linear(8, 8, rngs=rngs), rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, train: bool = True):
        return self.dropout(self.norm(x, update_stats=train))


class Count(nnx.Variable): ...


class Writing(nnx.Module):
    """Counts its calls, and sows what it saw."""

    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.dropout, self.count = (
            nnx.Linear(8, 8, rngs=rngs),
            nnx.Dropout(0.5, rngs=rngs),
            Count(jnp.array(0)),
        )

    def __call__(self, x):
        self.count[...] += 1
        x = self.dropout(self.linear(x))
        self.sow(nnx.Intermediate, "seen", x)
        return x


class OwnNorm(nnx.Module):
    """A batch norm by hand, with a field that `train()` and `eval()` do not set."""

    def __init__(self):
        self.training, self.mean = True, nnx.BatchStat(jnp.full((1, 8), 0.3))

    def __call__(self, x):
        mean = x.mean(0, keepdims=True) if self.training else self.mean[...]
        if self.training:
            self.mean[...] = 0.9 * self.mean[...] + 0.1 * mean
        return x - mean


class Owner(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.norm, self.dropout = OwnNorm(), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(x))


class TwoInputs(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.dropout = nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, image, *, scale, offset=0.0):
        return self.dropout(self.linear(image)) * scale + offset


class Streams(nnx.Module):
    """Draws from streams that it makes for the call."""

    def __init__(self, rngs: nnx.Rngs):
        self.rngs, self.linear, self.dropout = rngs.fork(), nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5)

    def __call__(self, x):
        rngs = self.rngs.fork()
        return self.dropout(self.linear(self.dropout(x, rngs=rngs)), rngs=rngs)


class LinenNet(nn.Module):
    at_rest: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=self.at_rest)(nn.Dense(8)(x))
        return nn.Dense(8)(nn.Dropout(0.5, deterministic=False)(x))


class LinenInside(nnx.Module):
    """A Linen model among NNX modules."""

    def __init__(self, rngs: nnx.Rngs):
        self.linen = nnx.bridge.ToNNX(LinenNet(at_rest=True), rngs=rngs).lazy_init(X)
        self.linen.to_nnx__module = LinenNet()
        self.dropout = nnx.Dropout(0.3, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.linen(x))

    def with_linen_at_rest(self, x):
        self.linen.to_nnx__module = LinenNet(at_rest=True)
        return self(x)


class Nested(nn.Module):
    """An NNX module in a Linen model."""

    kind: Any = nnx.Dropout

    @nn.compact
    def __call__(self, x):
        return nn.Dense(8)(nnx.bridge.ToLinen(self.kind, args=(0.5,))(x))


class Twice(nnx.Module):
    """A Linen model around an NNX module, among NNX modules."""

    def __init__(self, rngs: nnx.Rngs):
        self.linen = nnx.bridge.ToNNX(Nested(), rngs=nnx.Rngs(params=0, dropout=1)).lazy_init(X)

    def __call__(self, x):
        return self.linen(x)


def evaluated(make: Callable[[nnx.Rngs], nnx.Module]) -> Callable[[nnx.Rngs], nnx.Module]:
    """Makes a model in evaluation mode."""

    def made(rngs: nnx.Rngs) -> nnx.Module:
        model = make(rngs)
        model.eval()
        return model

    return made


BLOCK = ["attention", "mlp/layers/2"]
CASES = {
    "transformer": Case(
        evaluated(Transformer),
        [f"blocks/{i}/{path}" for i in range(2) for path in BLOCK] + ["parts/dropout"],
    ),
    "mode of training": Case(
        ConvNet, ["dropout"], lambda model, x: model(x, train=True), options={"train": True}
    ),
    "mode of evaluation": Case(
        ConvNet, ["dropout"], lambda model, x: model(x, train=True), options={"train": False}
    ),
    "stochastic depth": Case(evaluated(Residual), ["path"]),
    "noise of the parent": Case(Autoencoder, [""]),
    "method": Case(Autoencoder, [""], lambda model, x: model.encode(x), options={"method": "encode"}),
    "streams in the call": Case(
        Told, ["first", "second"], lambda model, x, key: model(x, rngs=nnx.Rngs(key)), sources=1
    ),
    "key in the call": Case(Keyed, ["", "dropout"], lambda model, x, key: model(x, key), sources=1),
    "no streams": Case(evaluated(Lacking), ["dropout", "own"], lacking=("dropout", "own")),
    "frozen": Case(evaluated(Frozen), ["dropout"]),
    "recurrent": Case(evaluated(Recurrent), ["first/cell/dropout", "second/cell"]),
    "scan": Case(evaluated(Stack), ["layers/dropout"]),
    "lifted": Case(Lifted, ["jitted/dropout", "saved/dropout", "branch/dropout"]),
    "subclasses": Case(
        evaluated(Subclasses), ["attention", "dropout"], lambda model, x: model(x, training=True)
    ),
    "shared": Case(Shared, ["again"]),
    "spectral norm": Case(Spectral, ["dropout"], lambda model, x: model(x, train=False)),
    "counter": Case(Writing, ["dropout"]),
    "own norm": Case(Owner, ["dropout"], lambda model, x: model.dropout(x - jnp.full((1, 8), 0.3))),
    "dictionary": Case(
        evaluated(TwoInputs),
        ["dropout"],
        lambda model, x: model(**x),
        x={"image": X, "scale": jnp.arange(4.0)[:, None]},
        options={"unpack": True},
    ),
    "linen": Case(LinenInside, ["linen/Dropout_0", "dropout"], lambda model, x: model.with_linen_at_rest(x)),
    "nnx in linen": Case(Twice, ["linen/ToLinen_0"]),
    "made streams": Case(Streams, ["dropout"]),
}
