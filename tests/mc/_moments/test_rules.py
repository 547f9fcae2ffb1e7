"""Arrangements, sums and products: exact for what is linear."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from jaxdrop.mc._moments import elementwise, rules
from tests.normals import standard_normal

X = standard_normal(0, (2, 12))
W = standard_normal(1, (12, 5))
KERNEL = standard_normal(2, (2, 2, 3, 4))


def _conv(h: jax.Array) -> jax.Array:
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        h.reshape(-1, 2, 2, 3), KERNEL, (1, 1), "SAME", dimension_numbers=dims
    )


LINEAR = [
    lambda h: h @ W,
    lambda h: _conv(h).reshape(len(h), -1),
    lambda h: jnp.cumsum(h, -1)[:, ::-1],
    lambda h: h.reshape(-1, 3, 4).transpose(0, 2, 1).sum(-1),
    lambda h: jnp.pad(h, ((0, 0), (1, 2)), constant_values=3.0),
    lambda h: jnp.concatenate([h, 2 * h, jnp.ones_like(h)], -1),
    lambda h: jnp.take(h, jnp.array([3, 3, 1]), axis=-1),
    lambda h: h.at[:, jnp.array([2, 99])].get(mode="fill", fill_value=3.0),
    lambda h: h.at[:, jnp.array([1, 1, 2])].add(1.0).at[:, 0].set(5.0),
    lambda h: jnp.zeros((len(h), 4)).at[:, jnp.arange(12) % 4].add(h),
    lambda h: jax.lax.dynamic_update_slice(h, h[:, :2], (0, 4)),
    lambda h: jax.lax.dynamic_slice(h, (0, 3), (len(h), 4)),
    lambda h: jnp.stack(jnp.split(h, 3, -1), -1).sum(1) / 7.0,
    lambda h: jax.lax.reduce_window(h, 0.0, jax.lax.add, (1, 3), (1, 2), "SAME") - 1,
    lambda h: jax.lax.optimization_barrier(-h),
    lambda h: jnp.einsum("bik,bi->bk", (h[:, :, None] * W[None]), jnp.ones_like(X[:1])),
]


@pytest.fixture(scope="module")
def both():
    """All of them at once, and their Jacobians in float64."""

    def all_of(h: jax.Array) -> jax.Array:
        return jnp.concatenate([fun(h).reshape(len(h), -1) for fun in LINEAR], -1)

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        return all_of(x * jax.random.bernoulli(key, 0.5, x.shape))

    jacobians = jax.vmap(jax.jacobian(lambda row: all_of(row[None])[0]))(X / 2)
    sizes = [fun(X).reshape(2, -1).shape[1] for fun in LINEAR]
    return mc.moments(predict, X), all_of(X / 2), np.asarray(jacobians, np.float64), np.cumsum([0, *sizes])


@pytest.mark.parametrize("index", range(len(LINEAR)))
def test_linear_rules_are_exact(both, index: int):
    found, mean, jacobian, ends = both
    part = slice(ends[index], ends[index + 1])
    j = jacobian[:, part]
    expected = np.einsum("bki,bi,bli->bkl", j, np.asarray(X, np.float64) ** 2 / 4, j)
    np.testing.assert_allclose(found.mean[:, part], mean[:, part], atol=1e-5)
    np.testing.assert_allclose(found.covariance[:, part, part], expected, atol=2e-5)
    assert found.rules == ()


def test_each_primitive_has_one_rule():
    assert not elementwise.PRIMITIVES & rules._RULES.keys()
    assert not rules._UNCHANGED & rules._RULES.keys()
