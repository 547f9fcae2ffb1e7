"""What is chosen, paired and shown, on a study small enough to know the answer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.variants import study


def recipe(hyper):
    def loss_fn(params, key, pool):
        return jnp.square(params["w"] - hyper["aim"]), ()

    return loss_fn, optax.sgd(0.25)


def method(name="fit", aims=(1.0, 3.0)):
    return study.Method(
        name=name,
        settings=[{"aim": aim} for aim in aims],
        init=lambda rng: {"w": np.zeros(())},
        recipe=recipe,
        score=lambda params, hyper, batch: jnp.mean(jnp.abs(params["w"] - batch)),
        steps=20,
        baseline="fit",
    )


def make(*methods):
    """Seeds 5 and 6 are validated on 2 and 4, and tested on 10."""
    rows = {"train": [[0], [0]], "probe": [[0], [0]], "valid": [[1], [2]]}
    return study.Study(
        title="a line",
        methods=list(methods),
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
    keys, hyper = study.cells(make(), method())
    np.testing.assert_array_equal(hyper["aim"], [1, 1, 3, 3])
    np.testing.assert_array_equal(hyper["valid"], [[1], [2], [1], [2]])
    assert keys.shape == (4,)
    assert bool(jnp.all(keys[0] == keys[2]))
    assert not bool(jnp.all(keys[0] == keys[1]))


def test_the_setting_of_the_lowest_mean_validation_score_is_chosen_and_tested(tmp_path):
    rows, folders = study.run(make(method(), method("other", aims=(3.5,))), tmp_path)
    fit, other = rows
    # w goes half the way to its aim at each step: after 20 it is there to six digits. Aim 1 is at
    # distances 1 and 3 from the validation points, aim 3 at 1 and 1.
    assert fit["setting"] == {"aim": 3.0}
    np.testing.assert_allclose([tried["valid"] for tried in fit["tried"]], [2, 1], atol=1e-4)
    np.testing.assert_allclose(fit["test_by_seed"], [7, 7], atol=1e-4)
    np.testing.assert_allclose([fit["train"], fit["valid"]], [3, 1], atol=1e-4)
    np.testing.assert_allclose(other["difference"], -0.5, atol=1e-4)
    assert fit["verdict"] == "-"
    assert other["verdict"] == "helps"
    assert len(set(folders)) == 2


def test_the_best_on_the_way_is_of_the_mean_over_seeds():
    curves = np.zeros((study.CHUNKS, 1, 2, 2), np.float32)
    curves[:, 0, 0, 1], curves[:, 0, 1, 1] = 3.0, 5.0
    curves[4, 0, :, 1] = 1.0, 2.0
    result = {"curves": curves, "chosen": 0, "test": np.array([1.0, 3.0])}
    row = study.summarise(method(aims=(1.0,)), result, np.array([2.0, 2.0]))
    assert row["best_valid"] == 1.5
    assert (row["test"], row["test_error"]) == (2.0, 1.0)
    assert (row["difference"], row["verdict"]) == (0.0, "unclear")


def test_rows_of_a_seed_do_not_overlap_and_do_not_depend_on_how_many_seeds():
    rows = study.draw_rows(3, 2, 50, {"train": 30, "valid": 10})
    assert {name: value.shape for name, value in rows.items()} == {
        "train": (2, 30),
        "probe": (2, 10),
        "valid": (2, 10),
    }
    assert not set(rows["train"][0]) & set(rows["valid"][0])
    assert set(rows["probe"][1]) <= set(rows["train"][1])
    again = study.draw_rows(4, 1, 50, {"train": 30, "valid": 10})
    np.testing.assert_array_equal(rows["train"][1], again["train"][0])


def test_batches_are_uniform():
    counts = np.bincount(study.draw_batch(jax.random.key(0), 30_000, 3), minlength=3)
    # Each count is binomial(30000, 1/3): a standard deviation of 81.6.
    assert counts.sum() == 30_000
    assert np.abs(counts - 10_000).max() < 5 * 81.7


@pytest.mark.parametrize(("factor", "digits", "expected"), [(100, 1, "12.3±0.5"), (1, 3, "0.123±0.005")])
def test_shown(factor, digits, expected):
    made = make()._replace(factor=factor, digits=digits)
    assert study.shown(made, {"test": 0.1234, "test_error": 0.0049}, "test") == expected
