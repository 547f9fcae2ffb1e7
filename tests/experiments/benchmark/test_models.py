"""The models of the benchmark; and what the compiled Transformer block does for dropout."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from experiments.benchmark import models, peers

KEY = jax.random.key(0)
WIDTH, HEADS, SHAPE = 64, 4, (2, 16, 64)
PARAMS = {
    "qkv": (WIDTH, HEADS, 3 * WIDTH // HEADS),
    "out": (WIDTH, WIDTH),
    "up": (WIDTH, 4 * WIDTH),
    "down": (4 * WIDTH, WIDTH),
}


def block_params() -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(1), len(PARAMS))
    return {n: jax.random.normal(k, s) / 8 for k, (n, s) in zip(keys, PARAMS.items(), strict=True)}


def kernels(drop: peers.Drop, backward: bool) -> Counter:
    """The kernels of the compiled block that write an array as large as an activation, by kind."""

    def loss(params: dict, key: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.mean(models.block(drop, params, key, x) ** 2)

    function = jax.grad(loss) if backward else lambda p, k, x: models.block(drop, p, k, x)
    text = jax.jit(function).lower(block_params(), KEY, jnp.ones(SHAPE)).compile().as_text()
    entry = text[text.index("\nENTRY") :]
    found = re.findall(r"^  (?:ROOT )?%\S+ = \w+\[([\d,]+)\]\S* (\w[\w-]*)\(", entry, re.M)
    large = [kind for sizes, kind in found if np.prod([int(n) for n in sizes.split(",")]) >= np.prod(SHAPE)]
    return Counter(kind for kind in large if kind not in ("parameter", "bitcast", "get-tuple-element"))


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_dropout_is_part_of_the_loops_that_are_there(backward):
    """What is new are the draws, two bits an element. Backward, from jax 0.12 on, a loop may be split
    in two at the barrier by which `jax.checkpoint` keeps the redraw apart: once for each site at most.
    """
    without, ours = kernels(peers.no_drop, backward), kernels(jaxdrop.dropout, backward)
    assert sum(without.values()) > 4
    new = ours - without
    new.pop("call", None)
    split = 4 if backward and jax.__version_info__ >= (0, 12) else 0
    assert set(new) <= {"fusion"}
    assert new["fusion"] <= split


@pytest.mark.slow
def test_the_block_without_dropout_is_that_with_rate_zero():
    x = jax.random.normal(jax.random.key(2), SHAPE)
    plain = models.block(peers.no_drop, block_params(), KEY, x)
    zero = models.block(lambda key, x, rate: jaxdrop.dropout(key, x, 0.0), block_params(), KEY, x)
    np.testing.assert_array_equal(plain, zero)
    assert (models.block(jaxdrop.dropout, block_params(), KEY, x) != plain).any()


def test_moments_do_not_depend_on_the_chunk():
    keys = jax.random.split(KEY, 12)

    def predict(key: jax.Array) -> jax.Array:
        return jax.random.normal(key, (5,))

    draws = jax.vmap(predict)(keys)
    for chunk in (1, 4, 12):
        mean, variance = models.moments(predict, keys, chunk)
        np.testing.assert_allclose(mean, draws.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(variance, draws.var(0), rtol=1e-5, atol=1e-6)


def test_a_step_descends():
    def loss(params: jax.Array, key: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum((params - x) ** 2)

    params, value = models.trained(loss, jnp.zeros(3), jnp.ones(3)).call()
    np.testing.assert_allclose(params, 0.2)
    assert value == 3
