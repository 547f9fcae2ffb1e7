"""Three ways to train the same run, in both Flax APIs, and the differences of their loss curves.

"Flax" is the loop of Flax's documentation with Flax's own Dropout; "trainer" and "sweep" are those of
`jaxdrop.training`, the sweep with one cell, with jaxdrop's DropPath. All start from the same weights, see the
same batches, and take `fold_in(key, step)` as the key of a step. "one ulp" is Flax's Linen loop with
every first weight moved to the next float32, as a yardstick: a difference of rounding grows during training.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from etils import epath
from flax import nnx
from flax.training import train_state
from matplotlib.figure import Figure

import jaxdrop.nnx
from experiments import cli, parts, plots, report
from experiments.resnet import networks
from jaxdrop import training

EARLY = 10  # steps in which a difference of rounding has not yet grown


class Problem(NamedTuple):
    """What all ways share.

    Attributes:
      shape: Shape of the network.
      rate: Drop rate of the last branch, above 0: at 0 Flax draws no key.
      decay: Weight decay of the kernels.
      learning_rate: First learning rate.
      params: First parameters, of the Linen network.
      model_state: First batch statistics, of the Linen network.
      key: Key of the run.
      x: Images of each step, `[steps, B, side, side, 1]`.
      y: Labels, `[steps, B]`.
    """

    shape: networks.Shape
    rate: float
    decay: float
    learning_rate: float
    params: Any
    model_state: Any
    key: jax.Array
    x: jax.Array
    y: jax.Array

    def optimizer(self) -> Any:
        """The optimizer of all ways."""
        return networks.optimizer(self.learning_rate, self.decay, len(self.x))


class BatchNormState(train_state.TrainState):
    """Flax's train state with batch statistics, as in its documentation."""

    batch_stats: Any


def linen_flax(problem: Problem) -> np.ndarray:
    """The Linen loop of Flax's documentation."""
    net = networks.LinenResNet(problem.shape, problem.rate, networks.LINEN_DROP_PATHS["Flax"])
    state = BatchNormState.create(
        apply_fn=net.apply,
        params=problem.params,
        tx=problem.optimizer(),
        batch_stats=problem.model_state["batch_stats"],
    )

    @jax.jit
    def train_step(
        state: BatchNormState, key: jax.Array, x: jax.Array, y: jax.Array
    ) -> tuple[BatchNormState, Any]:
        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, updates = state.apply_fn(variables, x, key, mutable=["batch_stats"])
            return networks.cross_entropy(logits, y), updates

        (loss, updates), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads, batch_stats=updates["batch_stats"]), loss

    losses = []
    for i, batch in enumerate(zip(problem.x, problem.y, strict=True)):
        state, loss = train_step(state, jax.random.fold_in(problem.key, i), *batch)
        losses.append(loss)
    return np.array(losses)


def linen_trainer(problem: Problem) -> np.ndarray:
    """`training.trainer` of the Linen network."""
    loss_fn = networks.linen_loss(networks.LinenResNet(problem.shape, problem.rate))
    init, step = training.trainer(loss_fn, problem.optimizer())
    return _losses(step, init(problem.key, problem.params, problem.model_state), problem)


def linen_sweep(problem: Problem) -> np.ndarray:
    """`training.sweep` of the Linen network with one cell."""

    def recipe(hyper: Any) -> tuple:
        loss_fn = networks.linen_loss(networks.LinenResNet(problem.shape, hyper["rate"]))
        return loss_fn, networks.optimizer(problem.learning_rate, hyper["decay"], len(problem.x))

    return _swept(recipe, problem, problem.params, problem.model_state)


def nnx_flax(problem: Problem) -> np.ndarray:
    """The NNX loop of Flax's documentation."""
    model = _nnx_model(problem, "Flax")
    optimizer = nnx.Optimizer(model, problem.optimizer(), wrt=nnx.Param)

    @nnx.jit
    def train_step(
        model: networks.NNXResNet, optimizer: nnx.Optimizer, key: jax.Array, x: jax.Array, y: jax.Array
    ) -> jax.Array:
        def loss_fn(model: networks.NNXResNet) -> jax.Array:
            return networks.cross_entropy(model(x, nnx.Rngs(dropout=key)), y)

        loss, grads = nnx.value_and_grad(loss_fn)(model)
        optimizer.update(model, grads)
        return loss

    losses = []
    for i, batch in enumerate(zip(problem.x, problem.y, strict=True)):
        losses.append(train_step(model, optimizer, jax.random.fold_in(problem.key, i), *batch))
    return np.array(losses)


def nnx_trainer(problem: Problem) -> np.ndarray:
    """`training.trainer` of the NNX network."""
    own = jaxdrop.nnx.trainable(_nnx_model(problem, "jaxdrop"))
    init, step = training.trainer(own.loss_fn(nnx_loss), problem.optimizer())
    return _losses(step, init(problem.key, own.params, own.model_state), problem)


