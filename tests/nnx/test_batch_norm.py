"""Monte-Carlo batch normalization of NNX models: the statistics of drawn minibatches, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop.nnx as jn
from jaxdrop import mc
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
DATA = 3 + 2 * standard_normal(1, (20, 4))
X = standard_normal(2, (5, 4))


def test_each_sample_has_the_statistics_of_its_minibatch_and_the_model_stays():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.BatchNorm(4, axis_name="devices", rngs=rngs),
        nnx.Dropout(0.5, rngs=rngs),
        jnp.tanh,
        nnx.BatchNorm(4, rngs=rngs),
    )
    model.train()
    before = jax.tree.map(np.asarray, nnx.state(model, nnx.BatchStat))
    predict = jn.mc_batch_norm(model, DATA, batch_size=8)
    found = mc.sample(predict, KEY, X, num_samples=3, chunk_size=2)

    def normalized(x: jax.typing.ArrayLike, batch: jax.typing.ArrayLike) -> np.ndarray:
        x, batch = np.asarray(x), np.asarray(batch)
        return (x - batch.mean(0)) / np.sqrt(batch.var(0) + 1e-5)

    for t in range(3):
        batch = DATA[jax.random.choice(jax.random.fold_in(KEY, t), 20, (8,), replace=False)]
        h, h_batch = np.tanh(normalized(X, batch)), np.tanh(normalized(batch, batch))
        np.testing.assert_allclose(found[t], normalized(h, h_batch), rtol=1e-3, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model, nnx.BatchStat))
    assert model.layers[0].use_running_average is False
    assert model.layers[0].momentum == 0.99


def test_what_does_not_fit_is_refused():
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"`model` must have an `nnx\.BatchNorm`, got none"):
        jn.mc_batch_norm(model, DATA, batch_size=8)
    with pytest.raises(TypeError, match=r"`model` must be an nnx\.Module, got function"):
        jn.mc_batch_norm(lambda x: x, DATA, batch_size=8)  # pyright: ignore[reportArgumentType]
