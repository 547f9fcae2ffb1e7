"""Plain, spatial and block dropout in a small convolutional network.

Three convolutions of 3 x 3, each followed by ReLU and the noise, and a linear layer. The same
rates are tried for all; a block is about a third of its map. Srivastava et al., 2014; Tompson et
al., 2015; Ghiasi, Lin and Le, 2018.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdrop
from experiments import data
from experiments.variants import study
from jaxdrop import training

BATCH = 64
LEARNING_RATE = 2e-3
RATES = (0.1, 0.2, 0.4)


class Config(NamedTuple):
    """What a run is made of."""

    dataset: str
    seed: int
    seeds: int
    channels: tuple[int, ...] = (16, 32, 64)
    strides: tuple[int, ...] = (2, 2, 1)
    train_size: int = 2_000
    valid_size: int = 1_000
    steps: int = 500


QUICK = {"channels": (4, 8), "strides": (1, 2), "train_size": 200, "valid_size": 200, "steps": 20}

Noise = Callable[[jax.Array, jax.Array, Any], jax.Array]


def block_size(side: int) -> int:
    """A third of a side, made odd."""
    return side // 3 | 1


def block(key: jax.Array, x: jax.Array, rate: Any) -> jax.Array:
    """DropBlock with blocks in proportion to the map."""
    return jaxdrop.drop_block(key, x, rate, block_size=block_size(x.shape[1]))


METHODS: dict[str, Noise | None] = {
    "none": None,
    "dropout": jaxdrop.dropout,
    "spatial dropout": jaxdrop.spatial_dropout,
    "DropBlock": block,
}


def init(
    rng: np.random.Generator, side: int, channels: tuple[int, ...], strides: tuple[int, ...]
) -> dict[str, Any]:
    """He's normal weights for the convolutions, LeCun's for the linear layer, no biases."""
    convolutions = []
    for fan_in, fan_out in zip((1, *channels[:-1]), channels, strict=True):
        kernel = rng.normal(0, (2 / 9 / fan_in) ** 0.5, (9 * fan_in, fan_out))
        convolutions.append({"kernel": kernel, "bias": np.zeros(fan_out)})
    for stride in strides:
        side = -(-side // stride)
    features = side**2 * channels[-1]
    out = {"kernel": rng.normal(0, features**-0.5, (features, 10)), "bias": np.zeros(10)}
    return {"convolutions": convolutions, "out": out}


def convolve(x: jax.Array, layer: dict[str, jax.Array], stride: int) -> jax.Array:
    """A convolution of 3 x 3 with zeros around, as one product of matrices.

    Under `vmap` over runs a product stays one; XLA's own convolution becomes a grouped one, which
    is ten times slower on a CPU.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, -1) @ layer["kernel"] + layer["bias"]


def apply(
    params: dict[str, Any],
    x: jax.Array,
    strides: tuple[int, ...],
    noise: Noise | None = None,
    key: Any = None,
    rate: Any = 0.0,
) -> jax.Array:
    """Logits, `[B, 10]`, of images `[B, side, side, 1]`; with noise where it is given."""
    for i, (layer, stride) in enumerate(zip(params["convolutions"], strides, strict=True)):
        x = jax.nn.relu(convolve(x, layer, stride))
        if noise is not None:
            x = noise(jax.random.fold_in(key, i), x, rate)
    return x.reshape(len(x), -1) @ params["out"]["kernel"] + params["out"]["bias"]


def method(name: str, side: int, config: Config) -> study.Method:
    """The network with one kind of noise."""
    noise = METHODS[name]

    def recipe(hyper: dict[str, jax.Array]) -> tuple[training.LossFn, optax.GradientTransformation]:
        def loss_fn(params: Any, key: jax.Array, pool: tuple) -> tuple[jax.Array, tuple]:
            batch_key, noise_key = jax.random.split(key)
            rows = hyper["train"][study.draw_batch(batch_key, BATCH, config.train_size)]
            logits = apply(params, pool[0][rows], config.strides, noise, noise_key, hyper.get("rate"))
            return optax.softmax_cross_entropy_with_integer_labels(logits, pool[1][rows]).mean(), ()

        return loss_fn, optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, config.steps))

    def score(params: Any, hyper: dict[str, jax.Array], batch: tuple) -> jax.Array:
        return jnp.mean(apply(params, batch[0], config.strides).argmax(-1) != batch[1])

    return study.Method(
        name=name,
        settings=[{}] if noise is None else [{"rate": rate} for rate in RATES],
        init=lambda rng: init(rng, side, config.channels, config.strides),
        recipe=recipe,
        score=score,
        steps=config.steps,
        baseline="none",
    )


def make(config: Config, dataset: data.Dataset) -> study.Study:
    """The study: each seed has its own training and validation images."""
    side = int(np.sqrt(dataset.x.shape[1]))
    mean, deviation = dataset.x.mean(), dataset.x.std()
    x, x_test = (
        ((part - mean) / deviation).reshape(-1, side, side, 1) for part in (dataset.x, dataset.x_test)
    )
    return study.Study(
        title=f"{dataset.name}, {config.train_size} training images, a small CNN",
        methods=[method(name, side, config) for name in METHODS],
        rows=study.draw_rows(
            config.seed, config.seeds, len(x), {"train": config.train_size, "valid": config.valid_size}
        ),
        pool=(jnp.asarray(x), jnp.asarray(dataset.y)),
        take=lambda pool, rows: (pool[0][rows], pool[1][rows]),
        test=(jnp.asarray(x_test), jnp.asarray(dataset.y_test)),
        score="error (%)",
        factor=100,
        digits=2,
        seed=config.seed,
        config=config._asdict(),
    )
