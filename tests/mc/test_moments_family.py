"""Every regularizer between two layers: its moments are those of samples, or it is refused by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc
from tests.family import EXCEPTIONS, FAMILY
from tests.normals import standard_normal

SHAPE = (4, 8)
WIDTH = 32
KEYS = jax.random.split(jax.random.key(0), 4)
FIRST = standard_normal(KEYS[0], (WIDTH, WIDTH)) / WIDTH**0.5
SECOND = standard_normal(KEYS[1], (WIDTH, WIDTH)) / WIDTH**0.5
LAST = standard_normal(KEYS[2], (WIDTH, 2)) / WIDTH**0.5
X = standard_normal(KEYS[3], (2, WIDTH))
LEVEL = 0.25
SAMPLES = 20_000

# What draws in a way that has no rule.
REFUSED = {
    "cutmix": "of a key",
    "cutout": "of a key",
    "drop_layer": "`cond`",
    "mixup": "of a key",
    "patch_dropout": "of a key",
    "subset_depth": "of a key",
}
# Standard deviations of the mean, and relative error of the covariance, where it is not (0.04, 0.08):
# a few decisions for all of an example, or of a query's keys, are no sum of many.
LIMITS = {
    "dot_product_attention": (0.1, 0.3),
    "drop_block": (0.1, 0.2),
    "drop_head": (0.2, 0.3),
    "drop_key": (0.1, 0.3),
    "drop_node": (0.2, 0.3),
    "embedding_dropout": (0.4, 0.4),
    "feature_alpha_dropout": (0.2, 0.3),
    "locked_dropout": (0.1, 0.2),
    "shake_drop": (0.5, 0.9),
    "spatial_dropout": (0.1, 0.2),
    "standout": (0.04, 0.12),
    "zoneout": (0.04, 0.12),
}


def _softmax_of_drop_key(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    return jax.nn.softmax(jaxdrop.drop_key(key, x, rate), -1) * 4


def _mean_of_patches(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    kept = jaxdrop.patch_dropout(key, x, rate)
    return jnp.broadcast_to(kept.mean(1, keepdims=True), x.shape)


def _sparse(key: jax.Array, x: jax.Array, level: float) -> jax.Array:
    log_variance = jnp.log(level * FIRST[:8, :8] ** 2 + 1e-4)
    return jaxdrop.sparse_variational_dropout(key, x, FIRST[:8, :8] * 2, log_variance)[0]


PURE: dict[str, Callable] = {member.name: member.pure for member in FAMILY} | {
    "concrete_dropout": lambda key, x, level: jaxdrop.concrete_dropout(key, x, jnp.float32(-1.0))[0],
    "drop_key": _softmax_of_drop_key,
    "patch_dropout": _mean_of_patches,
    "sparse_variational_dropout": _sparse,
    "standout": lambda key, x, level: jaxdrop.standout(key, x, x, beta=1.0),
    "variational_dropout": lambda key, x, level: jaxdrop.variational_dropout(
        key, x, FIRST[:8, :8] * 2, jnp.log(jnp.float32(level))
    )[0],
}
NAMES = sorted(PURE.keys() - REFUSED.keys())
# Those of another signature are functions of no key, or of tokens, or are others' masks.
OTHERS = {"concrete_dropout", "sparse_variational_dropout", "variational_dropout"}


def outputs(name: str, key: jax.Array, x: jax.Array) -> jax.Array:
    """Dense, ReLU, the regularizer, dense, GELU, dense."""
    hidden = jax.nn.relu(x @ FIRST + 0.5).reshape(-1, *SHAPE)
    hidden = PURE[name](key, hidden, LEVEL).reshape(-1, WIDTH)
    return jax.nn.gelu(hidden @ SECOND) @ LAST


@pytest.fixture(scope="module")
def both():
    """Moments and samples of all members at once, each with its own key: one program for each."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        keys = jax.random.split(key, len(NAMES))
        parts = [outputs(name, each, x) for name, each in zip(NAMES, keys, strict=True)]
        return jnp.concatenate(parts, -1)

    @jax.jit
    def sampled(key: jax.Array) -> jax.Array:
        # Each example alone, as its moments are: masks of weights are shared by a batch.
        def one(key: jax.Array) -> jax.Array:
            return jax.vmap(lambda row: predict(key, row[None])[0])(X)

        return jax.lax.map(one, jax.random.split(key, SAMPLES), batch_size=500)

    return mc.moments(predict, X), np.asarray(sampled(jax.random.key(9)), np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_moments_are_those_of_samples(both, name: str):
    found, samples = both
    place = slice(2 * NAMES.index(name), 2 * NAMES.index(name) + 2)
    samples = samples[:, :, place]
    mean, covariance = samples.mean(0), np.stack([np.cov(samples[:, i].T) for i in range(len(X))])
    of_mean, of_covariance = LIMITS.get(name, (0.04, 0.08))
    spread = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    error = np.linalg.norm(found.covariance[:, place, place] - covariance, axis=(1, 2))
    assert (np.abs(found.mean[:, place] - mean) / spread).mean() < of_mean
    assert (error / np.linalg.norm(covariance, axis=(1, 2))).mean() < of_covariance


@pytest.mark.parametrize("name", REFUSED)
def test_members_without_a_law_are_refused(name: str):
    with pytest.raises(ValueError, match=REFUSED[name]):
        mc.moments(lambda key, x: outputs(name, key, x), X)


def test_no_member_is_forgotten():
    assert set(NAMES) | REFUSED.keys() == {member.name for member in FAMILY} | OTHERS
    assert EXCEPTIONS.keys() > OTHERS
