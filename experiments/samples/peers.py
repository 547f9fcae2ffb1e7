"""Monte-Carlo dropout as it is written without this library: a loop of passes with Flax or torch.

The samples have the law of `mc.estimate`'s, so only their time is measured. Torch's networks have random
weights. What is not installed is left out.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments import timing
from experiments.samples import networks, tasks

FLAX, TORCH = "Flax loop", "torch loop"


def label(name: str, count: int) -> str:
    """Name of a loop of `count` passes."""
    return f"{name}, T={count}"


def loops(task: tasks.Task, trained: tasks.Trained, counts: tuple[int, ...]) -> dict[str, timing.Program]:
    """Programs of loops of `counts` passes each; torch's only where it is installed."""
    calls: dict[str, Callable[[int], Any]] = {FLAX: flax_loop(task, trained)}
    try:
        torch = importlib.import_module("torch")
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        calls[TORCH] = torch_loop(torch, task)
    except ImportError:
        pass
    return {
        label(name, count): timing.Program(lambda call=call, count=count: call(count))
        for name, call in calls.items()
        for count in counts
    }


def flax_loop(task: tasks.Task, trained: tasks.Trained) -> Callable[[int], Any]:
    """Loop of one jitted pass with Flax's dropout, and the statistics of the stacked samples."""
    model, x = task.model.clone(drop=nn.Dropout), jnp.asarray(task.x)

    @jax.jit
    def sample(variables: Any, key: jax.Array) -> Any:
        return model.apply(variables, x, deterministic=False, rngs={"dropout": key})

    @jax.jit
    def summarize(samples: list[jax.Array]) -> Any:
        y = jnp.stack(samples)
        off = y - y.mean(0)
        found = y.mean(0), jnp.einsum("tbi,tbj->bij", off, off) / (len(y) - 1)
        return (*found, *_entropies(jax.nn.log_softmax(y), jnp)) if task.classes else found

    def call(count: int) -> Any:
        keys = jax.random.split(jax.random.key(0), count)
        return summarize([sample(trained.variables, key) for key in keys])

    return call


def torch_loop(torch: Any, task: tasks.Task) -> Callable[[int], Any]:
    """The same with torch."""
    model, x = torch_model(torch, task.model, task.x.shape[1]), torch.from_numpy(task.x)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()

    def call(count: int) -> Any:
        with torch.no_grad():
            y = torch.stack([model(x) for _ in range(count)])
            off = y - y.mean(0)
            found = y.mean(0), torch.einsum("tbi,tbj->bij", off, off) / (count - 1)
            return (*found, *_entropies(torch.log_softmax(y, -1), torch)) if task.classes else found

    return call


def torch_model(torch: Any, model: nn.Module, inputs: int) -> Any:
    """Network in torch of the architecture of one of ours; torch's own layers where it has them."""
    n, side = torch.nn, round(inputs**0.5)
    of = {
        networks.MLP: _mlp,
        networks.CNN: _cnn,
        networks.Residual: _residual,
        networks.LSTM: _lstm,
        networks.ViT: _vit,
    }
    return of[type(model)](n, model, inputs, side)


def _entropies(logs: Any, np: Any) -> tuple[Any, Any, Any]:
    """Mean probabilities, and the two entropies."""
    p = np.exp(logs)
    mean = p.mean(0)
    return mean, -(mean * np.log(mean)).sum(-1), -(p * logs).sum(-1).mean(0)


def _mlp(n: Any, model: networks.MLP, inputs: int, side: int) -> Any:
    layers, before = [n.Dropout(model.rates[0])], inputs
    for width in model.widths:
        layers += [n.Linear(before, width), n.ReLU(), n.Dropout(model.rates[1])]
        before = width
    return n.Sequential(*layers, n.Linear(before, model.outputs))


def _cnn(n: Any, model: networks.CNN, inputs: int, side: int) -> Any:
    first, second = model.kernels
    return n.Sequential(
        n.Unflatten(1, (1, side, side)),
        n.Conv2d(1, first, 3, padding=1),
        n.ReLU(),
        n.MaxPool2d(2),
        n.Dropout(model.rates[0]),
        n.Conv2d(first, second, 3, padding=1),
        n.BatchNorm2d(second),
        n.ReLU(),
        n.MaxPool2d(2),
        n.Dropout2d(model.rates[1]),
        n.Flatten(),
        n.Linear(second * (side // 4) ** 2, model.units),
        n.ReLU(),
        n.Dropout(model.rates[2]),
        n.Linear(model.units, networks.CLASSES),
    )


def _residual(n: Any, model: networks.Residual, inputs: int, side: int) -> Any:
    width, rate = model.width, model.rate

    class Block(n.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [n.LayerNorm(width), n.Linear(width, width), n.GELU("tanh"), n.Dropout(rate)]
            self.branch = n.Sequential(*layers, n.Linear(width, width), n.Dropout(rate))

        def forward(self, x: Any) -> Any:
            return x + self.branch(x)

    blocks = [Block() for _ in range(model.depth)]
    last = n.LayerNorm(width), n.Linear(width, networks.CLASSES)
    return n.Sequential(n.Linear(inputs, width), *blocks, *last)


def _lstm(n: Any, model: networks.LSTM, inputs: int, side: int) -> Any:
    class Net(n.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = n.LSTM(side, model.width, 2, batch_first=True, dropout=model.rate)
            self.last = n.Sequential(n.Dropout(model.rate), n.Linear(model.width, networks.CLASSES))

        def forward(self, x: Any) -> Any:
            return self.last(self.layers(x.reshape(-1, side, side))[0][:, -1])

    return Net()


def _vit(n: Any, model: networks.ViT, inputs: int, side: int) -> Any:
    width, patch = model.width, side // 4

    class Net(n.Module):
        def __init__(self) -> None:
            super().__init__()
            options = {"activation": "gelu", "batch_first": True, "norm_first": True}
            layer = n.TransformerEncoderLayer(width, model.heads, 2 * width, model.rate, **options)
            self.first = n.Sequential(n.Linear(patch * patch, width), n.Dropout(model.rate))
            self.blocks = n.TransformerEncoder(layer, model.depth, enable_nested_tensor=False)
            self.last = n.Sequential(n.LayerNorm(width), n.Linear(width, networks.CLASSES))

        def forward(self, x: Any) -> Any:
            x = x.reshape(-1, 4, patch, 4, patch).transpose(2, 3).reshape(-1, 16, patch * patch)
            return self.last(self.blocks(self.first(x)).mean(1))

    return Net()
