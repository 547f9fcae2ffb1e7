"""SELU and alpha dropout against ReLU and dropout on MNIST. Klambauer et al., 2017.

The published figures, 92.04 % and 90.76 % of the test images right, are those that the authors'
PyTorch notebook prints (github.com/bioinf-jku/SNNs, Pytorch/SelfNormalizingNetworks_MLP_MNIST):
784-512-256-10, rate 0.05 after both hidden layers, pixels standardised by one mean and deviation,
50,000 training and 10,000 validation images, batch 128, 20 epochs of plain SGD at 1e-3, the
weights of the epoch of the best validation accuracy. Its SELU network starts from LeCun's
normal weights and no biases, its ReLU network from PyTorch's defaults: weights and biases uniform
within 1/sqrt(inputs), a third of that variance. So "He" here is what the ReLU network does
when it starts as is usual for it. The same is then trained with Adam at 1e-3, the optimiser
of the authors' TensorFlow 2 script.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdrop
from experiments import data
from experiments.variants import study
from jaxdrop import training

RATE = 0.05
BATCH = 128
LEARNING_RATE = 1e-3
OPTIMIZERS = {"SGD": optax.sgd, "Adam": optax.adam}
PUBLISHED = {"SELU + alpha dropout, SGD": 100 - 92.04, "ReLU + dropout, SGD": 100 - 90.76}


class Config(NamedTuple):
    """What a run is made of."""

    dataset: str
    seed: int
    seeds: int
    widths: tuple[int, ...] = (512, 256)
    train_size: int = 50_000
    valid_size: int = 2_000
    sgd_steps: int = 7_800
    adam_steps: int = 1_950


QUICK = {"widths": (32,), "train_size": 500, "valid_size": 200, "sgd_steps": 200, "adam_steps": 50}


def init(rng: np.random.Generator, sizes: tuple[int, ...], start: str) -> list[dict[str, np.ndarray]]:
    """Weights and biases: "lecun" and "he" normal without biases, or "torch" as PyTorch does it."""
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
    layers: Any, x: jax.Array, activation: str, key: jax.Array | None = None, rate: Any = 0.0
) -> jax.Array:
    """Logits, `[B, classes]`; with the dropout of the activation where there is a key."""
    for i, layer in enumerate(layers[:-1]):
        x = x @ layer["kernel"] + layer["bias"]
        x = jax.nn.selu(x) if activation == "selu" else jax.nn.relu(x)
        if key is not None:
            drop = jaxdrop.alpha_dropout if activation == "selu" else jaxdrop.dropout
            x = drop(jax.random.fold_in(key, i), x, rate)
    return x @ layers[-1]["kernel"] + layers[-1]["bias"]


def method(
    name: str, activation: str, start: str, optimizer: str, sizes: tuple[int, ...], config: Config
) -> study.Method:
    """A network with the noise that belongs to it, and an optimiser."""

    def recipe(hyper: dict[str, jax.Array]) -> tuple[training.LossFn, optax.GradientTransformation]:
        def loss_fn(params: Any, key: jax.Array, pool: tuple) -> tuple[jax.Array, tuple]:
            batch_key, noise_key = jax.random.split(key)
            rows = hyper["train"][study.draw_batch(batch_key, BATCH, config.train_size)]
            logits = apply(params, pool[0][rows], activation, noise_key, hyper["rate"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, pool[1][rows]).mean(), ()

        return loss_fn, OPTIMIZERS[optimizer](LEARNING_RATE)

    def score(params: Any, hyper: dict[str, jax.Array], batch: tuple) -> jax.Array:
        return jnp.mean(apply(params, batch[0], activation).argmax(-1) != batch[1])

    return study.Method(
        name=f"{name}, {optimizer}",
        settings=[{"rate": RATE}],
        init=lambda rng: init(rng, sizes, start),
        recipe=recipe,
        score=score,
        steps=config.sgd_steps if optimizer == "SGD" else config.adam_steps,
        baseline=f"ReLU + dropout, {optimizer}",
    )


def make(config: Config, dataset: data.Dataset) -> study.Study:
    """The study; nothing in it is tuned, and validation is for the curves alone."""
    mean, deviation = dataset.x.mean(), dataset.x.std()
    x, x_test = ((part - mean) / deviation for part in (dataset.x, dataset.x_test))
    sizes = (x.shape[1], *config.widths, 10)
    networks = [
        ("ReLU + dropout", "relu", "torch"),
        ("ReLU + dropout, He", "relu", "he"),
        ("SELU + alpha dropout", "selu", "lecun"),
    ]
    return study.Study(
        title=f"{dataset.name}, MLP {'-'.join(map(str, sizes))}",
        methods=[
            method(*network, optimizer, sizes, config)
            for optimizer in ("SGD", "Adam")
            for network in networks
        ],
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
