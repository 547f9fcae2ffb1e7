"""The same models in Keras (on JAX) and torch; those not installed are left out and named.

Keras trains by `fit`, silently and with the loss as its only metric. Torch trains in eager mode, with
batches indexed from one tensor, which is faster than a DataLoader, and in one thread: at these
sizes two are at most a sixth faster, and many times slower if another program needs a core.
"""

import importlib
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from experiments.classic.models import EPSILON, LEARNING_RATE, Contender, Run, Task, accuracy

PACKAGES = ("keras", "torch")
EAGER = ("torch",)  # nothing is compiled


def keras_model(keras: Any, task: Task) -> Any:
    """Compiled Keras model with Keras's default initialization."""
    model = keras.Sequential([keras.Input((task.sizes[0],))])
    for width in task.hidden:
        model.add(keras.layers.Dense(width, activation="relu"))
        model.add(keras.layers.Dropout(task.rate))
    model.add(keras.layers.Dense(task.sizes[-1]))
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def keras_fit(keras: Any, model: Any, task: Task) -> list[float]:
    """Trains the model; returns the seconds of each epoch."""
    starts, ends = [], []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: starts.append(time.perf_counter()),
        on_epoch_end=lambda *_: ends.append(time.perf_counter()),
    )
    x, y = task.dataset.x, task.dataset.y
    model.fit(x, y, batch_size=task.batch_size, epochs=task.epochs, verbose=0, callbacks=[clock])
    return [end - start for start, end in zip(starts, ends, strict=True)]


def train_keras(keras: Any, task: Task) -> Callable[[int], Run]:
    """Trains and tests the Keras model; every run compiles its own."""

    def run(seed: int) -> Run:
        keras.utils.set_random_seed(seed)
        model = keras_model(keras, task)
        seconds = keras_fit(keras, model, task)
        return Run(accuracy(model.predict(task.dataset.x_test, verbose=0), task), seconds)

    return run


def torch_model(torch: Any, task: Task) -> Any:
    """Torch model with Keras's default initialization."""
    layers = []
    for pair in pairwise(task.sizes[:-1]):
        layers += [torch.nn.Linear(*pair), torch.nn.ReLU(), torch.nn.Dropout(task.rate)]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(*task.sizes[-2:]))
    for layer in model:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    return model


def torch_fit(torch: Any, model: Any, task: Task) -> list[float]:
    """Trains the model; returns the seconds of each epoch."""
    x, y = torch.from_numpy(task.dataset.x), torch.from_numpy(task.dataset.y).long()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, eps=EPSILON)
    seconds = []
    for _ in range(task.epochs):
        start = time.perf_counter()
        for rows in torch.randperm(len(x)).split(task.batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def train_torch(torch: Any, task: Task) -> Callable[[int], Run]:
    """Trains and tests the torch model."""

    def run(seed: int) -> Run:
        torch.manual_seed(seed)
        model = torch_model(torch, task)
        seconds = torch_fit(torch, model, task)
        with torch.no_grad():
            logits = model.eval()(torch.from_numpy(task.dataset.x_test))
        return Run(accuracy(logits, task), seconds)

    return run


def _keras() -> Contender:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = importlib.import_module("keras")
    if keras.backend.backend() != "jax":
        raise ImportError("Keras is set to another backend.")
    return partial(train_keras, keras)


def _torch() -> Contender:
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    return partial(train_torch, torch)


_LOADERS: dict[str, Callable[[], Contender]] = {"Keras": _keras, "torch": _torch}


def load() -> tuple[dict[str, Contender], list[str]]:
    """Contenders that are installed, and the names of those that are not."""
    found, missing = {}, []
    for name, loader in _LOADERS.items():
        try:
            found[name] = loader()
        except ImportError:
            missing.append(name)
    return found, missing
