"""Tasks: a network, what it is trained on, and the examples whose uncertainty is compared."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from experiments import batches, data, loop, splits
from experiments.samples import networks
from jaxdrop import linen, optim, training

BATCH = 128
LEARNING_RATE = 2e-3
# Number of evaluations during training, and most rows that the loss is computed on.
CHUNKS, PROBE = 5, 500
# Gal's network: units, and the dropout rate of both layers, one of his grid.
UNITS, RATE = 50, 0.05

Array = np.ndarray | jax.Array


class Task(NamedTuple):
    """Network and data.

    Attributes:
      name: The name in tables, of an architecture or of a regression set.
      model: The network.
      steps: The training steps, a multiple of `CHUNKS`.
      truth: The number of samples of the reference.
      train: Rows and targets to train on.
      x: Rows to compare on, `[B, D]`: those in distribution, then as many out of distribution.
      y: Targets of those in distribution.
    """

    name: str
    model: Any
    steps: int
    truth: int
    train: tuple[np.ndarray, np.ndarray]
    x: np.ndarray
    y: np.ndarray

    @property
    def classes(self) -> bool:
        """Whether outputs are logits; otherwise one value."""
        return bool(np.issubdtype(self.y.dtype, np.integer))


class Trained(NamedTuple):
    """Trained network.

    Attributes:
      variables: The variables of the model.
      precision: The inverse of the mean squared training error, for regression; otherwise 1.
      losses: The training loss without noise after each part of the training, `[CHUNKS]`.
    """

    variables: Any
    precision: float
    losses: np.ndarray


def image_models(quick: bool) -> dict[str, tuple[nn.Module, int, int]]:
    """Networks for images, with their training steps and the samples of their reference."""
    if quick:
        return {
            "MLP": (networks.MLP((32, 32), networks.CLASSES, (0.2, 0.5)), 200, 400),
            "residual": (networks.Residual(16, 2), 200, 400),
            "CNN": (networks.CNN((4, 8), 16), 100, 400),
            "LSTM": (networks.LSTM(8), 100, 400),
            "ViT": (networks.ViT(16, heads=2), 100, 400),
        }
    return {
        "MLP": (networks.MLP((256, 256), networks.CLASSES, (0.2, 0.5)), 1500, 40_000),
        "residual": (networks.Residual(128, 4), 1500, 40_000),
        "CNN": (networks.CNN((16, 32), 64), 500, 8_000),
        "LSTM": (networks.LSTM(48), 800, 8_000),
        "ViT": (networks.ViT(64), 900, 8_000),
    }


def of_images(examples: data.Dataset, other: np.ndarray, images: int, seed: int, quick: bool) -> list[Task]:
    """Tasks of all networks for images: `images` test images, and as many of another set."""
    rng = np.random.default_rng((seed, 2))
    rows = rng.permutation(len(examples.x_test))[:images]
    out = other[rng.permutation(len(other))[:images]]
    x = np.concatenate([examples.x_test[rows], out])
    return [
        Task(name, model, steps, truth, examples[1:3], x, examples.y_test[rows])
        for name, (model, steps, truth) in image_models(quick).items()
    ]


def of_table(problem: splits.Problem, steps: int, truth: int) -> Task:
    """Task of Gal's network on the first split of a regression set, with standardized columns."""
    part = splits.part(problem._replace(train=problem.train[:1], test=problem.test[:1]), grid=False)
    model = networks.MLP((UNITS,), 1, (RATE, RATE))
    targets = (part.y_held[0] - part.shift[0]) / part.scale[0]
    train = np.asarray(part.x[0]), np.asarray(part.y[0])
    return Task(problem.name, model, steps, truth, train, np.asarray(part.x_held[0]), np.asarray(targets))


def loss(task: Task, outputs: Any, y: jax.Array) -> jax.Array:
    """Mean cross-entropy, or mean squared error."""
    if task.classes:
        return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()
    return jnp.mean((outputs[:, 0] - y) ** 2)


def train(task: Task, seed: int, checkpoints: epath.Path, setup: loop.Setup = loop.ALONE) -> Trained:
    """Trains the network of a task with Adam and dropout."""
    fast = isinstance(task.model, networks.CNN)
    model, rows = task.model.clone(products=True) if fast else task.model, len(task.train[0])
    first: Any = dict(jax.jit(model.init)(jax.random.key(seed), jnp.asarray(task.train[0][:2])))
    params = first.pop("params")

    def loss_fn(params: Any, model_state: Any, key: jax.Array, pool: tuple) -> tuple[jax.Array, tuple]:
        batch_key, noise_key = jax.random.split(key)
        chosen = batches.draw_batch(batch_key, BATCH, rows)
        outputs, new = model.apply(
            {"params": params, **model_state},
            pool[0][chosen],
            deterministic=False,
            rngs={"dropout": noise_key},
            mutable=list(model_state),
        )
        return loss(task, outputs, pool[1][chosen]), ((), {**model_state, **new})

    def evaluate(state: training.TrainState, pool: tuple) -> jax.Array:
        outputs = model.apply({"params": state.params, **state.model_state}, pool[0][:PROBE])
        return loss(task, outputs, pool[1][:PROBE])

    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, task.steps))
    pair = training.trainer(loss_fn, optim.halt_on_nonfinite(optimizer))
    state, losses = loop.train(
        pair,
        pair.init(jax.random.key(seed), params, first),
        tuple(map(jnp.asarray, task.train)),
        evaluate,
        steps=task.steps,
        every=task.steps // CHUNKS,
        title=f"{task.name}: training steps",
        checkpoints=checkpoints,
        setup=setup,
        curves=lambda metrics: {f"train/{task.name}": metrics},
    )
    precision = 1.0 if task.classes else 1 / float(losses[-1])
    return Trained({"params": state.params, **state.model_state}, precision, losses)


def predictor(task: Task, trained: Trained) -> Any:
    """Predictor of a trained network with its dropout."""
    return linen.stochastic(task.model, trained.variables, jnp.asarray(task.x), deterministic=False)
