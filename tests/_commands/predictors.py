"""Predictors and models for the command, right and wrong."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import jaxdrop


def predict(key, x):
    return 3 * jaxdrop.dropout(key, x, 0.3)


def made():
    return predict


def of_two(key, x):
    return predict(key, x["x"]) + x["shift"][:, None]


def wide(key, x):
    return predict(key, x) @ jnp.ones((7, 2))


def constant(key, x):
    return x


def infinite(key, x):
    return jax.random.normal(key, x.shape) * jnp.nan


def mistaken(key, x):
    raise RuntimeError("a mistake of the user")


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        return nn.Dense(4)(nn.Dropout(0.3, deterministic=not train)(x))


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.dense = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return self.dense(self.dropout(x))


def linen():
    return Linen()


def of_nnx():
    return NNX(nnx.Rngs(0))


def number():
    return 3
