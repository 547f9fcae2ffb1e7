"""One small pre-activation ResNet with batch normalization and drop path, in Flax Linen and in Flax NNX.

He et al., "Identity mappings in deep residual networks", 2016; Huang et al., "Deep networks with stochastic
depth", 2016. Branch l of L is dropped with probability `rate * l / L`, for each example. Both networks draw
the mask of branch i from `fold_in(key, i)`: NNX's streams derive keys in this way, and the Linen network
gives them to its branches. The same key therefore gives both the same masks.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax
from flax import nnx

import jaxdrop.linen
import jaxdrop.nnx
from experiments import conv_net
from jaxdrop import penalties, schedules, training

MOMENTUM = 0.9  # of the batch statistics and of the optimizer
KERNEL_INIT = nn.initializers.he_normal()
CLASSES = 10
_PER_EXAMPLE = (1, 2, 3)  # axes that share one decision

# From a rate to a module.
DropPath = Callable[..., Any]
LINEN_DROP_PATHS: dict[str, DropPath] = {
    "Flax": lambda rate: nn.Dropout(rate, broadcast_dims=_PER_EXAMPLE),
    "jaxdrop": lambda rate: jaxdrop.linen.DropPath(rate=rate, bits=32),
}
NNX_DROP_PATHS: dict[str, DropPath] = {
    "Flax": lambda rate: nnx.Dropout(rate, broadcast_dims=_PER_EXAMPLE),
    "jaxdrop": lambda rate: jaxdrop.nnx.DropPath(rate=rate, bits=32),
}


class Shape(NamedTuple):
    """Shape of the network.

    Attributes:
      widths: The channels of each stage; the first map is a quarter of the image's side, and each later stage
        halves it.
      depth: The number of blocks of each stage.
    """

    widths: tuple[int, ...] = (16, 32)
    depth: int = 2

    def blocks(self) -> list[tuple[int, int, int, float]]:
        """Inputs, outputs, stride and share of the rate of each block."""
        count = len(self.widths) * self.depth
        shares = schedules.depth_rates(1.0, count)
        before = (self.widths[0], *self.widths)
        found = []
        for i, share in enumerate(shares):
            stage, place = divmod(i, self.depth)
            inputs = before[stage] if place == 0 else self.widths[stage]
            found.append((inputs, self.widths[stage], 2 if place == 0 and stage else 1, share))
        return found


class LinenBlock(nn.Module):
    """Residual block; its branch is dropped for random examples."""

    width: int
    stride: int
    drop_path: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """The next map; without a key, no noise and the running statistics."""
        y = nn.relu(nn.BatchNorm(key is None, momentum=MOMENTUM, name="norm_0")(x))
        if y.shape[-1] != self.width or self.stride != 1:
            x = nn.Dense(self.width, use_bias=False, kernel_init=KERNEL_INIT, name="shortcut")(
                y[:, :: self.stride, :: self.stride]
            )
        y = conv_net.patches(y, self.stride)
        y = nn.Dense(self.width, use_bias=False, kernel_init=KERNEL_INIT, name="conv_0")(y)
        y = nn.relu(nn.BatchNorm(key is None, momentum=MOMENTUM, name="norm_1")(y))
        y = nn.Dense(self.width, use_bias=False, kernel_init=KERNEL_INIT, name="conv_1")(conv_net.patches(y))
        return x + self.drop_path(y, deterministic=key is None, rng=key)


class LinenResNet(nn.Module):
    """The ResNet in Linen.

    Attributes:
      shape: Widths and depth.
      rate: Drop rate of the last branch; may be traced with jaxdrop's drop path.
      drop_path: From a rate to a module.
    """

    shape: Shape
    rate: Any
    drop_path: DropPath = LINEN_DROP_PATHS["jaxdrop"]

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Logits, `[B, classes]`, of images `[B, side, side, 1]`; without a key, in evaluation mode."""
        x = nn.Dense(self.shape.widths[0], use_bias=False, kernel_init=KERNEL_INIT, name="stem")(stem(x))
        for i, (_, width, stride, share) in enumerate(self.shape.blocks()):
            own = None if key is None else jax.random.fold_in(key, i)
            x = LinenBlock(width, stride, self.drop_path(share * self.rate), name=f"block_{i}")(x, own)
        x = nn.relu(nn.BatchNorm(key is None, momentum=MOMENTUM, name="norm")(x))
        return nn.Dense(CLASSES, name="out")(x.mean((1, 2)))


