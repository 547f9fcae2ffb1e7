"""Problems for the command, right and wrong."""

import jax
import jax.numpy as jnp
import optax

from jaxdrop import training

X = jnp.linspace(-1, 1, 8)


def recipe(hyper):
    def loss_fn(params, key, batch):
        return jnp.mean((params * batch - 2 * batch) ** 2) + hyper["decay"] * params**2, {}

    return loss_fn, optax.sgd(hyper["rate"])


def line(hyper):
    """A line of slope 2, fitted at learning rates; the seed is where it begins."""
    init, step = training.sweep(recipe)
    states = init(jax.vmap(jax.random.key)(hyper["seed"]), 0.1 * hyper["seed"].astype(jnp.float32), hyper)
    score = {"score_fn": lambda state, key, valid: jnp.mean((state.params * valid - 2 * valid) ** 2)}
    return {"step": step, "states": states, "train": X, "valid": X, **score}


def number(hyper):
    return 3


def part(hyper):
    return {"step": None, "data": None}


def of_another_score(hyper):
    return {**line(hyper), "score_fn": lambda state, key, valid: valid}


def broken(hyper):
    def score_fn(state, key, valid):
        raise ValueError("a mistake of the user")

    return {**line(hyper), "score_fn": score_fn}
