"""Posteriors about the network without dropout, and images that are shifted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data, mlp
from experiments.ood import networks, posteriors

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

PLAN = networks.Plan("digits", 0, 2, hidden=(8,), steps=60, members=1, counts=(3,))


@pytest.mark.slow
def test_posteriors_of_each_seed_are_about_its_network(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(100, dtype=np.int32) % 2
    x = (rng.normal(size=(100, 16)) + 3 * y[:, None]).astype(np.float32)
    draws = [mlp.init(np.random.default_rng(i), PLAN.model(), 16) for i in range(4)]
    params = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(2, 2, *leaves[0].shape), *draws)
    examples = data.Dataset("digits", x, y, x, y)
    fitted = posteriors.fit(PLAN, params, examples, tmp_path)
    swag, (laplace, first) = fitted[posteriors.SWAG], fitted[posteriors.LAPLACE]
    assert swag.num_iterates.tolist() == [posteriors.ITERATES] * 2
    kernel = params["params"]["Dense_1"]["kernel"][:, 0]
    np.testing.assert_array_equal(laplace.kernel, kernel)
    images = jnp.asarray(x.reshape(2, 50, 16))
    for name in posteriors.NAMES:
        found = posteriors.sampled(
            PLAN, name, fitted[name], jax.random.split(jax.random.key(0), 2), images, 20
        )
        assert found["mean"].shape == (2, 50, 10)
        assert (found["mutual_information"] > -1e-6).all()
    one = jax.tree.map(lambda leaf: leaf[0], first)
    logits = posteriors.features(PLAN, one, images[0]) @ kernel[0] + params["params"]["Dense_1"]["bias"][0, 0]
    np.testing.assert_allclose(logits, PLAN.model().apply(one, images[0]), rtol=1e-4, atol=1e-5)


def test_images_are_shifted_by_parts_of_pixels():
    x = jnp.zeros((50, 64)).at[:, 27].set(1.0)
    shifted = np.asarray(posteriors.shifted(jax.random.key(0), x)).reshape(50, 8, 8)
    np.testing.assert_allclose(shifted.sum((1, 2)), 1, atol=1e-6)
    centers = np.einsum("bij,aij->ba", shifted, np.mgrid[:8, :8])
    assert np.abs(centers - 3).max() <= 8 / 14 + 1e-5
    assert (centers.std(0) > 0.2).all()
