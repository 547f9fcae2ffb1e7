"""NNX cells around cells: zoneout, and masks that are drawn once for all steps."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
from jaxdrop.nnx import RecurrentDropoutCell, ZoneoutCell
from tests.recurrent import check_masks_of_evaluation, check_states_without_masks
from tests.shells import draws, loop_bodies

KEY = jax.random.key(3)
X = jax.random.normal(jax.random.key(1), (6, 5, 4))


class Echo(nnx.RNNCellBase):
    """Tells what it reads: its inputs and its hidden state, which is ones at every step."""

    def __call__(self, carry, inputs):
        count, hidden = carry
        return (count + 1, jnp.ones_like(hidden)), (inputs, hidden)

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros(input_shape[:-1]), jnp.ones((*input_shape[:-1], 3))

    @property
    def num_feature_axes(self):
        return 1


class Tied(Echo):
    """The new state is all twos, and what it gives is its hidden part."""

    def __call__(self, carry, inputs):
        new = jax.tree.map(lambda part: jnp.full_like(part, 2.0), carry)
        return new, new[1]


def lstm() -> nnx.LSTMCell:
    return nnx.LSTMCell(4, 3, rngs=nnx.Rngs(0))


def simple() -> nnx.SimpleCell:
    return nnx.SimpleCell(4, 3, rngs=nnx.Rngs(0))


def test_zoneout_cell_mixes_each_part_of_the_state():
    cell, x = ZoneoutCell(Tied(), (0.3, 0.5), bits=8, rngs=nnx.Rngs(0)), X[:, 0]
    carry = cell.initialize_carry(x.shape)
    (c, h), y = cell(carry, x)
    assert y is h
    assert 0 < (h == 1).mean() < 1
    assert set(np.unique(c)) <= {0.0, 2.0}
    cell.eval()
    (c, h), y = cell(carry, x)
    np.testing.assert_array_equal(c, jaxdrop.zoneout_mean(2 * jnp.ones(6), jnp.zeros(6), 0.3, bits=8))
    np.testing.assert_array_equal(h, 1.5)
    assert y is h
    one, _ = ZoneoutCell(Tied(), (0.0, 1.0))(carry, x)
    np.testing.assert_array_equal(one[0], 2)
    np.testing.assert_array_equal(one[1], 1)
    with pytest.raises(
        ValueError, match=re.escape("`rate` must be one rate or 2, one for each part, got 3.")
    ):
        ZoneoutCell(Tied(), (0.1, 0.1, 0.1), deterministic=True)(carry, x)
    with pytest.raises(ValueError, match=re.escape("`rate` must lie in [0, 1], got 1.5.")):
        ZoneoutCell(Tied(), (0.1, 1.5))


def test_zoneout_cell_in_a_network_has_new_masks_at_every_step():
    rnn = nnx.RNN(ZoneoutCell(Tied(), 0.5, rngs=nnx.Rngs(0)))
    y = rnn(X, initial_carry=(jnp.zeros((6,)), jnp.zeros((6, 3))))
    changes = np.diff(np.asarray(y), axis=1) != 0
    assert set(np.unique(y)) == {0.0, 2.0}
    assert all(change.any() for change in np.moveaxis(changes, 1, 0)[:2])
    assert int(rnn.cell.rngs.count[...]) == 5


def test_recurrent_dropout_has_one_mask_for_all_steps():
    rnn = nnx.RNN(RecurrentDropoutCell(Echo(), (0.5, 0.25), rngs=nnx.Rngs(0)), return_carry=True)
    (_, masks), (inputs, hidden) = rnn(jnp.ones((6, 5, 4)))
    for got, mask, scale in zip((inputs, hidden), masks, (2.0, 4 / 3), strict=True):
        assert 0 < mask.mean() < 1
        expected = jnp.broadcast_to(jnp.where(mask, scale, 0.0)[:, None], got.shape)
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    (_, other), _ = rnn(jnp.ones((6, 5, 4)))
    assert not np.array_equal(masks[0], other[0])
    (_, fresh), _ = rnn(X, initial_carry=((jnp.zeros(6), jnp.ones((6, 3))), other))
    np.testing.assert_array_equal(fresh[0], other[0])


def test_the_loop_draws_nothing():
    """But that of zoneout does, so the probe can tell."""
    for cell, drawn in ((RecurrentDropoutCell, False), (ZoneoutCell, True)):
        graph, state = nnx.split(nnx.RNN(cell(lstm(), 0.5, rngs=nnx.Rngs(0))))
        program = jax.make_jaxpr(lambda state, graph=graph: nnx.merge(graph, state)(X))(state)
        (body,) = loop_bodies(program.jaxpr)
        assert draws(program.jaxpr)
        assert draws(body) is drawn


@pytest.mark.parametrize("wrapper", [RecurrentDropoutCell, ZoneoutCell])
def test_cells_train_and_evaluate(wrapper):
    rnn, plain = nnx.RNN(wrapper(simple(), 0.5, rngs=nnx.Rngs(0))), nnx.RNN(simple())
    gradient = nnx.jit(nnx.grad(lambda rnn: rnn(X).sum()))
    first, second = (jax.tree.leaves(nnx.to_pure_dict(gradient(rnn))) for _ in range(2))
    assert all(np.isfinite(leaf).all() for leaf in first)
    assert not np.array_equal(first[0], second[0])
    rnn.eval()
    y = rnn(X)
    np.testing.assert_array_equal(rnn(X), y)
    if wrapper is RecurrentDropoutCell:
        np.testing.assert_array_equal(y, plain(X))


def test_sequence_lengths():
    rnn = nnx.RNN(RecurrentDropoutCell(lstm(), 0.5, rngs=nnx.Rngs(0)), return_carry=True)
    lengths = jnp.array([1, 2, 3, 4, 5, 5])
    (state, masks), y = rnn(X, seq_lengths=lengths)
    np.testing.assert_allclose(state[1], y[jnp.arange(6), lengths - 1], rtol=1e-6)
    assert [mask.shape for mask in masks] == [(6, 4), (6, 3)]


def test_zoneout_of_a_cell_with_recurrent_dropout_leaves_its_masks_alone():
    both = ZoneoutCell(RecurrentDropoutCell(Tied(), 0.5, rngs=nnx.Rngs(0)), 0.5, rngs=nnx.Rngs(1))
    carry = both.initialize_carry((6, 4))
    (_, masks), _ = both(carry, X[:, 0])
    jax.tree.map(np.testing.assert_array_equal, masks, carry[1])


@pytest.mark.parametrize(
    "cell", [nnx.GRUCell(4, 3, rngs=nnx.Rngs(0)), nnx.SimpleCell(4, 3, residual=True, rngs=nnx.Rngs(0))]
)
def test_a_cell_that_adds_its_hidden_state_is_refused(cell):
    message = "`cell` must read its hidden state in matrix products alone, as LSTM cells do, got "
    with pytest.raises(TypeError, match=re.escape(message + type(cell).__name__)):
        RecurrentDropoutCell(ZoneoutCell(cell, 0.1), 0.5).initialize_carry((6, 4))


def test_rates_that_are_arrays_one_for_each_part():
    rates = (jnp.float32(0.1), jnp.float32(0.2))
    lstm = nnx.LSTMCell(4, 3, rngs=nnx.Rngs(0))
    held = ZoneoutCell(lstm, rates, rngs=nnx.Rngs(1))
    plain = ZoneoutCell(lstm, (0.1, 0.2), rngs=nnx.Rngs(1))
    found = nnx.jit(lambda cell, x: nnx.RNN(cell)(x))(held, X)
    np.testing.assert_allclose(found, nnx.RNN(plain)(X), rtol=2e-3, atol=2e-3)
    plain.rate = rates  # as a schedule sets it
    plain.rate = (0.3, 0.4)
    assert plain.rate == (0.3, 0.4)


def decoder(off, x, carry, rate=0.5):
    cell = RecurrentDropoutCell(lstm(), rate, deterministic=off, rngs=nnx.Rngs(0))
    return nnx.RNN(cell)(x, initial_carry=carry)


@pytest.mark.parametrize("off", [False, True])
@pytest.mark.parametrize("batch", [2, 3])
def test_a_state_without_masks_is_refused(batch, off):
    """Of an encoder, say; at batch 2 a part of it has the form of two masks."""
    check_states_without_masks(decoder, X[:batch], off)


def test_masks_of_evaluation_are_refused_in_training():
    """Without them the state would have no dropout at all."""
    check_masks_of_evaluation(decoder, X)
