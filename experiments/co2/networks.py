"""Networks of one variable, trained with dropout; all seeds of an activation in one program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from experiments import batches, loop, mlp, parts
from jaxdrop import linen, mc, optim, training

LEARNING_RATE = 1e-3
CHUNKS = 20
# Width and dropout rate of the hidden layers in the paper.
PAPER_WIDTH, PAPER_RATE = 1024, 0.1
# The activation, and for the initialization the gain of the weights and the deviation of the biases: without
# biases all kinks of the first layer lie at 0.
ACTIVATIONS: dict[str, tuple[Callable[[jax.Array], jax.Array], float, float]] = {
    "ReLU": (nn.relu, 2.0, 1.0),
    "tanh": (jnp.tanh, 2.0, 1.0),
}


class Plan(NamedTuple):
    """Configuration of a run.

    Attributes:
      series: The name of the series.
      seed: The first seed.
      seeds: The number of seeds; each has its own first weights and noise.
      hidden: The widths of the hidden layers.
      steps: The training steps of each network, on all points, a multiple of `CHUNKS`.
      rate: The dropout rate of the hidden units; see `matched_rate`.
      held_out: The number of points at the end that are held out.
      samples: The number of Monte-Carlo samples.
      end: The last input of the curves.
      points: The number of points of the curves.
    """

    series: str
    seed: int
    seeds: int
    hidden: tuple[int, ...]
    steps: int
    rate: float = 0.1
    held_out: int = 72
    samples: int = 1000
    end: float = 4.0
    points: int = 400

    def model(self, activation: str) -> mlp.MLP:
        """Network with an activation."""
        return mlp.MLP(self.hidden, 1, ACTIVATIONS[activation][0], rate=self.rate)


class Curves(NamedTuple):
    """Predictions of the networks of an activation, `[seeds, N]`.

    Attributes:
      scaled: Predictions with weight scaling.
      mean: Means of the samples.
      deviation: Standard deviations of the samples, without the noise of the data.
      learned: Root mean squared errors of weight scaling at the training points during training, `[seeds,
        CHUNKS]`.
    """

    scaled: Any
    mean: Any
    deviation: Any
    learned: Any = None


def matched_rate(width: int) -> float:
    """Dropout rate that brings as much noise to a layer of `width` units as .1 to one of 1024.

    Dropout adds to a sum of `width` units a relative variance of `rate / (1 - rate) / width`.
    """
    odds = PAPER_RATE / (1 - PAPER_RATE) * width / PAPER_WIDTH
    return odds / (1 + odds)


def recipe(plan: Plan, activation: str) -> training.Recipe:
    """Recipe of one run; the batch is all inputs and their targets."""
    model = plan.model(activation)

    def of_cell(_: Any) -> tuple[training.LossFn, optax.GradientTransformation]:
        def loss_fn(params: Any, key: chex.PRNGKey, batch: tuple) -> tuple[jax.Array, tuple]:
            outputs: Any = model.apply(params, batch[0], deterministic=False, rngs={"dropout": key})
            return jnp.mean((outputs[:, 0] - batch[1]) ** 2), ()

        optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, plan.steps))
        return loss_fn, optim.halt_on_nonfinite(optimizer)

    return of_cell


def train(
    plan: Plan,
    activation: str,
    x: np.ndarray,
    y: np.ndarray,
    checkpoints: epath.Path,
    setup: loop.Setup = loop.ALONE,
) -> tuple[Any, np.ndarray]:
    """Trains the networks of an activation on the points `x`, `y`; their weights, and `Curves.learned`."""
    model, (_, gain, bias) = plan.model(activation), ACTIVATIONS[activation]
    pair = training.sweep(recipe(plan, activation))
    seeds = plan.seed + np.arange(plan.seeds)
    draws = [mlp.init(np.random.default_rng((int(seed), 1)), model, 1, gain, bias) for seed in seeds]

    def evaluate(state: training.TrainState, batch: tuple) -> jax.Array:
        outputs: Any = jax.vmap(lambda params: model.apply(params, batch[0]))(state.params)
        return jnp.sqrt(jnp.mean((outputs[..., 0] - batch[1]) ** 2, -1))

    state, history = loop.train(
        pair,
        pair.init(batches.seed_keys(plan.seed, plan.seeds), batches.stack(draws), ()),
        (jnp.asarray(x[:, None]), jnp.asarray(y)),
        evaluate,
        steps=plan.steps,
        every=plan.steps // CHUNKS,
        title=f"{activation}: {plan.seeds} seeds, steps",
        checkpoints=checkpoints,
        setup=setup,
        curves=lambda metrics: {f"train/{activation}": metrics},
    )
    return state.params, history.T


@functools.partial(jax.jit, static_argnames=("plan", "activation"))
def curves(plan: Plan, activation: str, params: Any, keys: chex.PRNGKey, x: jax.Array) -> Curves:
    """Predictions at inputs `[N]`; a sample is one function of all inputs."""
    model = plan.model(activation)

    def of_seed(run: tuple) -> Curves:
        predict = linen.stochastic(model, run[0], x[:, None], deterministic=False)
        found = mc.estimate(
            predict, run[1], x[:, None], num_samples=plan.samples, reducers=mc.Moments(), shared=True
        ).value
        scaled: Any = model.apply(run[0], x[:, None])
        return Curves(scaled[:, 0], found["mean"][:, 0], jnp.sqrt(found["variance"][:, 0]))

    return jax.lax.map(of_seed, (params, keys))


def run(
    plan: Plan,
    x: np.ndarray,
    y: np.ndarray,
    at: np.ndarray,
    folder: epath.Path,
    setup: loop.Setup = loop.ALONE,
) -> dict[str, Curves]:
    """Trains and predicts for every activation, and caches the results of each."""
    found = {}
    seeds = plan.seed + np.arange(plan.seeds)
    keys = jax.jit(jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), 1)))(seeds)
    kept = len(x) - plan.held_out
    for activation in ACTIVATIONS:

        def compute(activation: str = activation) -> dict[str, np.ndarray]:
            params, learned = train(plan, activation, x[:kept], y[:kept], folder / activation, setup)
            found = curves(plan, activation, params, keys, jnp.asarray(at))
            return found._replace(learned=learned)._asdict()

        arrays = parts.kept(folder, f"curves-{activation}", compute)
        found[activation] = Curves(**arrays)
    return found
