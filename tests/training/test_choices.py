"""The choice of a setting: by hand, with repetitions, failures and the one-standard-error rule."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdrop
from jaxdrop.training import choose, grid, sweep
from tests.normals import standard_normal

HYPER = grid(seed=[0, 1, 2], rate=[0.0, 0.25, 0.5], decay=[0.0, 1.0])
# Scores by seed, rate and decay: the lowest mean at rate .25 and decay 0, with a standard error of .1.
MEANS = np.array([[0.9, 0.8], [0.5, 0.58], [0.59, 0.7]])
SPREAD = np.array([-1.0, 0.0, 1.0]) * 0.1 * 3**0.5
SCORES = (MEANS[None] + SPREAD[:, None, None]).ravel()


def test_grid():
    table = grid(seed=[0, 1, 2], rate=[0.0, 0.5])
    np.testing.assert_array_equal(table["seed"], [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(table["rate"], [0, 0.5] * 3)
    with pytest.raises(
        ValueError, match=re.escape("`rate` must be a non-empty list of scalars, got shape (0,).")
    ):
        grid(rate=[])


def test_the_table_and_the_lowest_mean():
    choice = choose(HYPER, SCORES)
    assert choice.setting == {"rate": 0.25, "decay": 0.0}
    np.testing.assert_allclose(choice.mean, MEANS.ravel())
    np.testing.assert_allclose(choice.standard_error, 0.1)
    np.testing.assert_allclose(choice.settings["rate"], [0, 0, 0.25, 0.25, 0.5, 0.5])
    np.testing.assert_allclose(choice.settings["decay"], [0, 1] * 3)
    np.testing.assert_array_equal(choice.rank.reshape(3, 6), [[5, 4, 0, 1, 2, 3]] * 3)


@pytest.mark.parametrize(
    ("simpler", "expected"),
    [("rate", (0.5, 0.0)), ("decay", (0.25, 1.0)), (("rate", "decay"), (0.5, 0.0))],
)
def test_the_one_standard_error_rule(simpler, expected):
    """Means of .58 and .59 are within .1 of .5, but .7 is not."""
    setting = choose(HYPER, SCORES, simpler=simpler).setting
    assert (setting["rate"], setting["decay"]) == expected


def test_a_setting_with_a_run_that_failed_is_not_chosen():
    scores = SCORES.copy()
    scores[np.flatnonzero((HYPER["rate"] == 0.25) & (HYPER["decay"] == 0))[0]] = np.nan
    choice = choose(HYPER, scores)
    assert choice.setting == {"rate": 0.25, "decay": 1.0}
    assert np.isnan(choice.mean[2])
    assert choice.rank.reshape(3, 6)[:, 2].tolist() == [5, 5, 5]
    with pytest.raises(ValueError, match="`scores` must be finite for all runs of at least one setting"):
        choose(HYPER, np.full(18, np.inf))


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"`hyper` must hold arrays of the shape of `scores`, \(3,\), got"):
        choose(HYPER, SCORES[:3])
    with pytest.raises(ValueError, match=r"`scores` must be an array \[runs\], got shape \(3, 6\)"):
        choose(HYPER, SCORES.reshape(3, 6))
    with pytest.raises(ValueError, match=r"`over` must be one of 'seed', .*, or None .* got 'seeds'"):
        choose(HYPER, SCORES, over="seeds")
    with pytest.raises(ValueError, match=r"`simpler` must be one of .*, got 'rates'"):
        choose(HYPER, SCORES, simpler="rates")
    with pytest.raises(ValueError, match="`simpler` must not name the repetitions, got 'seed'"):
        choose(HYPER, SCORES, simpler="seed")
    with pytest.raises(ValueError, match="two or more runs of the best setting"):
        choose({"rate": [0.0, 0.5]}, [1.0, 2.0], over=None, simpler="rate")
    assert choose({"rate": [0.0, 0.5]}, [1.0, 2.0], over=None).setting == {"rate": 0.0}


@pytest.mark.slow
def test_a_rate_is_chosen_and_the_grid_is_halved():
    """Of a sweep: the better half of the settings trains on, as it would have in the whole grid."""
    x = standard_normal(1, (32, 8))

    def recipe(hyper):
        def loss_fn(params, key, x):
            return jnp.mean((jaxdrop.dropout(key, x, hyper["rate"]) @ params - x[:, :1]) ** 2), {}

        return loss_fn, optax.sgd(0.1)

    hyper = grid(seed=[0, 1], rate=[0.0, 0.3, 0.6, 0.9])
    pair = sweep(recipe)
    states = pair.init(jax.vmap(jax.random.key)(hyper["seed"]), jnp.zeros((8, 8, 1)), hyper)
    score = jax.vmap(lambda params: jnp.mean((x @ params - x[:, :1]) ** 2))
    for _ in range(5):
        states, _ = pair.step(states, x)
    choice = choose(hyper, score(states.params))
    assert choice.setting["rate"] < 0.5
    kept = np.flatnonzero(choice.rank < 2)
    fewer = jax.tree.map(lambda leaf: leaf[kept], states)
    assert set(np.asarray(fewer.hyper["rate"]).tolist()) == {0.0, np.float32(0.3).item()}
    fewer, _ = pair.step(fewer, x)
    states, _ = pair.step(states, x)
    np.testing.assert_allclose(fewer.params, states.params[kept], rtol=1e-5)
    assert choose(fewer.hyper, score(fewer.params)).setting.keys() == {"rate"}