def nnx_sweep(problem: Problem) -> np.ndarray:
    """`training.sweep` of the NNX network with one cell."""
    own = jaxdrop.nnx.trainable(_nnx_model(problem, "jaxdrop"))

    def recipe(hyper: Any) -> tuple:
        loss_fn = own.loss_fn(lambda model, key, batch: nnx_loss(model, key, batch, hyper["rate"]))
        return loss_fn, networks.optimizer(problem.learning_rate, hyper["decay"], len(problem.x))

    return _swept(recipe, problem, own.params, own.model_state)


def one_ulp(problem: Problem) -> np.ndarray:
    """The Linen loop of Flax, from weights moved to the next float32."""
    moved = jax.tree.map(lambda leaf: jnp.nextafter(leaf, jnp.inf), problem.params)
    return linen_flax(problem._replace(params=moved))


REFERENCE = "Linen, Flax"
WAYS: dict[str, Callable[[Problem], np.ndarray]] = {
    REFERENCE: linen_flax,
    "Linen, trainer": linen_trainer,
    "Linen, sweep": linen_sweep,
    "NNX, Flax": nnx_flax,
    "NNX, trainer": nnx_trainer,
    "NNX, sweep": nnx_sweep,
    "one ulp": one_ulp,
}


def nnx_loss(
    model: networks.NNXResNet, key: jax.Array, batch: tuple, rate: Any = None
) -> tuple[jax.Array, tuple]:
    """Loss of the NNX network, which holds no streams, so `key` is that of the step."""
    x, y = batch
    return networks.cross_entropy(model(x, nnx.Rngs(dropout=key), rate), y), ()


def train(problem: Problem, folder: epath.Path) -> dict[str, np.ndarray]:
    """Loss of each step of each way, `[steps]`; ways that are in the folder are read."""
    curves = {}
    bar, task = cli.progress("three ways in two APIs", len(WAYS))
    with bar:
        for i, (name, way) in enumerate(WAYS.items()):
            found = parts.kept(folder, f"way-{i}", lambda way=way: {"losses": way(problem)})
            curves[name] = found["losses"]
            bar.advance(task)
    return curves


def summarize(curves: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Loss curve of each way, and its largest differences from the reference, early and in all."""
    rows = []
    for name, losses in curves.items():
        off = np.abs(losses.astype(np.float64) - curves[REFERENCE])
        differences = {"early_difference": off[:EARLY].max(), "difference": off.max()}
        rows.append({"way": name, **differences, "losses": losses})
    return rows


def table(rows: list[dict[str, Any]]) -> report.Table:
    """Table of the ways."""
    steps = len(rows[0]["losses"])
    header = ["", "first loss", f"loss {steps}", f"difference, {EARLY} steps", "all steps"]
    body = []
    for row in rows:
        ends = (f"{row['losses'][place]:.6f}" for place in (0, -1))
        off = (f"{row[name]:.1e}" for name in ("early_difference", "difference"))
        body.append([row["way"], *ends, *(("-", "-") if row["way"] == REFERENCE else off)])
    caption = (
        f"Loss in nats. Difference: the largest from {REFERENCE} in the first {EARLY} steps, and in all. One "
        "ulp: the yardstick, with every first weight moved to the next float32."
    )
    return report.Table("Three ways in two APIs", header, body, caption)


def plot(curves: dict[str, np.ndarray]) -> Figure:
    """Loss curves, and the running maximum of their differences from the reference.

    Lines that coincide are told apart by their widths: the first is the widest, at the bottom.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, plots.HEIGHT))
    for i, (name, losses) in enumerate(curves.items()):
        steps = np.arange(1, len(losses) + 1)
        width = 1.2 + 1.3 * (len(curves) - 1 - i)
        look = {"color": plots.color(i), "lw": width, "label": name, "solid_capstyle": "butt"}
        left.plot(steps, losses, **look)
        if name != REFERENCE:
            off = np.maximum.accumulate(np.abs(losses.astype(np.float64) - curves[REFERENCE]))
            right.plot(steps, np.where(off > 0, off, np.nan), **look)
    left.set_ylabel("training loss (nats)")
    right.set_ylabel(f"largest difference so far from\n{REFERENCE} (nats)")
    right.set_yscale("log")
    for axis in (left, right):
        axis.set_xlabel("step")
    plots.add_legend(figure)
    figure.suptitle(
        "One run, trained in three ways in two APIs, and from weights moved by one ulp\n"
        "a wider line lies under a narrower one; differences of exactly 0 are not drawn"
    )
    return figure


def _nnx_model(problem: Problem, drop_path: str) -> networks.NNXResNet:
    first = (problem.params, problem.model_state)
    return networks.nnx_model(problem.shape, problem.rate, *first, drop_path)


def _swept(recipe: training.Recipe, problem: Problem, *trees: Any) -> np.ndarray:
    init, step = training.sweep(recipe)
    params, model_state = jax.tree.map(lambda leaf: leaf[None], trees)
    hyper = training.grid(rate=[problem.rate], decay=[problem.decay])
    return _losses(step, init(problem.key[None], params, hyper, model_state), problem)[:, 0]


def _losses(step: Callable, state: training.TrainState, problem: Problem) -> np.ndarray:
    losses = []
    for batch in zip(problem.x, problem.y, strict=True):
        state, (loss, _) = step(state, batch)
        losses.append(loss)
    return np.array(losses)
