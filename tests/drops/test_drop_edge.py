"""Drop edge: how often, both directions together, and the adjacency normalized again."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop

KEY = jax.random.key(26)
NODES = 30
rng = np.random.default_rng(0)
PAIRS = np.array([(a, b) for a in range(NODES) for b in range(a) if rng.random() < 0.5])
SENDERS = jnp.asarray(np.concatenate([PAIRS[:, 0], PAIRS[:, 1], np.arange(NODES)]))
RECEIVERS = jnp.asarray(np.concatenate([PAIRS[:, 1], PAIRS[:, 0], np.arange(NODES)]))
WEIGHTS = jnp.ones(len(SENDERS))
ENDS = {"senders": SENDERS, "receivers": RECEIVERS}


def dense(weights) -> np.ndarray:
    matrix = np.zeros((NODES, NODES))
    np.add.at(matrix, (np.asarray(RECEIVERS), np.asarray(SENDERS)), np.asarray(weights, np.float64))
    return matrix


def test_how_often():
    y = np.asarray(jaxdrop.drop_edge(KEY, jnp.full(5000, 2.0), 0.3))
    assert set(np.unique(y).tolist()) == {0.0, 2.0}
    assert abs((y == 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 5000)


def test_both_directions_of_an_undirected_edge_and_no_self_loop():
    y = dense(jaxdrop.drop_edge(KEY, WEIGHTS, 0.4, undirected=True, **ENDS))
    np.testing.assert_array_equal(y, y.T)
    assert (np.diag(y) == 1).all()
    gone = 1 - np.tril(y, -1).sum() / len(PAIRS)
    assert abs(gone - 0.4) < 5 * np.sqrt(0.4 * 0.6 / len(PAIRS))
    directed = dense(jaxdrop.drop_edge(KEY, WEIGHTS, 0.4, **ENDS))
    assert not np.array_equal(directed, directed.T)
    assert (np.diag(directed) == 1).all()


def test_the_order_of_undirected_edges_does_not_matter():
    order = np.random.default_rng(1).permutation(len(SENDERS))
    shuffled = {"senders": RECEIVERS[order], "receivers": SENDERS[order]}
    y = jaxdrop.drop_edge(KEY, WEIGHTS, 0.4, undirected=True, **ENDS)
    np.testing.assert_array_equal(jaxdrop.drop_edge(KEY, WEIGHTS, 0.4, undirected=True, **shuffled), y[order])


def test_renormalized_against_dense_float64():
    options = {"num_nodes": NODES, "undirected": True, **ENDS}
    plain = dense(jaxdrop.drop_edge(KEY, WEIGHTS, 0.4, **options))
    scale = 1 / np.sqrt(plain.sum(1))
    y = dense(jax.jit(lambda w: jaxdrop.drop_edge(KEY, w, 0.4, renormalize=True, **options))(WEIGHTS))
    np.testing.assert_allclose(y, scale[:, None] * plain * scale[None, :], rtol=1e-5)


@pytest.mark.slow
def test_a_node_that_loses_all_its_edges():
    ends = {"senders": jnp.array([0, 1]), "receivers": jnp.array([1, 0]), "num_nodes": 3}
    f = lambda w: jaxdrop.drop_edge(KEY, w, 1.0, renormalize=True, **ends)  # noqa: E731
    np.testing.assert_array_equal(f(jnp.ones(2)), 0)
    assert np.isfinite(jax.grad(lambda w: f(w).sum())(jnp.ones(2))).all()


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (ValueError, {"undirected": True}, "`senders` must be given, got None."),
        (ValueError, {"renormalize": True, **ENDS}, "`num_nodes` must be given for `renormalize`, got None."),
        (ValueError, {**ENDS, "receivers": RECEIVERS[:3]}, "`receivers` must have the shape of `weights`"),
        (TypeError, {**ENDS, "senders": WEIGHTS}, "`senders` must be an integer array, got float32."),
        (
            ValueError,
            {**ENDS, "undirected": True, "bits": 32},
            "`bits` must be 8, 16, 24 or None for undirected edges, got 32.",
        ),
    ],
)
def test_bad_input(error, options, message):
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.drop_edge(KEY, WEIGHTS, 0.5, **options)
    with pytest.raises(ValueError, match=re.escape("`weights` must be of shape [E], got (2, 2).")):
        jaxdrop.drop_edge(KEY, jnp.ones((2, 2)), 0.5)
