"""Predictions that are the means of what they are made of, and measures by seed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import mlp
from experiments.ood import evaluate, networks, sets
from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

PLAN = networks.Plan("digits", 0, 2, hidden=(8, 8), rate=0.5, members=2, counts=(1, 3, 5), angles=(45, 90))
X = np.random.default_rng(0).uniform(size=(2, 7, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def params():
    draws = [mlp.init(np.random.default_rng(i), PLAN.model(), 6) for i in range(6)]
    return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(2, 3, *leaves[0].shape), *draws)


def probs(params, seed: int, place: int) -> jax.Array:
    one = jax.tree.map(lambda leaf: leaf[seed, place], params)
    return jax.nn.softmax(PLAN.model().apply(one, X[seed]))


@pytest.mark.slow
def test_an_ensemble_is_the_mean_of_its_members(params):
    keys = jax.random.split(jax.random.key(0), 2)
    methods = evaluate.methods(PLAN, ())
    assert [method.name for method in methods] == [evaluate.PLAIN, evaluate.ONE, evaluate.ENSEMBLE]
    found = {m.name: evaluate.predict(PLAN, m, params, keys, jnp.asarray(X)) for m in methods}
    for seed in range(2):
        members = jnp.stack([probs(params, seed, i) for i in range(3)])
        for name, of in (
            (evaluate.PLAIN, slice(1)),
            (evaluate.ONE, slice(2, 3)),
            (evaluate.ENSEMBLE, slice(2)),
        ):
            mean, entropy, information = (np.asarray(part)[seed] for part in found[name])
            np.testing.assert_allclose(mean, members[of].mean(0), atol=1e-5)
            np.testing.assert_allclose(entropy, uncertainty.total_entropy(members[of]), atol=1e-5)
            np.testing.assert_allclose(information, uncertainty.mutual_information(members[of]), atol=1e-5)


@pytest.mark.slow
def test_samples_are_of_the_network_with_dropout(params):
    single = jax.tree.map(lambda leaf: leaf[:, 2], params)
    keys, x = jax.random.split(jax.random.key(0), 2), jnp.asarray(X)
    many = {sites: evaluate.sampled(PLAN.model(), single, keys, x, sites, 400) for sites in ("all", "last")}
    for prediction in many.values():
        np.testing.assert_allclose(np.sum(prediction.mean, -1), 1, atol=1e-5)
        assert (np.asarray(prediction.information) > 0).all()
    # Noise in more places makes the samples differ more.
    assert np.mean(many["all"].information) > np.mean(many["last"].information)
    assert not np.allclose(many["all"].mean, many["last"].mean, atol=1e-3)


def test_angles_on_the_way_have_one_number_of_samples():
    assert evaluate.counts_of(PLAN, sets.IN) == (1, 3, 5)
    assert evaluate.counts_of(PLAN, "rotated 45°") == (5,)
    assert evaluate.counts_of(PLAN, "rotated 90°") == (1, 3, 5)
    assert evaluate.enough(PLAN._replace(counts=(1, 100, 1000))) == 100


@pytest.mark.slow
def test_measures_are_by_seed():
    y = np.array([[0, 1, 1], [2, 2, 0]])
    mean = np.full((2, 3, 3), 0.1, np.float32)
    np.put_along_axis(mean, np.array([[0, 1, 2], [2, 2, 0]])[..., None], 0.8, -1)
    entropy = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]], np.float32)
    inside = evaluate.Prediction(mean, entropy, entropy)
    outside = evaluate.Prediction(mean, entropy + np.array([[0.1], [1.0]], np.float32), entropy)
    images = {sets.IN: sets.Images(X[:, :3], y), "notMNIST": sets.Images(X[:, :3], np.full((2, 3), -1))}
    rows = evaluate.measure(images, {sets.IN: {"one": inside}, "notMNIST": {"one": outside}})["one"]
    np.testing.assert_allclose(rows["in/error"], [1 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(rows["in/nll"], -np.log([[0.8, 0.8, 0.1], [0.8] * 3]).mean(1), rtol=1e-5)
    np.testing.assert_allclose(rows["in/aurc"], [1 / 9, 0], atol=1e-6)
    np.testing.assert_allclose(rows["notMNIST/information"], [0.5, 0.5])
    assert rows["notMNIST/entropy"][1] == 1
    assert "notMNIST/error" not in rows
