"""Rows of seeds, uniform batches, and stacked first weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import batches, cli


def test_rows_of_a_seed_do_not_overlap_and_do_not_depend_on_how_many_seeds():
    rows = batches.draw_rows(3, 2, 50, train=30, valid=10)
    assert {name: value.shape for name, value in rows.items()} == {
        "train": (2, 30),
        "probe": (2, 10),
        "valid": (2, 10),
    }
    assert not set(rows["train"][0]) & set(rows["valid"][0])
    assert set(rows["probe"][1]) <= set(rows["train"][1])
    again = batches.draw_rows(4, 1, 50, train=30, valid=10)
    np.testing.assert_array_equal(rows["train"][1], again["train"][0])


def test_more_rows_than_there_are_are_refused():
    assert batches.draw_rows(0, 1, 40, train=30, valid=10)["valid"].shape == (1, 10)
    with pytest.raises(cli.BadInputError, match="must have at least 41 development examples, got 40"):
        batches.draw_rows(0, 1, 40, train=30, valid=11)


def test_batches_are_uniform():
    counts = np.bincount(batches.draw_batch(jax.random.key(0), 30_000, 3), minlength=3)
    # Each count is binomial(30000, 1/3): a standard deviation of 81.6.
    assert counts.sum() == 30_000
    assert np.abs(counts - 10_000).max() < 5 * 81.7


def test_seeds_run_fastest():
    keys = jax.random.key_data(batches.seed_keys(3, 2, 3))
    np.testing.assert_array_equal(keys[:2], keys[2:4])
    np.testing.assert_array_equal(keys[1], jax.random.key_data(jax.random.key(4)))
    stacked = batches.stack([{"w": np.zeros(2)}, {"w": np.ones(2)}], 2)
    np.testing.assert_array_equal(stacked["w"][:, 0], [0, 1, 0, 1])


@pytest.mark.slow
def test_cross_entropy_is_that_of_the_rows_drawn():
    x, y = jnp.eye(3), jnp.arange(3)
    loss = batches.cross_entropy(lambda params, x, key: params * x, lambda key: jnp.array([0, 2]))
    value, _ = loss(jnp.float32(2.0), jax.random.key(0), (x, y))
    np.testing.assert_allclose(value, -jax.nn.log_softmax(2 * x[0])[0], rtol=1e-6)