class NNXBlock(nnx.Module):
    """Residual block; its branch is dropped for random examples."""

    def __init__(self, inputs: int, width: int, stride: int, drop_path: Any, *, rngs: nnx.Rngs):
        def dense(inputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, width, use_bias=False, kernel_init=KERNEL_INIT, rngs=rngs)

        self.stride = stride
        self.norm_0 = nnx.BatchNorm(inputs, momentum=MOMENTUM, rngs=rngs)
        self.norm_1 = nnx.BatchNorm(width, momentum=MOMENTUM, rngs=rngs)
        self.conv_0, self.conv_1 = dense(9 * inputs), dense(9 * width)
        self.shortcut = dense(inputs) if inputs != width or stride != 1 else None
        self.drop_path = drop_path

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None, options: Mapping[str, Any]) -> jax.Array:
        """The next map; without streams, no noise and the running statistics."""
        still = rngs is None
        y = nnx.relu(self.norm_0(x, use_running_average=still))
        if self.shortcut is not None:
            x = self.shortcut(y[:, :: self.stride, :: self.stride])
        y = self.conv_0(conv_net.patches(y, self.stride))
        y = nnx.relu(self.norm_1(y, use_running_average=still))
        y = self.conv_1(conv_net.patches(y))
        return x + self.drop_path(y, deterministic=still, rngs=rngs, **options)


class NNXResNet(nnx.Module):
    """The ResNet in NNX; see `LinenResNet`."""

    def __init__(
        self, shape: Shape, rate: float, drop_path: DropPath = NNX_DROP_PATHS["jaxdrop"], *, rngs: nnx.Rngs
    ):
        width = shape.widths[0]
        self.shares = tuple(share for *_, share in shape.blocks())
        self.stem = nnx.Linear(9, width, use_bias=False, kernel_init=KERNEL_INIT, rngs=rngs)
        for i, (inputs, outputs, stride, share) in enumerate(shape.blocks()):
            block = NNXBlock(inputs, outputs, stride, drop_path(share * rate), rngs=rngs)
            setattr(self, f"block_{i}", block)
        self.norm = nnx.BatchNorm(shape.widths[-1], momentum=MOMENTUM, rngs=rngs)
        self.out = nnx.Linear(shape.widths[-1], CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None, rate: Any = None) -> jax.Array:
        """Logits; without streams, in evaluation mode. `rate` replaces the constructor's; may be traced."""
        x = self.stem(stem(x))
        for i, share in enumerate(self.shares):
            x = getattr(self, f"block_{i}")(x, rngs, {} if rate is None else {"rate": share * rate})
        x = nnx.relu(self.norm(x, use_running_average=rngs is None))
        return self.out(x.mean((1, 2)))


def stem(x: jax.Array) -> jax.Array:
    """Averages 2 x 2 pixels, and takes 3 x 3 neighborhoods at stride 2: `[B, H/4, W/4, 9]`."""
    batch, height, width, channels = x.shape
    return conv_net.patches(x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4)), 2)


def init(shape: Shape, seed: int, side: int) -> tuple[Any, Any]:
    """First parameters, and the model state with the batch statistics, of the Linen network."""
    image = jax.numpy.zeros((1, side, side, 1))
    variables: Any = dict(jax.jit(LinenResNet(shape, 0.0).init)(jax.random.key(seed), image))
    return variables.pop("params"), variables


def nnx_model(shape: Shape, rate: float, params: Any, model_state: Any, drop_path: str) -> NNXResNet:
    """The NNX network with the parameters and batch statistics of a Linen network."""
    model = nnx.eval_shape(lambda: NNXResNet(shape, rate, NNX_DROP_PATHS[drop_path], rngs=nnx.Rngs(0)))
    for kind, values in ((nnx.Param, params), (nnx.BatchStat, model_state["batch_stats"])):
        state = nnx.state(model, kind)
        nnx.replace_by_pure_dict(state, jax.tree.map(jax.numpy.array, values))
        nnx.update(model, state)
    return model


def cross_entropy(logits: Any, y: jax.Array) -> jax.Array:
    """Mean cross-entropy of a batch."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def linen_loss(net: LinenResNet) -> training.StatefulLossFn:
    """Loss of the Linen network on a batch `(images, labels)`."""

    def loss_fn(params: Any, model_state: Any, key: jax.Array, batch: tuple) -> tuple[jax.Array, tuple]:
        x, y = batch
        logits, new = net.apply({"params": params, **model_state}, x, key, mutable=list(model_state))
        return cross_entropy(logits, y), ((), new)

    return loss_fn


def optimizer(rate: Any, decay: Any, steps: int) -> optax.GradientTransformation:
    """SGD with Nesterov's momentum, a cosine schedule from `rate`, and weight decay of the kernels."""
    return optax.chain(
        optax.add_decayed_weights(decay, mask=penalties.weight_mask),
        optax.sgd(optax.cosine_decay_schedule(rate, steps), momentum=MOMENTUM, nesterov=True),
    )
