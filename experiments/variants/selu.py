"""SELU and alpha dropout against ReLU and dropout on MNIST. Klambauer et al., 2017.

The published figures, 92.04 % and 90.76 % of the test images right, are those that the authors'
PyTorch notebook prints (github.com/bioinf-jku/SNNs, Pytorch/SelfNormalizingNetworks_MLP_MNIST):
784-512-256-10, rate 0.05 after both hidden layers, pixels standardized by one mean and deviation,
50,000 training and 10,000 validation images, batch 128, 20 epochs of plain SGD at 1e-3, the
weights of the epoch of the best validation accuracy. Its SELU network starts from LeCun's
normal weights and no biases, its ReLU network from PyTorch's defaults: weights and biases uniform
within 1/sqrt(inputs), a third of that variance. So "He" here is the ReLU
network with its usual initialization. The same is then trained with Adam at 1e-3, the optimizer
of the authors' TensorFlow 2 script.
"""

import itertools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdrop
from experiments import batches, data, study
from jaxdrop import training

RATE = 0.05
BATCH = 128
LEARNING_RATE = 1e-3
OPTIMIZERS = {"SGD": optax.sgd, "Adam": optax.adam}
PUBLISHED = {"SELU + alpha dropout, SGD": 100 - 92.04, "ReLU + dropout, SGD": 100 - 90.76}


class Config(NamedTuple):
    """Configuration of a run."""

    dataset: str
    seed: int
    seeds: int
    widths: tuple[int, ...] = (512, 256)
    train_size: int = 50_000
    valid_size: int = 2_000
    sgd_steps: int = 7_800
    adam_steps: int = 1_950


QUICK = {"widths": (32,), "train_size": 500, "valid_size": 200, "sgd_steps": 200, "adam_steps": 50}


Layers = list[dict[str, Any]]


def init(rng: np.random.Generator, sizes: tuple[int, ...], start: str) -> Layers:
    """First weights: "lecun" or "he" normal with biases of 0, or "torch", PyTorch's defaults."""
    layers = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        if start == "torch":
            bound = fan_in**-0.5
            kernel, bias = (rng.uniform(-bound, bound, shape) for shape in ((fan_in, fan_out), fan_out))
        else:
            gain = {"lecun": 1.0, "he": 2.0}[start]
            kernel = rng.normal(0, (gain / fan_in) ** 0.5, (fan_in, fan_out))
            bias = np.zeros(fan_out)
        layers.append({"kernel": kernel, "bias": bias})
    return layers


def apply(
    layers: Layers, x: jax.Array, activation: str, key: jax.Array | None = None, rate: chex.Numeric = 0.0
) -> jax.Array:
    """Logits, `[B, classes]`; with a key, with the dropout that suits the activation."""
    for i, layer in enumerate(layers[:-1]):
        x = x @ layer["kernel"] + layer["bias"]
        x = jax.nn.selu(x) if activation == "selu" else jax.nn.relu(x)
        if key is not None:
            drop = jaxdrop.alpha_dropout if activation == "selu" else jaxdrop.dropout
            x = drop(jax.random.fold_in(key, i), x, rate)
    return x @ layers[-1]["kernel"] + layers[-1]["bias"]


def program(
    name: str, activation: str, start: str, optimizer: str, sizes: tuple[int, ...], config: Config
) -> study.Program:
    """Program of one method: a network with its noise, and an optimizer."""

    def recipe(hyper: study.Hyper) -> tuple[training.LossFn, optax.GradientTransformation]:
        def noisy(params: Layers, x: jax.Array, key: jax.Array) -> jax.Array:
            return apply(params, x, activation, key, hyper["rate"])

        def rows(key: jax.Array) -> jax.Array:
            return hyper["train"][batches.draw_batch(key, BATCH, config.train_size)]

        return batches.cross_entropy(noisy, rows), OPTIMIZERS[optimizer](LEARNING_RATE)

    return study.Program(
        [study.Method(f"{name}, {optimizer}", [{"rate": RATE}], f"ReLU + dropout, {optimizer}")],
        init=lambda seed: init(np.random.default_rng((seed, 1)), sizes, start),
        recipe=recipe,
        score=lambda params, _, batch: jnp.mean(apply(params, batch[0], activation).argmax(-1) != batch[1]),
        steps=config.sgd_steps if optimizer == "SGD" else config.adam_steps,
    )


def make(config: Config, examples: data.Dataset) -> study.Study:
    """Study without tuning; the validation part serves the learning curves alone."""
    mean, deviation = examples.x.mean(), examples.x.std()
    x, x_test = ((part - mean) / deviation for part in (examples.x, examples.x_test))
    sizes = (x.shape[1], *config.widths, 10)
    networks = [
        ("ReLU + dropout", "relu", "torch"),
        ("ReLU + dropout, He", "relu", "he"),
        ("SELU + alpha dropout", "selu", "lecun"),
    ]
    parts = {"train": config.train_size, "valid": config.valid_size}
    return study.Study(
        title=f"{examples.name}, MLP {'-'.join(map(str, sizes))}",
        programs=[program(*network, by, sizes, config) for by in OPTIMIZERS for network in networks],
        rows=batches.draw_rows(config.seed, config.seeds, len(x), **parts),
        **study.image_data(x, examples.y, x_test, examples.y_test),
        seed=config.seed,
        config=config._asdict(),
        published=PUBLISHED,
    )
