"""The models in Flax Linen and Flax NNX, with an epoch as one program or by steps.

An epoch takes every example once, in a new order, in batches of 64; 60,000 are 937 batches and one
of 32, which is a step like the others. Whole, an epoch is one compiled program: a scan over the
batches of 64, then the last step. By steps, each batch is a call of a compiled step, as in most
tutorials. Both take the same steps with the same keys.
"""

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdrop.nnx
from experiments import data, mlp
from jaxdrop import training
from jaxdrop.nnx import trainables

LEARNING_RATE, EPSILON = 1e-3, 1e-8
BY_STEPS = ", by steps"
adam = optax.adam(LEARNING_RATE, eps=EPSILON)
glorot = jax.nn.initializers.glorot_uniform()


class Task(NamedTuple):
    """Model and its training.

    Attributes:
      hidden: The widths of the hidden layers.
      dataset: The data; the test part is scored once, after the last epoch.
      epochs: The number of epochs.
      rate: The dropout rate after every hidden layer.
      batch_size: Examples per step; the last step of an epoch may have fewer.
    """

    hidden: tuple[int, ...]
    dataset: data.Dataset
    epochs: int
    rate: float = 0.5
    batch_size: int = 64

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of all layers, from the inputs to the classes."""
        return (self.dataset.x.shape[1], *self.hidden, 10)

    @property
    def name(self) -> str:
        """Name of the model, such as `784-128-10`."""
        return "-".join(map(str, self.sizes))


class Run(NamedTuple):
    """Result of one training: test accuracy, and the seconds of each epoch."""

    accuracy: float
    seconds: list[float]


# Prepared once per task; then called once per seed. The first call compiles.
Contender = Callable[[Task], Callable[[int], Run]]


def linen_model(sizes: tuple[int, ...], rate: float) -> mlp.MLP:
    """Dense layers of ReLU with dropout after each, in Flax Linen."""
    return mlp.MLP(sizes[1:-1], sizes[-1], rate=rate, kernel_init=glorot)


class NNXMLP(nnx.Module):
    """Dense layers of ReLU with dropout after each, in Flax NNX."""

    def __init__(self, sizes: tuple[int, ...], rate: float, *, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(*pair, kernel_init=glorot, rngs=rngs) for pair in pairwise(sizes)])
        self.dropout = jaxdrop.nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits, `[B, classes]`."""
        for layer in self.layers[:-1]:
            x = self.dropout(nnx.relu(layer(x)))
        return self.layers[-1](x)


def linen_trainer(model: mlp.MLP) -> training.Trainer:
    """Init/step pair of the Linen model, with Adam."""

    def loss_fn(params: Any, key: jax.Array, batch: tuple) -> tuple[jax.Array, tuple]:
        x, y = batch
        logits: Any = model.apply({"params": params}, x, deterministic=False, rngs={"dropout": key})
        return cross_entropy(logits, y), ()

    return training.trainer(loss_fn, adam)


def nnx_trainer(parts: trainables.Trainable) -> training.Trainer:
    """Init/step pair of the NNX model, with Adam."""

    def loss_fn(model: NNXMLP, key: jax.Array, batch: tuple) -> tuple[jax.Array, tuple]:
        x, y = batch
        return cross_entropy(model(x), y), ()

    return training.trainer(parts.loss_fn(loss_fn), adam)


def cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Mean cross-entropy of a batch."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def whole_epoch(step: Callable, batch_size: int) -> Callable:
    """Epoch as one compiled program."""

    @jax.jit
    def epoch(state: training.TrainState, x: Any, y: Any, order: Any) -> training.TrainState:
        batches, last = split(order, batch_size)
        state, _ = jax.lax.scan(lambda state, rows: step(state, (x[rows], y[rows])), state, batches)
        return step(state, (x[last], y[last]))[0] if len(last) else state

    return epoch


def epoch_by_steps(step: Callable, batch_size: int) -> Callable:
    """Epoch as a loop of compiled steps."""

    def epoch(state: training.TrainState, x: Any, y: Any, order: Any) -> training.TrainState:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            state, _ = step(state, (x[rows], y[rows]))
        return state

    return epoch


def split(order: Any, batch_size: int) -> tuple[Any, Any]:
    """Rows of the full batches, `[batches, batch_size]`, and of the last one, which may be empty."""
    full = len(order) // batch_size * batch_size
    return order[:full].reshape(-1, batch_size), order[full:]


def train_linen(task: Task, *, whole: bool) -> Callable[[int], Run]:
    """Trains and tests the Linen model."""
    model = linen_model(task.sizes, task.rate)
    init, step = linen_trainer(model)

    def begin(seed: int) -> training.TrainState:
        init_key, key = jax.random.split(jax.random.key(seed))
        return init(key, model.init(init_key, task.dataset.x[:1])["params"])

    def logits(state: training.TrainState) -> Any:
        return model.apply({"params": state.params}, task.dataset.x_test)

    return _trained(task, step, begin, logits, stream=0, whole=whole)


def train_nnx(task: Task, *, whole: bool) -> Callable[[int], Run]:
    """Trains and tests the NNX model."""

    def parts_of(seed: int) -> trainables.Trainable:
        return jaxdrop.nnx.trainable(NNXMLP(task.sizes, task.rate, rngs=nnx.Rngs(seed)))

    parts = parts_of(0)
    init, step = nnx_trainer(parts)

    def begin(seed: int) -> training.TrainState:
        own = parts_of(seed)
        return init(jax.random.key(seed), own.params, own.model_state)

    def logits(state: training.TrainState) -> jax.Array:
        model: Any = parts.merge(state)
        model.eval()
        return model(jnp.asarray(task.dataset.x_test))

    return _trained(task, step, begin, logits, stream=1, whole=whole)


def _trained(
    task: Task,
    step: Callable,
    begin: Callable[[int], training.TrainState],
    logits: Callable[[training.TrainState], Any],
    *,
    stream: int,
    whole: bool,
) -> Callable[[int], Run]:
    epoch = (whole_epoch if whole else epoch_by_steps)(step, task.batch_size)
    # The loop selects rows with NumPy: an eager gather in JAX would cost more than the step.
    x, y = task.dataset.x, task.dataset.y
    x, y = (jnp.asarray(x), jnp.asarray(y)) if whole else (x, y)

    def run(seed: int) -> Run:
        state = begin(seed)
        rng, seconds = np.random.default_rng((seed, stream)), []
        for _ in range(task.epochs):
            start = time.perf_counter()
            state = jax.block_until_ready(epoch(state, x, y, rng.permutation(len(x))))
            seconds.append(time.perf_counter() - start)
        return Run(accuracy(logits(state), task), seconds)

    return run


def accuracy(logits: Any, task: Task) -> float:
    """Test accuracy."""
    return float(np.mean(np.argmax(np.asarray(logits), -1) == task.dataset.y_test))


LINEN, NNX = "jaxdrop Linen", "jaxdrop NNX"
OURS: dict[str, Contender] = {
    LINEN: partial(train_linen, whole=True),
    LINEN + BY_STEPS: partial(train_linen, whole=False),
    NNX: partial(train_nnx, whole=True),
    NNX + BY_STEPS: partial(train_nnx, whole=False),
}
