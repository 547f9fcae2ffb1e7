"""Linen cells around cells: zoneout, and masks that are drawn once for all steps."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop.linen import RecurrentDropoutCell, ZoneoutCell
from tests.normals import standard_normal
from tests.recurrent import check_masks_of_evaluation, check_states_without_masks, gate, reference
from tests.shells import draws, loop_bodies

KEY = jax.random.key(3)
X = standard_normal(1, (6, 5, 4))
SPLIT = {"params": False, "dropout": True}


class Echo(nn.RNNCellBase):
    """Tells what it reads: its inputs and its hidden state, which is ones at every step."""

    def __call__(self, carry, inputs):
        count, hidden = carry
        return (count + 1, jnp.ones_like(hidden)), (inputs, hidden)

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.zeros(input_shape[:-1]), jnp.ones((*input_shape[:-1], 3))

    @property
    def num_feature_axes(self):
        return 1


class Tied(Echo):
    """The new state is all twos, and what it gives is its hidden part."""

    def __call__(self, carry, inputs):
        new = jax.tree.map(lambda part: jnp.full_like(part, 2.0), carry)
        return new, new[1]


def test_zoneout_cell_mixes_each_part_of_the_state():
    cell, x = ZoneoutCell(Tied(), (0.3, 0.5), bits=8), X[:, 0]
    carry = cell.initialize_carry(KEY, x.shape)
    (c, h), y = cell.apply({}, carry, x, deterministic=False, rngs={"dropout": KEY})
    assert y is h
    assert 0 < (h == 1).mean() < 1
    assert set(np.unique(c)) <= {0.0, 2.0}
    (c, h), y = cell.apply({}, carry, x, deterministic=True)
    np.testing.assert_array_equal(c, jaxdrop.zoneout_mean(2 * jnp.ones(6), jnp.zeros(6), 0.3, bits=8))
    np.testing.assert_array_equal(h, 1.5)
    assert y is h
    one, _ = ZoneoutCell(Tied(), (0.0, 1.0)).apply({}, carry, x, deterministic=False)
    np.testing.assert_array_equal(one[0], 2)
    np.testing.assert_array_equal(one[1], 1)
    with pytest.raises(
        ValueError, match=re.escape("`rate` must be one rate or 2, one for each part, got 3.")
    ):
        ZoneoutCell(Tied(), (0.1, 0.1, 0.1)).apply({}, carry, x, deterministic=True)


@pytest.mark.slow
@pytest.mark.parametrize("lift", [nn.remat, nn.jit])
@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.SimpleCell])
def test_zoneout_of_a_lifted_cell_is_that_of_the_cell(lift, cell):
    """Behind a transformation the output is another array than the state, though it is the same."""
    rnn, lifted = (
        nn.RNN(ZoneoutCell(kind(3), 0.5, deterministic=False), split_rngs=SPLIT)
        for kind in (cell, lift(cell))
    )
    variables = rnn.init({"params": KEY, "dropout": KEY}, X)
    expected = rnn.apply(variables, X, rngs={"dropout": KEY})
    names = jax.tree.structure(lifted.init({"params": KEY, "dropout": KEY}, X))
    variables = names.unflatten(jax.tree.leaves(variables))
    y = lifted.apply(variables, X, rngs={"dropout": KEY})
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    state, y = ZoneoutCell(lift(cell)(3), 1.0, deterministic=False).init_with_output(
        {"params": KEY, "dropout": KEY}, cell(3).initialize_carry(KEY, (6, 4)), X[:, 0]
    )[0]
    assert not y.any()
    assert not jax.tree.leaves(state)[-1].any()


def test_zoneout_cell_in_a_network_has_new_masks_at_every_step():
    rnn = nn.RNN(ZoneoutCell(Tied(), 0.5, deterministic=False), split_rngs=SPLIT)
    y = rnn.apply({}, X, initial_carry=(jnp.zeros((6,)), jnp.zeros((6, 3))), rngs={"dropout": KEY})
    changes = np.diff(np.asarray(y), axis=1) != 0
    assert set(np.unique(y)) == {0.0, 2.0}
    assert all(change.any() for change in np.moveaxis(changes, 1, 0)[:2])
    with pytest.raises(Exception, match="dropout"):
        nn.RNN(ZoneoutCell(Tied(), 0.5, deterministic=False)).apply({}, X, rngs={"dropout": KEY})


@pytest.mark.slow
def test_zoneout_cell_trains_and_evaluates():
    def rnn(deterministic):
        return nn.RNN(ZoneoutCell(nn.SimpleCell(3), 0.3, deterministic=deterministic), split_rngs=SPLIT)

    variables = jax.jit(rnn(True).init)(KEY, X)
    plain = jax.eval_shape(nn.RNN(nn.SimpleCell(3)).init, KEY, X)
    inner = {"params": {"cell": variables["params"]["cell"]["cell"]}}
    assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, inner)

    @jax.jit
    def gradient(variables, key):
        return jax.grad(lambda v: rnn(False).apply(v, X, rngs={"dropout": key}).sum())(variables)

    first, second = (jax.tree.leaves(gradient(variables, key)) for key in jax.random.split(KEY))
    assert all(np.isfinite(leaf).all() for leaf in first)
    assert not np.array_equal(first[0], second[0])
    still = rnn(True).apply(variables, X)
    np.testing.assert_array_equal(still, rnn(True).apply(variables, X, rngs={"dropout": KEY}))


def test_recurrent_dropout_has_one_mask_for_all_steps():
    rnn = nn.RNN(RecurrentDropoutCell(Echo(), (0.5, 0.25), deterministic=False), return_carry=True)
    (_, masks), (inputs, hidden) = rnn.apply({}, jnp.ones((6, 5, 4)), rngs={"dropout": KEY})
    for got, mask, scale in zip((inputs, hidden), masks, (2.0, 4 / 3), strict=True):
        assert 0 < mask.mean() < 1
        expected = jnp.broadcast_to(jnp.where(mask, scale, 0.0)[:, None], got.shape)
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    (_, other), _ = rnn.apply({}, jnp.ones((6, 5, 4)), rngs={"dropout": jax.random.key(9)})
    assert not np.array_equal(masks[0], other[0])
    (_, fresh), _ = rnn.apply(
        {}, X, rngs={"dropout": KEY}, initial_carry=((jnp.zeros(6), jnp.ones((6, 3))), other)
    )
    np.testing.assert_array_equal(fresh[0], other[0])


def test_the_loop_draws_nothing():
    """But that of zoneout does, so the probe can tell."""
    once = nn.RNN(RecurrentDropoutCell(nn.LSTMCell(3), 0.5, deterministic=False))
    each = nn.RNN(ZoneoutCell(nn.LSTMCell(3), 0.5, deterministic=False), split_rngs=SPLIT)
    for rnn, drawn in ((once, False), (each, True)):
        variables = jax.eval_shape(rnn.init, KEY, X)
        program = jax.make_jaxpr(lambda v, rnn=rnn: rnn.apply(v, X, rngs={"dropout": KEY}))(variables)
        (body,) = loop_bodies(program.jaxpr)
        assert draws(program.jaxpr)
        assert draws(body) is drawn


def test_recurrent_dropout_trains_and_evaluates():
    def rnn(deterministic, rate=0.5):
        return nn.RNN(RecurrentDropoutCell(nn.SimpleCell(3), rate, deterministic=deterministic))

    variables = jax.jit(rnn(True).init)(KEY, X)
    plain = nn.RNN(nn.SimpleCell(3))
    inner = {"params": {"cell": variables["params"]["cell"]["cell"]}}
    expected = plain.apply(inner, X)
    np.testing.assert_array_equal(rnn(True).apply(variables, X), expected)
    np.testing.assert_array_equal(rnn(False, 0.0).apply(variables, X), expected)

    @jax.jit
    def gradient(variables, key):
        return jax.grad(lambda v: rnn(False).apply(v, X, rngs={"dropout": key}).sum())(variables)

    first, second = (jax.tree.leaves(gradient(variables, key)) for key in jax.random.split(KEY))
    assert all(np.isfinite(leaf).all() for leaf in first)
    assert not np.array_equal(first[0], second[0])


def test_sequence_lengths_and_a_cell_by_hand():
    rnn = nn.RNN(RecurrentDropoutCell(nn.LSTMCell(3), 0.5, deterministic=False), return_carry=True)
    variables = rnn.init(KEY, X)
    lengths = jnp.array([1, 2, 3, 4, 5, 5])
    (state, _), y = rnn.apply(variables, X, seq_lengths=lengths, rngs={"dropout": KEY})
    np.testing.assert_allclose(state[1], y[jnp.arange(6), lengths - 1], rtol=1e-6)
    _, masks = RecurrentDropoutCell(nn.LSTMCell(3), 0.5, deterministic=False).initialize_carry(KEY, (6, 4))
    assert [mask.shape for mask in masks] == [(6, 4), (6, 3)]


def test_zoneout_of_a_cell_with_recurrent_dropout_leaves_its_masks_alone():
    cell = RecurrentDropoutCell(Tied(), 0.5, deterministic=False)
    carry = cell.initialize_carry(KEY, (6, 4))
    both = ZoneoutCell(cell, 0.5, deterministic=False)
    (_, masks), _ = both.apply({}, carry, X[:, 0], rngs={"dropout": KEY})
    jax.tree.map(np.testing.assert_array_equal, masks, carry[1])


GATES = {
    "LSTMCell": "ifgo",
    "OptimizedLSTMCell": "ifgo",
    "GRUCell": "rzn",
    "MGUCell": "fn",
    "SimpleCell": [""],
}
CELLS = [
    (nn.LSTMCell(3), 1),
    (nn.LSTMCell(3), 4),
    (nn.OptimizedLSTMCell(3), 1),
    (nn.GRUCell(3), 1),
    (nn.GRUCell(3), 3),
    (nn.MGUCell(3), 1),
    (nn.MGUCell(3), 2),
    (nn.SimpleCell(3, residual=True), 1),
]


def gates_of(params, name):
    def part(layer, key):
        return layer.get(key, 0.0)

    layers = [(params[f"i{g}"], params[f"h{g}"]) for g in GATES[name]]
    return [gate(i["kernel"], part(i, "bias"), h["kernel"], part(h, "bias")) for i, h in layers]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "num_masks"), CELLS, ids=[f"{type(cell).__name__}-{count}" for cell, count in CELLS]
)
def test_states_are_masked_in_products_alone(cell, num_masks):
    """Against NumPy, which adds the state of a gated unit unmasked; with a mask for each gate, too."""
    wrapped = RecurrentDropoutCell(cell, 0.5, deterministic=False, num_masks=num_masks)
    rnn = nn.RNN(wrapped, return_carry=True)
    variables = rnn.init({"params": KEY, "dropout": KEY}, X)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    (state, masks), y = jax.jit(rnn.apply)(variables, X, rngs={"dropout": KEY})
    assert [mask.ndim for mask in masks] == [2 + (num_masks > 1)] * 2
    name = type(cell).__name__
    gates = gates_of(variables["params"]["cell"]["cell"], name)
    np.testing.assert_allclose(y, reference(name, gates, X, masks, 0.5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.tree.leaves(state)[-1], y[:, -1], rtol=1e-5)


@pytest.mark.slow
def test_equal_masks_of_gates_are_one_mask():
    """Of a convolutional cell, whose gates are one layer."""
    cell, x = nn.ConvLSTMCell(2, (3,)), standard_normal(KEY, (2, 3, 5, 4))
    one, four = (RecurrentDropoutCell(cell, 0.5, deterministic=False, num_masks=n) for n in (1, 4))
    variables = one.init({"params": KEY, "dropout": KEY}, one.initialize_carry(KEY, x[:, 0].shape), x[:, 0])
    state, masks = one.initialize_carry(KEY, x[:, 0].shape)
    state = jax.tree.map(lambda part: part + 0.5, state)
    many = tuple(jnp.repeat(mask[:, None], 4, axis=1) for mask in masks)
    assert [m.shape for m in four.initialize_carry(KEY, x[:, 0].shape)[1]] == [m.shape for m in many]
    expected = one.apply(variables, (state, masks), x[:, 0])[1]
    np.testing.assert_allclose(four.apply(variables, (state, many), x[:, 0])[1], expected, rtol=1e-5)
    with pytest.raises(ValueError, match=re.escape("must hold masks of shape (2, 4, 5, 4), got (2, 5")):
        four.apply(variables, (state, masks), x[:, 0])


def test_a_dropped_state_has_no_gradient_in_products():
    rnn = nn.RNN(RecurrentDropoutCell(nn.GRUCell(8), (0.0, 0.5), deterministic=False), return_carry=True)
    variables = rnn.init({"params": KEY, "dropout": KEY}, X[:1])
    (_, (_, mask)), _ = rnn.apply(variables, X[:1], rngs={"dropout": KEY})
    slopes = jax.jit(jax.grad(lambda v: rnn.apply(v, X[:1], rngs={"dropout": KEY})[1].sum()))(variables)
    for g in "rzn":
        rows = np.any(np.asarray(slopes["params"]["cell"]["cell"][f"h{g}"]["kernel"]) != 0, axis=1)
        np.testing.assert_array_equal(rows, mask[0])


def test_the_old_state_of_zoneout_is_not_masked():
    """At rate 1 it is the new state."""
    both = RecurrentDropoutCell(ZoneoutCell(nn.LSTMCell(3), 1.0), 0.5, deterministic=False)
    both = both.clone(cell=both.cell.clone(deterministic=False))
    state, masks = both.initialize_carry(KEY, (6, 4))
    carry = jax.tree.map(lambda part: part + 0.5, state), masks
    rngs = {"params": KEY, "dropout": KEY}
    (new, _), _ = both.apply(both.init(rngs, carry, X[:, 0]), carry, X[:, 0], rngs=rngs)
    jax.tree.map(np.testing.assert_array_equal, new, carry[0])


@pytest.mark.parametrize(
    ("cell", "num_masks", "error", "message"),
    [
        (
            nn.remat(nn.GRUCell)(3),
            1,
            TypeError,
            "`cell` must hand its inputs or hidden state to layers",
        ),
        (
            nn.OptimizedLSTMCell(3),
            4,
            TypeError,
            "`cell` must hand its inputs or hidden state to layers",
        ),
        (nn.GRUCell(3), 4, ValueError, "`num_masks` must be 1, or one for each gate of GRUCell, got 4."),
        (nn.GRUCell(3), 0, ValueError, "`num_masks` must be at least 1, got 0."),
    ],
)
def test_cells_that_cannot_be_masked_by_layer(cell, num_masks, error, message):
    wrapped = RecurrentDropoutCell(cell, 0.5, deterministic=False, num_masks=num_masks)
    with pytest.raises(error, match=re.escape(message)):
        wrapped.init({"params": KEY, "dropout": KEY}, wrapped.initialize_carry(KEY, (6, 4)), X[:, 0])


def decoder(off, x, carry, rate=0.5):
    rnns = [nn.RNN(RecurrentDropoutCell(nn.LSTMCell(3), rate, deterministic=mode)) for mode in (True, off)]
    return rnns[1].apply(rnns[0].init(KEY, x), x, initial_carry=carry, rngs={"dropout": KEY})


@pytest.mark.parametrize("off", [False, True])
@pytest.mark.parametrize("batch", [2, 3])
def test_a_state_without_masks_is_refused(batch, off):
    """Of an encoder, say; at batch 2 a part of it has the form of two masks."""
    check_states_without_masks(decoder, X[:batch], off)


def test_masks_of_evaluation_are_refused_in_training():
    """Without them the state would have no dropout at all."""
    check_masks_of_evaluation(decoder, X)
