"""Monte-Carlo batch normalization of Linen models: the statistics of drawn minibatches, by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import linen, mc
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
DATA = 3 + 2 * standard_normal(1, (20, 4))
X = standard_normal(2, (5, 4))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.BatchNorm(use_running_average=True, momentum=0.9, name="inner")(nn.tanh(x))


class Net(nn.Module):
    """Modes as an argument and as a field, a module under `nn.jit`, and statistics that devices share."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.BatchNorm(name="first", axis_name="devices")(nn.Dense(3)(x), use_running_average=not train)
        x = nn.Dropout(0.5)(x, deterministic=not train)
        return nn.jit(Block)(name="second")(x)


NET = Net()
VARIABLES = NET.init(KEY, X, train=False)


def normalized(x: jax.typing.ArrayLike, batch: jax.typing.ArrayLike) -> np.ndarray:
    x, batch = np.asarray(x), np.asarray(batch)
    return (x - batch.mean(0)) / np.sqrt(batch.var(0) + 1e-5)


def by_hand(x: jax.Array, batch: jax.Array) -> np.ndarray:
    dense = VARIABLES["params"]["Dense_0"]
    h, h_batch = (np.asarray(a) @ np.asarray(dense["kernel"]) for a in (x, batch))
    h, h_batch = normalized(h, h_batch), normalized(h_batch, h_batch)
    return normalized(np.tanh(h), np.tanh(h_batch))


@pytest.mark.slow
def test_each_sample_has_the_statistics_of_its_minibatch():
    predict = linen.mc_batch_norm(NET, VARIABLES, DATA, batch_size=8, train=False)
    found = mc.sample(predict, KEY, X, num_samples=3, chunk_size=2)
    for t in range(3):
        chosen = jax.random.choice(jax.random.fold_in(KEY, t), 20, (8,), replace=False)
        assert len(set(chosen.tolist())) == 8
        np.testing.assert_allclose(found[t], by_hand(X, DATA[chosen]), rtol=1e-3, atol=1e-4)
    other = linen.mc_batch_norm(
        NET, jax.tree.map(lambda leaf: 2 * leaf, VARIABLES), -DATA, batch_size=8, train=False
    )
    with jax.no_tracing():
        mc.sample(other, KEY, X, num_samples=3, chunk_size=2)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"`model` must call `flax\.linen\.BatchNorm`, got no call of it"):
        linen.mc_batch_norm(nn.Dense(3), nn.Dense(3).init(KEY, X), DATA, batch_size=8)
    with pytest.raises(ValueError, match="`batch_size` must be at most 20, the number of examples, got 21"):
        linen.mc_batch_norm(NET, VARIABLES, DATA, batch_size=21, train=False)
    with pytest.raises(TypeError, match="`model` must be a Linen module, got dict"):
        linen.mc_batch_norm({}, VARIABLES, DATA, batch_size=8)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="`mask` must not hold arrays"):
        linen.mc_batch_norm(NET, VARIABLES, DATA, batch_size=8, train=False, mask=jnp.ones(4))
