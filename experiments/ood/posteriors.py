"""Posteriors of the network without dropout: SWAG, last-layer Laplace, and test-time augmentation."""

import functools
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from experiments import batches, data, mlp, parts
from experiments.ood import networks
from jaxdrop import mc, training

SWAG, LAPLACE, TTA = "SWAG", "last-layer Laplace", "test-time augmentation"
NAMES = (SWAG, LAPLACE, TTA)
# Iterates that SWAG collects, and the optimizer that makes them; not tuned.
ITERATES = 20
LEARNING_RATE, MOMENTUM = 1e-2, 0.9
# Steps between two iterates, as a share of the training steps.
SHARE = 60

# Posteriors by name, with a leading axis of seeds.
Posteriors = dict[str, Any]


def fit(plan: networks.Plan, params: Any, examples: data.Dataset, folder: epath.Path) -> Posteriors:
    """Fits the posteriors of the first network of each seed on the training images.

    Args:
      plan: The configuration.
      params: Weights with leading axes of seeds and networks.
      examples: The data, of which only the development part is used.
      folder: The folder of the checkpoints, where the results are cached.
    """
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[:, 0]), params)
    x, y = jnp.asarray(examples.x), jnp.asarray(examples.y)

    def compute() -> dict[str, Any]:
        found = collect(plan, first, x, y), jax.lax.map(functools.partial(last_layer, plan, x, y), first)
        return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(found))}

    kept = parts.kept(folder, "posteriors", compute)
    like = jax.eval_shape(lambda: (begin(first), jax.vmap(functools.partial(last_layer, plan, x, y))(first)))
    leaves = [jnp.asarray(kept[str(i)]) for i in range(len(kept))]
    swag, laplace = jax.tree.structure(like).unflatten(leaves)
    return {SWAG: swag, LAPLACE: (laplace, first), TTA: first}


def begin(params: Any) -> mc.SWAG:
    """Empty states of SWAG, one per seed."""
    return jax.vmap(functools.partial(mc.SWAG.begin, rank=ITERATES))(params)


def collect(plan: networks.Plan, params: Any, x: jax.Array, y: jax.Array) -> mc.SWAG:
    """Trains on with a constant learning rate, and collects iterates; one state per seed."""

    def recipe(_: Any) -> tuple[training.LossFn, optax.GradientTransformation]:
        def apply(params: Any, x: jax.Array, _: chex.PRNGKey) -> Any:
            return plan.model().apply(params, x)

        loss_fn = batches.cross_entropy(apply, lambda key: batches.draw_batch(key, networks.BATCH, len(x)))
        return loss_fn, optax.sgd(LEARNING_RATE, MOMENTUM)

    pair = training.sweep(recipe)
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), plan.members + 1))(
        plan.seed + np.arange(plan.seeds)
    )
    every = max(1, plan.steps // SHARE)

    @jax.jit
    def run(state: training.TrainState, pool: tuple) -> mc.SWAG:
        def advance(carry: tuple, _: None) -> tuple:
            state, swag = carry
            state, _ = jax.lax.scan(lambda s, _: (pair.step(s, pool)[0], None), state, length=every)
            return (state, jax.vmap(mc.SWAG.update)(swag, state.params)), None

        (_, swag), _ = jax.lax.scan(advance, (state, begin(params)), length=ITERATES)
        return swag

    return run(pair.init(keys, params, {"seed": jnp.arange(plan.seeds)}), (x, y))


def features(plan: networks.Plan, params: Any, x: jax.Array) -> jax.Array:
    """Inputs of the last layer."""
    for i in range(len(plan.hidden)):
        layer = params["params"][f"Dense_{i}"]
        x = nn.relu(x @ layer["kernel"] + layer["bias"])
    return x


def last_layer(plan: networks.Plan, x: jax.Array, y: jax.Array, params: Any) -> mc.Laplace:
    """The posterior of the last layer of one network, with the prior of the largest evidence."""
    layer = params["params"][f"Dense_{len(plan.hidden)}"]
    return mc.laplace_classification(features(plan, params, x), y, layer["kernel"], layer["bias"])


def shifted(key: chex.PRNGKey, x: jax.Array) -> jax.Array:
    """Shifts each square image, as a row, by up to a fourteenth of its side along each axis."""
    side = round(x.shape[1] ** 0.5)
    shifts = jax.random.uniform(key, (len(x), 2, 1, 1), minval=-side / 14, maxval=side / 14)
    places = jnp.asarray(np.mgrid[:side, :side], x.dtype)[None] + shifts
    images = x.reshape(-1, side, side)
    moved = jax.vmap(lambda image, place: jax.scipy.ndimage.map_coordinates(image, list(place), order=1))
    return moved(images, places).reshape(x.shape)


def predictor(plan: networks.Plan, name: str, posterior: Any) -> Any:
    """The predictor of a posterior of one seed."""
    model: mlp.MLP = plan.model()
    if name == SWAG:
        return mc.swag(lambda params, _, x: model.apply(params, x), posterior)
    if name == LAPLACE:
        laplace, params = posterior
        return jax.tree_util.Partial(
            lambda laplace, params, key, x: laplace(key, features(plan, params, x)), laplace, params
        )
    return jax.tree_util.Partial(lambda params, key, x: model.apply(params, shifted(key, x)), posterior)


@functools.partial(jax.jit, static_argnames=("plan", "name", "count"))
def sampled(
    plan: networks.Plan, name: str, posterior: Any, keys: chex.PRNGKey, x: jax.Array, count: int
) -> dict[str, jax.Array]:
    """Estimates of `count` samples for the images of each seed, `[seeds, B, D]`."""

    def of_seed(run: tuple) -> dict[str, jax.Array]:
        predict = predictor(plan, name, run[0])
        return mc.estimate(predict, run[1], run[2], num_samples=count, reducers=mc.Categorical()).value

    return jax.lax.map(of_seed, (posterior, keys, x))
