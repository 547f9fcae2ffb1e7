"""NNX cells around cells: zoneout, and masks that are drawn once for all steps."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
from jaxdrop.nnx import RecurrentDropoutCell, ZoneoutCell
from tests.normals import standard_normal
from tests.recurrent import check_masks_of_evaluation, check_states_without_masks, gate, reference
from tests.shells import draws, loop_bodies

KEY = jax.random.key(3)
X = standard_normal(1, (6, 5, 4))


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


@pytest.mark.slow
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


CELLS = [("LSTMCell", 1), ("LSTMCell", 4), ("OptimizedLSTMCell", 4), ("GRUCell", 1), ("GRUCell", 3)]
CELLS += [("SimpleCell", 1)]


def gates_of(cell):
    """The gates of a cell, whose layers are those of all gates or one for each."""
    if isinstance(cell, nnx.LSTMCell):
        layers = [(cell.ii, cell.hi), (cell.if_, cell.hf), (cell.ig, cell.hg), (cell.io, cell.ho)]
    else:
        layers = [(cell.dense_i, cell.dense_h)]

    def parts(layer, which):
        array = getattr(layer, which)
        count = layer.out_features // 3
        return [0.0] * count if array is None else jnp.split(array[...], count, axis=-1)

    kinds = [(parts(i, "kernel"), parts(i, "bias"), parts(h, "kernel"), parts(h, "bias")) for i, h in layers]
    return [gate(*four) for kind in kinds for four in zip(*kind, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_masks"), CELLS)
def test_states_are_masked_in_products_alone(name, num_masks):
    """Against NumPy, which adds the state of a gated unit unmasked; with a mask for each gate, too."""
    options = {"residual": True} if name == "SimpleCell" else {}
    cell = getattr(nnx, name)(4, 3, rngs=nnx.Rngs(0), **options)
    nnx.update(cell, jax.tree.map(lambda leaf: leaf + 0.1, nnx.state(cell, nnx.Param)))
    before = jax.tree.structure(nnx.state(cell))
    rnn = nnx.RNN(RecurrentDropoutCell(cell, 0.5, num_masks=num_masks, rngs=nnx.Rngs(0)), return_carry=True)
    (_, masks), y = nnx.jit(lambda rnn, x: rnn(x))(rnn, X)
    np.testing.assert_allclose(y, reference(name, gates_of(cell), X, masks, 0.5), rtol=1e-4, atol=1e-5)
    slopes = nnx.grad(lambda rnn: rnn(X)[1].sum())(rnn)
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(slopes))
    assert jax.tree.structure(nnx.state(cell)) == before


def test_the_old_state_of_zoneout_is_not_masked():
    """At rate 1 it is the new state."""
    zoneout = ZoneoutCell(lstm(), 1.0, rngs=nnx.Rngs(0))
    both = RecurrentDropoutCell(zoneout, 0.5, rngs=nnx.Rngs(1))
    state, masks = both.initialize_carry((6, 4), nnx.Rngs(2))
    carry = jax.tree.map(lambda part: part + 0.5, state), masks
    (new, _), _ = both(carry, X[:, 0])
    jax.tree.map(np.testing.assert_array_equal, new, carry[0])


@pytest.mark.parametrize(
    ("num_masks", "least"), [(4, "1, or one for each gate of GRUCell"), (0, "at least 1")]
)
def test_a_number_of_masks_that_does_not_fit(num_masks, least):
    cell = RecurrentDropoutCell(
        nnx.GRUCell(4, 3, rngs=nnx.Rngs(0)), 0.5, num_masks=num_masks, rngs=nnx.Rngs(0)
    )
    with pytest.raises(ValueError, match=re.escape(f"`num_masks` must be {least}, got {num_masks}.")):
        cell(cell.initialize_carry((6, 4), nnx.Rngs(0)), X[:, 0])


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
