"""Monte-Carlo scores of trained runs: log-likelihood and RMSE of the mean, with Monte-Carlo errors."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli, splits
from experiments.uci import network
from jaxdrop import mc
from jaxdrop.training import TrainState

# Samples drawn at a time: a multiple of the groups that the errors come from.
CHUNK = 32


class Scores(NamedTuple):
    """Scores of the runs of all splits, `[S, R, T]`, in the unit of the target.

    Attributes:
      ll: Mean log-likelihood of the held-out rows.
      ll_error: Its standard error due to the number of samples.
      rmse: Root mean squared error of the mean output.
      rmse_error: Its standard error due to the number of samples.
    """

    ll: splits.Array
    ll_error: splits.Array
    rmse: splits.Array
    rmse_error: splits.Array


class Cell(NamedTuple):
    """Network with its dropout rate and precision, and scale and mean of the target."""

    params: network.Params
    rate: splits.Array
    tau: splits.Array
    scale: splits.Array
    shift: splits.Array


def output(cell: Cell, key: chex.PRNGKey, x: jax.Array) -> jax.Array:
    """One stochastic pass, `[B]`, in the unit of the target."""
    return network.apply(cell.params, x, cell.rate, key) * cell.scale + cell.shift


def score(
    state: TrainState, part: splits.Part, taus: np.ndarray, keys: chex.PRNGKey, samples: int, title: str
) -> Scores:
    """Scores every run, split by split.

    The runs of a split share random bits, as in training.

    Args:
      state: The trained runs, `[S, R, T]`.
      part: The data, whose held-out rows are scored.
      taus: The precisions, `[S, T]`.
      keys: The key of each split.
      samples: The number of samples; sample t is drawn from `fold_in(key, t)`.
      title: The title of the progress bar.

    Returns:
      The scores.
    """
    rates = jnp.broadcast_to(state.hyper.rate[:, :, None], state.hyper.strength.shape)
    precisions = np.broadcast_to(taus[:, None, :], rates.shape).astype(np.float32)
    rows = []
    bar, task = cli.progress(title, len(taus))
    with bar:
        for i, precision in enumerate(precisions):
            params = jax.tree.map(lambda leaf, i=i: leaf[i], state.params)
            cells = Cell(params, rates[i], precision, part.scale[i], part.shift[i])
            held = part.x_held[i], part.y_held[i], part.held_size[i]
            rows.append(jax.device_get(_of_split(cells, *held, keys[i], samples)))
            bar.advance(task)
    return Scores(*(np.stack(column).astype(np.float64) for column in zip(*rows, strict=True)))


@functools.partial(jax.jit, static_argnames="samples")
def _of_split(
    cells: Cell, x: splits.Array, y: splits.Array, size: splits.Array, key: chex.PRNGKey, samples: int
) -> Scores:
    """Scores of runs `[R, T]` under one `vmap`, so that their random bits are drawn once."""
    shape = cells.tau.shape
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), cells[:3])
    one = functools.partial(_of_cell, x=x, y=y, size=size, key=key, samples=samples)
    scored = jax.vmap(lambda p, rate, tau: one(Cell(p, rate, tau, cells.scale, cells.shift)))(*flat)
    return jax.tree.map(lambda leaf: leaf.reshape(shape), scored)


def _of_cell(
    cell: Cell, x: splits.Array, y: splits.Array, size: splits.Array, key: chex.PRNGKey, samples: int
) -> Scores:
    estimate = mc.estimate(
        jax.tree_util.Partial(output, cell),
        key,
        x,
        num_samples=samples,
        reducers={"output": mc.Moments(), "score": mc.GaussianLogDensity(precision=cell.tau)},
        targets=y,
        chunk_size=min(CHUNK, samples),
    )
    (mean, ll), (mean_error, ll_error) = (
        (of["output"]["mean"], of["score"]["log_density"]) for of in (estimate.value, estimate.standard_error)
    )
    inside = jnp.arange(len(mean)) < size

    def total(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(inside, values, 0))

    residual = mean - y
    rmse = jnp.sqrt(total(residual**2) / size)
    # Noise is independent between rows, so the variances add; the error of the root is of first order.
    return Scores(
        total(ll) / size,
        jnp.sqrt(total(ll_error**2)) / size,
        rmse,
        jnp.sqrt(total((residual * mean_error) ** 2)) / (size * rmse),
    )
