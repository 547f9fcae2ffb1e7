"""What is chosen and paired, on a study small enough to know the answer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import study


def recipe(hyper):
    def loss_fn(params, key, pool):
        return jnp.square(params["w"] - hyper["aim"]), ()

    return loss_fn, optax.sgd(0.25)


def program(*aims, steps=20):
    """Program of methods by name, each with the aims to choose from."""
    return study.Program(
        methods=[study.Method(name, [{"aim": aim} for aim in of], "fit") for name, of in aims],
        init=lambda seed: {"w": np.zeros(())},
        recipe=recipe,
        score=lambda params, hyper, batch: jnp.mean(jnp.abs(params["w"] - batch)),
        steps=steps,
    )


FIT, OTHER = ("fit", (1.0, 3.0)), ("other", (3.5,))


def make(*programs):
    """Seeds 5 and 6 are validated on 2 and 4, and tested on 10."""
    rows = {"train": [[0], [0]], "probe": [[0], [0]], "valid": [[1], [2]]}
    return study.Study(
        title="a line",
        programs=list(programs),
        rows={name: np.array(value) for name, value in rows.items()},
        pool=jnp.array([0.0, 2.0, 4.0]),
        take=lambda pool, rows: pool[rows],
        test=jnp.array([10.0]),
        score="distance",
        factor=1,
        digits=2,
        seed=5,
        config={},
    )


def test_cells_repeat_settings_and_tile_seeds():
    keys, hyper = study.cells(make(), program(FIT))
    np.testing.assert_array_equal(hyper["aim"], [1, 1, 3, 3])
    np.testing.assert_array_equal(hyper["valid"], [[1], [2], [1], [2]])
    assert keys.shape == (4,)
    assert bool(jnp.all(keys[0] == keys[2]))
    assert not bool(jnp.all(keys[0] == keys[1]))


@pytest.mark.parametrize("programs", [[program(FIT), program(OTHER)], [program(FIT, OTHER)]])
@pytest.mark.parametrize("across", [jax.vmap, study.one_by_one])
def test_the_setting_of_the_lowest_mean_validation_score_is_chosen_and_tested(programs, across, tmp_path):
    fit, other = study.run(make(*programs)._replace(across=across), tmp_path)
    # w goes half the way to its aim at each step: after 20 it is there to six digits. Aim 1 is at
    # distances 1 and 3 from the validation points, aim 3 at 1 and 1.
    assert fit.setting == {"aim": 3.0}
    np.testing.assert_allclose([tried["valid"] for tried in fit.tried], [2, 1], atol=1e-4)
    np.testing.assert_allclose(fit.test_by_seed, [7, 7], atol=1e-4)
    np.testing.assert_allclose([fit.means["train"].value, fit.means["valid"].value], [3, 1], atol=1e-4)
    np.testing.assert_allclose([tried["valid"] for tried in other.tried], [1], atol=1e-4)
    np.testing.assert_allclose(other.means["difference"].value, -0.5, atol=1e-4)
    assert (fit.verdict, other.verdict) == ("-", "helps")


def test_the_first_of_equal_settings_is_chosen():
    made = program(FIT, ("other", (3.5, 2.0, 1.0)))
    assert study.choose(made, np.array([0.5, 0.5, 0.4, 0.3, 0.3])) == [0, 3]


def test_the_best_during_training_is_of_the_mean_over_seeds():
    curves = np.zeros((10, 1, 2, 2), np.float32)
    curves[:, 0, 0, 1], curves[:, 0, 1, 1] = 3.0, 5.0
    curves[4, 0, :, 1] = 1.0, 2.0
    (row,) = study.summarize(program(("fit", (1.0,))), curves, [0], {"test": np.array([[1.0, 3.0]])}, [])
    assert row.metrics()["best_valid"] == 1.5
    assert row.means["test"] == (2.0, 1.0)
    assert row.means["gap"] == (2.0, 1.0)
