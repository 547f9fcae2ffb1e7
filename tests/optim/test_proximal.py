"""Proximal steps: closed forms, exact zeros, and the solutions of scikit-learn's Lasso and ElasticNet."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.linear_model

from jaxdrop import optim, penalties
from tests.normals import standard_normal

N, D = 60, 12


def step(transformation, w, u):
    updates, _ = transformation.update(u, transformation.init(w), w)
    return optax.apply_updates(w, updates)


def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D))
    w = np.where(np.arange(D) < 4, rng.normal(size=D), 0)
    return x, x @ w + 0.3 * rng.normal(size=N)


def solve(proximal, x, y, steps=3000):
    """Proximal gradient on `1 / (2 N) * |y - x w|^2`, at one over its Lipschitz constant, in float64."""
    with jax.enable_x64(True):
        rate = N / float(np.linalg.norm(x, 2) ** 2)
        x, y = jnp.asarray(x), jnp.asarray(y)[:, None]
        optimizer = optax.chain(optax.sgd(rate), proximal(rate))

        def body(carry, _):
            w, state = carry
            grad = x.T @ (x @ w - y) / N
            updates, state = optimizer.update(grad, state, w)
            return (optax.apply_updates(w, updates), state), None

        w = jnp.zeros((D, 1))
        (w, _), _ = jax.lax.scan(body, (w, optimizer.init(w)), length=steps)
        return np.asarray(w)[:, 0]


@pytest.mark.parametrize("strength", [0.05, 0.2])
def test_the_lasso(strength):
    x, y = problem()
    mine = solve(lambda rate: optim.proximal_l1(strength, rate), x, y)
    theirs = sklearn.linear_model.Lasso(strength, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(x, y)
    np.testing.assert_allclose(mine, theirs.coef_, atol=1e-9)
    assert 0 < (mine == 0).sum() < D
    np.testing.assert_array_equal(mine == 0, theirs.coef_ == 0)


def test_the_elastic_net():
    x, y = problem()
    # Theirs is a * (r |w|_1 + (1 - r) / 2 |w|_2^2).
    a, r = 0.2, 0.6
    mine = solve(lambda rate: optim.proximal_elastic_net((a * r, a * (1 - r) / 2), rate), x, y)
    theirs = sklearn.linear_model.ElasticNet(
        alpha=a, l1_ratio=r, fit_intercept=False, tol=1e-14, max_iter=100_000
    ).fit(x, y)
    np.testing.assert_allclose(mine, theirs.coef_, atol=1e-9)
    assert 0 < (mine == 0).sum() < D


def test_in_float32_the_lasso_to_five_digits():
    x, y = (part.astype(np.float32) for part in problem())
    rate = N / float(np.linalg.norm(x, 2) ** 2)
    optimizer, w = optax.chain(optax.sgd(rate), optim.proximal_l1(0.2, rate)), jnp.zeros((D, 1))
    state = optimizer.init(w)
    update = jax.jit(lambda w, state: optimizer.update(x.T @ (x @ w - y[:, None]) / N, state, w))
    for _ in range(300):
        updates, state = update(w, state)
        w = optax.apply_updates(w, updates)
    theirs = sklearn.linear_model.Lasso(0.2, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(*problem())
    np.testing.assert_allclose(w[:, 0], theirs.coef_, atol=1e-5)


def test_the_lasso_s_solution_is_where_the_penalty_says():
    """The subgradient of the loss plus `penalties.l1` has 0 in it: the strengths mean the same."""
    x, y = problem()
    w = solve(lambda rate: optim.proximal_l1(0.2, rate), x, y)
    loss = lambda w: jnp.sum((y - x @ w) ** 2) / (2 * N) + penalties.l1(w, 0.2, where=lambda *_: True)  # noqa: E731
    with jax.enable_x64(True):
        gradient = np.asarray(jax.grad(loss)(jnp.asarray(w)))
    np.testing.assert_allclose(gradient[w != 0], 0, atol=1e-9)
    assert (np.abs(gradient[w == 0]) <= 0.2).all()


def test_l1_step_by_hand():
    new = step(
        optim.proximal_l1(2.0, 0.1), jnp.array([[1.0, -1.0, 0.3, -0.1]]), jnp.array([[0.0, 0.5, -0.2, 0.9]])
    )
    np.testing.assert_allclose(new, [[0.8, -0.3, 0.0, 0.6]], atol=1e-7)
    assert new[0, 2] == 0


def test_elastic_net_step_by_hand():
    new = step(optim.proximal_elastic_net((2.0, 0.5), 0.1), jnp.array([[1.3, 0.1]]), jnp.zeros((1, 2)))
    np.testing.assert_allclose(new, [[1.0, 0.0]], atol=1e-7)
    both = step(optim.proximal_elastic_net(2.0, 0.1), jnp.array([[1.3, 0.1]]), jnp.zeros((1, 2)))
    np.testing.assert_allclose(both, [[1.1 / 1.4, 0.0]], atol=1e-7)


@pytest.mark.slow
def test_group_lasso_step_against_numpy():
    rng = np.random.default_rng(1)
    w, u = rng.normal(size=(5, 4)) * [1.0, 0.1, 1.0, 2.0], rng.normal(size=(5, 4)) * 0.01
    new = step(optim.proximal_group_lasso(0.3, 0.5), jnp.asarray(w, jnp.float32), jnp.asarray(u, jnp.float32))
    end = w + u
    norms = np.linalg.norm(end, axis=0)
    expected = end * np.maximum(1 - 0.3 * 0.5 * 5**0.5 / norms, 0)
    np.testing.assert_allclose(new, expected, atol=1e-6)
    assert (np.asarray(new)[:, 1] == 0).all()
    rows = step(
        optim.proximal_group_lasso(0.3, 0.5, unit_axis=0),
        jnp.asarray(w.T, jnp.float32),
        jnp.asarray(u.T, jnp.float32),
    )
    np.testing.assert_allclose(rows, expected.T, atol=1e-6)


@pytest.mark.slow
def test_group_lasso_goes_down_its_own_penalty():
    """A proximal step is the least of penalty + distance: no point nearby is lower."""
    w = standard_normal(0, (3, 4, 2))
    new = step(optim.proximal_group_lasso(0.4, 0.5, unit_axis=(-2, -1)), w, jnp.zeros_like(w))

    def objective(z):
        return penalties.group_lasso(z, 0.4, unit_axis=(-2, -1)) + jnp.sum((z - w) ** 2) / (2 * 0.5)

    nearby = new[None] + 0.03 * standard_normal(1, (20, *w.shape))
    assert (jax.vmap(objective)(nearby) > objective(new)).all()


def test_whole_units_are_removed():
    """Of ten inputs two matter; group lasso over the rows of the kernel finds them."""
    x = standard_normal(0, (200, 10))
    y = jnp.stack([x[:, 0] - x[:, 1], 2 * x[:, 1]], 1)
    optimizer = optax.chain(optax.sgd(0.1), optim.proximal_group_lasso(0.1, 0.1, unit_axis=-2))
    w = standard_normal(1, (10, 2))

    def body(carry, _):
        w, state = carry
        updates, state = optimizer.update(x.T @ (x @ w - y) / 200, state, w)
        return (optax.apply_updates(w, updates), state), None

    (w, _), _ = jax.lax.scan(body, (w, optimizer.init(w)), length=200)
    assert ((w == 0).all(1) == (jnp.arange(10) > 1)).all()
