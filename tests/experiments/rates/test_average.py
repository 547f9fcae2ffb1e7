"""The mean of k predictions against one made by hand, and the numbers of samples that match."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data, relu_net
from experiments.means import Mean
from experiments.rates import average, runs

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RATES = (0.2, 0.5)


def setup() -> tuple[relu_net.Params, jax.Array, jax.Array]:
    """A network of no training, and labels that it gets right by chance."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(jnp.asarray, relu_net.init(rng, (6, 16, 4)))
    return params, jnp.asarray(rng.normal(size=(50, 6)), jnp.float32), jnp.arange(50) % 4


@pytest.mark.slow
def test_the_running_mean_is_that_of_samples_drawn_one_by_one():
    params, x, y = setup()
    key = jax.random.key(5)
    one = jax.jit(lambda key: jax.nn.softmax(relu_net.apply(params, x, RATES, key)[0]))
    drawn = np.stack([one(jax.random.fold_in(key, t)) for t in range(9)])
    means = [drawn[: k + 1].mean(0, dtype=np.float64) for k in range(9)]
    expected = [np.mean(mean.argmax(-1) != np.asarray(y)) for mean in means]
    found = average.sampled_errors(params, key, x, y, RATES, 9)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len(set(expected)) > 2


def test_without_noise_every_average_is_the_network():
    params, x, y = setup()
    found = average.sampled_errors(params, jax.random.key(5), x, y, (0.0, 0.0), 3)
    np.testing.assert_allclose(found, relu_net.error_rate(params, x, y), atol=1e-6)


def test_networks_and_repeats_have_noise_of_their_own():
    params, x, y = setup()
    examples = data.Dataset("digits", np.asarray(x), np.asarray(y), np.asarray(x), np.asarray(y))
    setting = runs.Setting(*RATES, 10)
    plan = runs.Plan("average", "digits", 4, 2, (16,), 10, (setting,), samples=8, repeats=2)
    same = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf])[None], params)
    blank = np.zeros((1, 2))
    errors = average.sample(plan, examples, runs.Trained(same, blank, blank, blank))
    assert errors.shape == (2, 2, 8)
    assert len({row.tobytes() for row in errors.reshape(4, 8)}) == 4
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 2**31), 1)
    np.testing.assert_array_equal(errors[1, 1], average.sampled_errors(params, key, x, y, RATES, 8))


def test_rows_pair_by_network_and_take_deviations_over_repeats():
    errors = np.array([[[0.5, 0.3], [0.3, 0.3]], [[0.6, 0.4], [0.6, 0.2]]])
    first, second = average.summarize(errors, np.array([0.3, 0.4]))
    assert (first["samples"], second["samples"]) == (1, 2)
    np.testing.assert_allclose([first["test"].value, *first["difference"]], [0.5, 0.15, 0.05])
    np.testing.assert_allclose(first["deviation"], (np.var([0.5, 0.3], ddof=1) / 2) ** 0.5)
    np.testing.assert_allclose([second["test"].value, second["difference"].value], [0.3, -0.05])


def row(samples: int, difference: float, deviation: float = 0.1) -> dict:
    return {
        "samples": samples,
        "difference": Mean(difference, 0.0),
        "deviation": deviation,
        "verdict": "",
    }


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.5, 0.2, 0.09, -0.05], (4, 3, 3)),
        ([0.5, 0.05, 0.2, 0.05], (None, 4, 4)),
        ([0.5, 0.05, -0.2, -0.2], (3, 2, None)),
        ([0.5, 0.4, 0.3, 0.2], (None, None, None)),
    ],
)
def test_the_numbers_of_samples_that_match(differences, expected):
    rows = [row(k, difference) for k, difference in enumerate(differences, 1)]
    assert (average.matched(rows), average.above(rows), average.within(rows)) == expected


@pytest.mark.parametrize(
    ("at", "last", "verdict", "shows"),
    [
        (40, -0.01, "better", ["yes", "yes"]),
        (5, -0.5, "better", ["no", "in part"]),
        (40, -0.01, "unclear", ["yes", "unclear"]),
        (None, 0.01, "worse", ["no", "no"]),
    ],
)
def test_claims(at, last, verdict, shows):
    rows = [row(k, -0.01 if at is not None and k >= at else 0.3) for k in range(1, 60)]
    rows.append(row(60, last) | {"verdict": verdict})
    found = average.claims(rows, [7, None])
    assert [claim.shows for claim in found] == shows
    assert found[0].here.endswith("no higher by network at 7, none tried")
