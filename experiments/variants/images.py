"""Plain, spatial and block dropout in a small convolutional network.

Three convolutions of 3 x 3, each followed by ReLU and noise, and a linear layer. All methods try the
same rates; a block is about a third of its feature map. Srivastava et al., 2014; Tompson et
al., 2015; Ghiasi, Lin and Le, 2018.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdrop
from experiments import batches, conv_net, data, study
from jaxdrop import training

BATCH = 64
LEARNING_RATE = 2e-3
RATES = (0.1, 0.2, 0.4)


class Config(NamedTuple):
    """Configuration of a run."""

    dataset: str
    seed: int
    seeds: int
    channels: tuple[int, ...] = (16, 32, 64)
    strides: tuple[int, ...] = (2, 2, 1)
    train_size: int = 2_000
    valid_size: int = 1_000
    steps: int = 500


QUICK = {"channels": (4, 8), "strides": (1, 2), "train_size": 200, "valid_size": 200, "steps": 20}

Params = dict[str, Any]
# From a key, activations and a rate to activations.
Noise = Callable[[jax.Array, jax.Array, chex.Numeric], jax.Array]


def block_size(side: int) -> int:
    """Odd block size of about a third of a side."""
    return side // 3 | 1


def block(key: jax.Array, x: jax.Array, rate: chex.Numeric) -> jax.Array:
    """DropBlock with blocks in proportion to the feature map."""
    return jaxdrop.drop_block(key, x, rate, block_size=block_size(x.shape[1]))


METHODS: dict[str, Noise | None] = {
    "none": None,
    "dropout": jaxdrop.dropout,
    "spatial dropout": jaxdrop.spatial_dropout,
    "DropBlock": block,
}


def init(rng: np.random.Generator, side: int, channels: tuple[int, ...], strides: tuple[int, ...]) -> Params:
    """He's normal weights for the convolutions, LeCun's for the linear layer, biases of 0."""
    convolutions = []
    for fan_in, fan_out in zip((1, *channels[:-1]), channels, strict=True):
        kernel = rng.normal(0, (2 / 9 / fan_in) ** 0.5, (9 * fan_in, fan_out))
        convolutions.append({"kernel": kernel, "bias": np.zeros(fan_out)})
    for stride in strides:
        side = -(-side // stride)
    features = side**2 * channels[-1]
    out = {"kernel": rng.normal(0, features**-0.5, (features, 10)), "bias": np.zeros(10)}
    return {"convolutions": convolutions, "out": out}


def apply(
    params: Params,
    x: jax.Array,
    strides: tuple[int, ...],
    noise: Noise | None = None,
    key: jax.Array | None = None,
    rate: chex.Numeric = 0.0,
) -> jax.Array:
    """Logits, `[B, 10]`, for images `[B, side, side, 1]`; with noise if it and a key are given."""
    for i, (layer, stride) in enumerate(zip(params["convolutions"], strides, strict=True)):
        x = jax.nn.relu(conv_net.patches(x, stride) @ layer["kernel"] + layer["bias"])
        if noise is not None and key is not None:
            x = noise(jax.random.fold_in(key, i), x, rate)
    return x.reshape(len(x), -1) @ params["out"]["kernel"] + params["out"]["bias"]


def program(name: str, side: int, config: Config) -> study.Program:
    """Program of one method: the network with one kind of noise."""
    noise = METHODS[name]

    def recipe(hyper: study.Hyper) -> tuple[training.LossFn, optax.GradientTransformation]:
        def noisy(params: Params, x: jax.Array, key: jax.Array) -> jax.Array:
            return apply(params, x, config.strides, noise, key, hyper.get("rate", 0.0))

        def rows(key: jax.Array) -> jax.Array:
            return hyper["train"][batches.draw_batch(key, BATCH, config.train_size)]

        optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, config.steps))
        return batches.cross_entropy(noisy, rows), optimizer

    settings = [{}] if noise is None else [{"rate": rate} for rate in RATES]
    return study.Program(
        [study.Method(name, settings, "none")],
        init=lambda seed: init(np.random.default_rng((seed, 1)), side, config.channels, config.strides),
        recipe=recipe,
        score=lambda params, _, x: jnp.mean(apply(params, x[0], config.strides).argmax(-1) != x[1]),
        steps=config.steps,
    )


def make(config: Config, examples: data.Dataset) -> study.Study:
    """Study in which each seed has its own training and validation images."""
    side = int(np.sqrt(examples.x.shape[1]))
    mean, deviation = examples.x.mean(), examples.x.std()
    x, x_test = (
        ((part - mean) / deviation).reshape(-1, side, side, 1) for part in (examples.x, examples.x_test)
    )
    parts = {"train": config.train_size, "valid": config.valid_size}
    return study.Study(
        title=f"{examples.name}, {config.train_size} training images, a small CNN",
        programs=[program(name, side, config) for name in METHODS],
        rows=batches.draw_rows(config.seed, config.seeds, len(x), **parts),
        **study.image_data(x, examples.y, x_test, examples.y_test),
        seed=config.seed,
        config=config._asdict(),
    )
