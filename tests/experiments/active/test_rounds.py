"""The pool of each seed, training that sees only what has labels, and places that are filled in order."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data
from experiments.active import rounds
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

NETWORK = {"kernels": (2, 2), "units": 4, "rates": (0.25, 0.5)}
PLAN = rounds.Plan("digits", 3, 2, **NETWORK, steps=5, pool=100, first=1, num=4, rounds=1, samples=3)


def examples() -> data.Dataset:
    x = np.random.default_rng(0).uniform(size=(150, 16)).astype(np.float32)
    y = np.arange(150, dtype=np.int32) % 10
    return data.Dataset("digits", x, y, x[:20], y[:20])


def test_a_pool_of_more_images_than_there_are_is_refused():
    with pytest.raises(ValueError, match="`development images` must be at least 151, got 150"):
        rounds.make_pool(PLAN._replace(pool=151), examples())


def test_each_seed_has_its_own_pool_and_some_labels_of_each_class():
    pool = rounds.make_pool(PLAN, examples())
    assert pool.x.shape == (2, 100, 16)
    assert not np.array_equal(pool.x[0], pool.x[1])
    for y, first in zip(pool.y, pool.first, strict=True):
        np.testing.assert_array_equal(y[first], np.arange(10))
    again = rounds.make_pool(PLAN._replace(seeds=1), examples())
    np.testing.assert_array_equal(again.x[0], pool.x[0])


def test_a_pool_must_have_every_class():
    message = "`pool` must hold at least 1 images of each class, got fewer of"
    with pytest.raises(ValueError, match=re.escape(message)):
        rounds.make_pool(PLAN._replace(pool=5), examples())


@pytest.mark.slow
def test_a_network_sees_only_what_has_labels():
    pool = rounds.make_pool(PLAN, examples())
    model = PLAN.model()
    params = model.init(jax.random.key(0), jnp.zeros((1, 16)))
    places = jnp.asarray(np.concatenate([pool.first[0], [77, 77]]))
    fit = jax.jit(lambda x, y: rounds.fit(PLAN, jax.random.key(1), params, x, y, (places, 10)))
    x, y = jnp.asarray(pool.x[0]), jnp.asarray(pool.y[0])
    unseen = np.setdiff1d(np.arange(100), pool.first[0])
    ends = fit(x, y), fit(x.at[unseen].add(3), y.at[unseen].set(0))
    for one, other in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_array_equal(one, other)
    seen = fit(x.at[pool.first[0]].add(3), y)
    assert not np.array_equal(jax.tree.leaves(seen)[-1], jax.tree.leaves(ends[0])[-1])


def test_new_labels_go_after_those_there_are():
    probs = jax.nn.softmax(standard_normal(0, (2, 3, 100, 10)))
    places = np.zeros((2, 14), np.int32)
    places[:, :10] = np.arange(10)
    keys = jax.random.split(jax.random.key(1), 2)
    chosen = np.asarray(rounds.choose("BALD", keys, probs, (jnp.asarray(places), 10), 4))
    np.testing.assert_array_equal(chosen[:, :10], places[:, :10])
    assert (chosen[:, 10:] >= 10).all()
    assert all(len(set(row)) == 14 for row in chosen.tolist())
    assert not np.array_equal(chosen[0], chosen[1])
