"""Networks of the shapes that they say, with either dropout, and a convolution in two forms."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.samples import networks, tasks

pytestmark = pytest.mark.usefixtures("compiled_in_haste")
X = np.random.default_rng(0).uniform(size=(3, 64)).astype(np.float32)


@pytest.mark.parametrize("name", tasks.image_models(True))
def test_networks_have_classes_and_either_dropout(name):
    model, *_ = tasks.image_models(True)[name]
    shapes = [
        jax.eval_shape(lambda m=m: m.init_with_output(jax.random.key(0), jnp.asarray(X)))
        for m in (model, model.clone(drop=nn.Dropout))
    ]
    (logits, variables), (_, others) = shapes
    assert logits.shape == (3, networks.CLASSES)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, others)


def test_products_of_patches_are_the_convolution():
    x = jnp.asarray(X.reshape(3, 8, 8, 1))
    kernel = {"kernel": jnp.asarray(X[:, :12].reshape(3, 3, 1, 4)), "bias": jnp.ones(4)}
    one, other = (networks.Conv(4, products).apply({"params": kernel}, x) for products in (True, False))
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_batch_statistics_are_learned_in_training_alone():
    model = networks.CNN((2, 2), 4)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.asarray(X))
    keys = {"deterministic": False, "rngs": {"dropout": jax.random.key(1)}}

    @jax.jit
    def train(x: jax.Array) -> tuple:
        return model.apply(variables, x, mutable=["batch_stats"], **keys)[1]["batch_stats"]

    learned, still = (of["BatchNorm_0"]["mean"] for of in (train(X), variables["batch_stats"]))
    assert not np.allclose(learned, still)
    # At rest, the outputs of an example do not depend on the others.
    one, other = (jax.jit(model.apply)(variables, x) for x in (X, np.stack([X[0], X[2], X[2]])))
    np.testing.assert_allclose(one[0], other[0], atol=1e-6)
