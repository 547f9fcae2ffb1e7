"""What the suite of Keras asserts of its regularization layers and penalties, and where Keras errs.

Without a counterpart here: the serialization of layers and their `get_config`, Keras's masks,
symbolic layers (an exported function stands for them), `regularizers.get`, the orthogonal penalty
and the constraints.
"""

import re
from functools import partial

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx
from jaxdrop import adapters, penalties
from tests.conformance.arithmetic import assert_mean

KEY = jax.random.key(1337)
ONES = jnp.ones((20, 5, 10))
VALUES = np.random.default_rng(0).random((4, 4)).astype(np.float32) - 0.5
LAYERS = [
    ("Dropout", (2, 3)),
    ("AlphaDropout", (2, 3)),
    ("GaussianDropout", (2, 3)),
    ("GaussianNoise", (2, 3)),
    ("SpatialDropout", (2, 3, 4)),
    ("SpatialDropout", (2, 3, 4, 5)),
    ("SpatialDropout", (2, 3, 4, 4, 5)),
]


def everything(path, leaf) -> bool:
    """Keras penalizes the tensor that it is given, whatever its rank."""
    return True


@pytest.mark.parametrize(("name", "shape"), LAYERS)
def test_layers_keep_shape_and_dtype_and_own_no_weights(name, shape):
    """Keras regularization/*_test.py::test_*_basics: shape, dtype, no weights, one seed generator."""
    linen = getattr(jaxdrop.linen, name)(0.2)
    module = getattr(jaxdrop.nnx, name)(0.2, rngs=nnx.Rngs(dropout=1))
    assert jax.tree.leaves(linen.init(KEY, jnp.ones(shape), deterministic=False)) == []
    assert jax.tree.leaves(nnx.state(module, nnx.Param)) == []
    assert len(jax.tree.leaves(nnx.state(module, nnx.RngKey))) == 1
    for dtype in (jnp.float32, jnp.float16):
        x = jax.ShapeDtypeStruct(shape, dtype)
        y = jax.eval_shape(lambda x: linen.apply({}, x, deterministic=False, rngs={"dropout": KEY}), x)
        assert (y.shape, y.dtype) == (shape, dtype)
        y = module(jnp.ones(shape, dtype))
        assert (y.shape, y.dtype) == (shape, dtype)


@pytest.mark.parametrize(("name", "shape"), LAYERS)
def test_layers_do_nothing_outside_of_training(name, shape):
    """Keras spatial_dropout_test.py::test_spatial_dropout_*d: with `training=False` nothing changes."""
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(getattr(jaxdrop.linen, name)(0.5).apply({}, x, deterministic=True), x)
    module = getattr(jaxdrop.nnx, name)(0.5)
    module.eval()
    np.testing.assert_array_equal(module(x), x)


def test_dropout_rescales():
    """Keras dropout_test.py::test_dropout_rescaling: the mean stays 1 (Keras: to 0.02), the largest is 2."""
    y = jaxdrop.dropout(KEY, jnp.ones((20, 500)), 0.5)
    assert_mean(y.ravel(), 1.0)
    assert y.max() == 2


@pytest.mark.parametrize("noise_shape", [(None, 1, None), (20, 1, 10), [20, 1, 10]])
def test_dropout_noise_shape(noise_shape):
    """Keras dropout_test.py::test_dropout_partial_noise_shape_{dynamic,static}, cast_to_a_tuple: shared."""
    y = adapters.keras_dropout(KEY, ONES, 0.5, noise_shape=noise_shape)
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1], ONES.shape))
    np.testing.assert_array_equal(y, adapters.keras_dropout(KEY, ONES, 0.5, noise_shape=(20, 1, 10)))


def test_dropout_noise_shape_none():
    """Keras dropout_test.py::test_validate_noise_shape_none: every element has its own decision."""
    y = adapters.keras_dropout(KEY, ONES, 0.5, noise_shape=None)
    np.testing.assert_array_equal(y, jaxdrop.dropout(KEY, ONES, 0.5))
    assert not np.array_equal(y[:, 0], y[:, 1])


@pytest.mark.parametrize(
    ("noise_shape", "error"),
    [
        ("Invalid", TypeError),
        ((20, 1.5, 10), TypeError),
        ((20, -1, 10), ValueError),
        ((20, 0, 10), ValueError),
    ],
)
def test_dropout_bad_noise_shape(noise_shape, error):
    """Keras dropout_test.py::test_validate_noise_shape_*: refused; Keras says ValueError for types too."""
    with pytest.raises(error, match="`noise_shape` must "):
        adapters.keras_dropout(KEY, ONES, 0.5, noise_shape=noise_shape)


@pytest.mark.parametrize("name", ["Dropout", "AlphaDropout", "GaussianDropout", "SpatialDropout"])
@pytest.mark.parametrize("rate", [-0.5, 1.5])
def test_bad_rates(name, rate):
    """Keras {dropout,alpha_dropout}_test.py::test_*_negative_rate, _rate_greater_than_one: ValueError.

    Keras refuses in the constructor, as NNX does here; a Linen module refuses where it is called.
    """
    message = re.escape(f"`rate` must lie in [0, 1], got {rate:g}.")
    with pytest.raises(ValueError, match=message):
        getattr(jaxdrop.nnx, name)(rate)
    with pytest.raises(ValueError, match=message):
        getattr(jaxdrop.linen, name)(rate).apply({}, ONES, deterministic=False, rng=KEY)


def test_alpha_dropout_deviation():
    """Keras alpha_dropout_test.py::test_alpha_dropout_correctness: of ones, a deviation of 1 to 0.1.

    Two values, a (1 - s) apart: the deviation is a (1 - s) sqrt(p q) = 1.088, and 1 only for an
    input of variance 1.
    """
    y = jaxdrop.alpha_dropout(KEY, jnp.ones((20, 500)), 0.3)
    saturation = -1.7580993408473766
    expected = (0.7 * (1 + 0.3 * saturation**2)) ** -0.5 * (1 - saturation) * np.sqrt(0.3 * 0.7)
    assert_mean((np.asarray(y.ravel(), np.float64) - y.mean()) ** 2, expected**2)
    assert abs(expected - 1) < 0.1
    y = jaxdrop.alpha_dropout(KEY, np.random.default_rng(1).normal(size=20_000).astype(np.float32), 0.3)
    assert_mean(y**2, 1.0)


def test_alpha_dropout_noise_shape():
    """Keras alpha_dropout_test.py::test_alpha_dropout_partial_noise_shape_*: `broadcast_dims` here."""
    y = jaxdrop.alpha_dropout(KEY, ONES, 0.5, broadcast_dims=(1,))
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1], ONES.shape))
    assert len(np.unique(y)) == 2


def test_gaussian_dropout_deviation():
    """Keras gaussian_dropout_test.py::test_gaussian_dropout_correctness: sqrt(p / (1 - p))."""
    y = jaxdrop.gaussian_dropout(KEY, jnp.ones((20, 500)), 0.3).ravel()
    assert_mean(y, 1.0)
    assert_mean((y - 1) ** 2, 0.3 / 0.7)


def test_gaussian_noise_deviation():
    """Keras gaussian_noise_test.py::test_gaussian_noise_correctness: the deviation asked for."""
    y = jaxdrop.gaussian_noise(KEY, jnp.ones((20, 500)), 0.3).ravel()
    assert_mean(y, 1.0)
    assert_mean((y - 1) ** 2, 0.3**2)


@pytest.mark.parametrize("maps", [(3,), (3, 3), (3, 3, 3)])
def test_spatial_dropout_drops_whole_maps(maps):
    """Keras spatial_dropout_test.py::test_spatial_dropout_{1,2,3}D_correctness: a map goes as a whole."""
    x = jnp.ones((10, *maps, 10))
    y = jaxdrop.spatial_dropout(KEY, x, 0.5)
    first = y[(slice(None), *(slice(1),) * len(maps))]
    np.testing.assert_array_equal(y, jnp.broadcast_to(first, x.shape))
    assert set(np.unique(y)) == {0.0, 2.0}


def test_spatial_dropout_channels_first():
    """Keras spatial_dropout_test.py::test_spatial_dropout_2d, _3d: `data_format="channels_first"`."""
    for shape in ((2, 3, 4, 5), (2, 3, 4, 4, 5)):
        x = jnp.ones(shape)
        y = jaxdrop.spatial_dropout(KEY, x, 0.5, channel_axis=1)
        last = jaxdrop.spatial_dropout(KEY, jnp.moveaxis(x, 1, -1), 0.5)
        np.testing.assert_array_equal(y, jnp.moveaxis(last, -1, 1))


@pytest.mark.parametrize("rest", [(3, 2), (3, 2, 4), (3, 2, 4, 2)])
def test_spatial_dropout_of_an_unknown_batch(rest):
    """Keras spatial_dropout_test.py::test_spatial_dropout_{1,2,3}D_dynamic: the batch may be symbolic."""
    (batch,) = jax.export.symbolic_shape("b")
    made = jax.export.export(jax.jit(lambda x, key: jaxdrop.spatial_dropout(key, x, 0.5)))(
        jax.ShapeDtypeStruct((batch, *rest), jnp.float32), jax.eval_shape(lambda: KEY)
    )
    x = jnp.ones((7, *rest))
    np.testing.assert_array_equal(made.call(x, KEY), jaxdrop.spatial_dropout(KEY, x, 0.5))


@pytest.mark.slow
def test_recurrent_dropout_in_half_precision():
    """Keras rnn/dropout_rnn_cell_test.py::test_basics: shapes in an RNN, in mixed float16 too."""
    half = {"dtype": jnp.float16, "param_dtype": jnp.float16}
    cell = nn.OptimizedLSTMCell(5, recurrent_kernel_init=nn.initializers.lecun_normal(), **half)
    rnn = nn.RNN(jaxdrop.linen.RecurrentDropoutCell(cell, 0.5, deterministic=False))
    rngs = {"params": KEY, "dropout": jax.random.key(1)}
    y, _ = jax.jit(rnn.init_with_output)(rngs, jnp.ones((3, 2, 4), jnp.float16))
    assert (y.shape, y.dtype) == ((3, 2, 5), jnp.float16)
    assert np.isfinite(y).all()


def test_activity_regularization():
    """Keras activity_regularization_test.py::test_correctness: l1 = .2 and l2 = .3 of a 2 are 1.6.

    For a batch Keras divides by its size; here the sum is the sum, as it is of weights.
    """
    penalty = penalties.l1_l2(2 * jnp.ones(1), (0.2, 0.3), where=everything)
    np.testing.assert_allclose(penalty, 4 * 0.3 + 2 * 0.2, rtol=1e-6)
    batch = penalties.l1_l2(2 * jnp.ones((4, 3)), (0.2, 0.3), where=everything)
    np.testing.assert_allclose(batch, 12 * 1.6, rtol=1e-6)


def test_penalties():
    """Keras regularizers_test.py::test_l1, test_l2, test_l1_l2: strengths of sums, without a half."""
    l1, l2 = np.abs(VALUES.astype(np.float64)).sum(), (VALUES.astype(np.float64) ** 2).sum()
    np.testing.assert_allclose(penalties.l1(VALUES, 0.1), 0.1 * l1, rtol=1e-6)
    np.testing.assert_allclose(penalties.l2(VALUES, 0.1), 0.1 * l2, rtol=1e-6)
    np.testing.assert_allclose(penalties.l1_l2(VALUES, (0.1, 0.2)), 0.1 * l1 + 0.2 * l2, rtol=1e-6)


def test_penalties_of_zero():
    """Keras regularizers_test.py::test_*_with_zero_weights, test_*_zero_coefficient(s): nothing."""
    for penalty in (penalties.l1, penalties.l2, penalties.l1_l2):
        assert penalty(jnp.zeros((4, 4)), 0.1) == 0
        assert penalty(VALUES, 0.0) == 0


def test_penalties_against_each_other():
    """Keras regularizers_test.py::test_l1_with_negative_weights, test_l2_is_{larger,smaller}_than_l1_*,
    test_l1l2_only_{l1,l2}: signs do not count, l2 grows faster, the pair is its part.
    """
    assert penalties.l1(VALUES, 0.1) == penalties.l1(-VALUES, 0.1)
    assert penalties.l2(jnp.full((4, 4), 10.0), 1.0) > penalties.l1(jnp.full((4, 4), 10.0), 1.0)
    assert penalties.l2(jnp.full((4, 4), 0.1), 1.0) < penalties.l1(jnp.full((4, 4), 0.1), 1.0)
    assert penalties.l1_l2(VALUES, (0.1, 0.0)) == penalties.l1(VALUES, 0.1)
    assert penalties.l1_l2(VALUES, (0.0, 0.1)) == penalties.l2(VALUES, 0.1)


@pytest.mark.parametrize("strength", [1, 1.0, 0, 0.0, 1e-10, 1e6])
def test_good_strengths(strength):
    """Keras regularizers_test.py::ValidateFloatArgTest: integers, zero, tiny and large ones are taken."""
    np.testing.assert_allclose(penalties.l1(jnp.ones((2, 2)), strength), 4.0 * strength, rtol=1e-6)


@pytest.mark.parametrize(
    ("strength", "error"),
    [
        ("not_a_number", TypeError),
        (None, TypeError),
        ([0.1], ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (-float("inf"), ValueError),
        (-1, ValueError),
        (-0.001, ValueError),
    ],
)
def test_bad_strengths(strength, error):
    """Keras regularizers_test.py::ValidateFloatArgTest: refused; Keras says ValueError for types too."""
    for penalty in (penalties.l1, penalties.l2):
        with pytest.raises(error, match="`strength` must "):
            penalty(jnp.ones((2, 2)), strength)


@pytest.mark.parametrize("drop", [jaxdrop.gaussian_dropout, jaxdrop.alpha_dropout])
def test_rate_one(drop):
    """Keras takes the rate 1 and then raises ZeroDivisionError in the call; here it gives zeros."""
    x = jnp.ones((4, 3))
    for f in (drop, jax.jit(drop)):
        y, vjp = jax.vjp(partial(f, KEY, rate=1.0), x)
        np.testing.assert_array_equal(y, jnp.zeros_like(x))
        np.testing.assert_array_equal(vjp(x)[0], jnp.zeros_like(x))


def test_alpha_dropout_of_infinities():
    """Keras multiplies by the mask, and makes NaN of a dropped infinity; here it is gone."""
    y = jaxdrop.alpha_dropout(KEY, jnp.full((20, 50), jnp.inf), 0.5)
    dropped = np.isfinite(y)
    assert 0 < dropped.mean() < 1
    assert np.isposinf(np.asarray(y)[~dropped]).all()


def test_gaussian_noise_of_any_deviation():
    """Keras refuses a deviation above 1; it is in the units of the input, and any is good."""
    assert_mean(jaxdrop.gaussian_noise(KEY, jnp.zeros(10_000), 3.0) ** 2, 9.0)


@pytest.mark.parametrize("penalty", [penalties.l1, penalties.l2])
def test_penalties_of_half_precision(penalty):
    """Keras sums float16 in float16: 90,000 ones are infinite; here they are 9,000 at 0.1."""
    np.testing.assert_allclose(penalty(jnp.ones((300, 300), jnp.float16), 0.1), 9000, rtol=1e-6)


@pytest.mark.parametrize("rate", [1.7, -0.3])
def test_recurrent_rates_are_not_clipped(rate):
    """Keras's LSTMCell makes 1 of a `dropout` of 1.7, and 0 of -0.3, silently; here they are refused."""
    rnn = nn.RNN(jaxdrop.linen.RecurrentDropoutCell(nn.LSTMCell(5), rate, deterministic=False))
    with pytest.raises(ValueError, match=re.escape(f"`rate` must lie in [0, 1], got {rate:g}.")):
        rnn.init({"params": KEY, "dropout": jax.random.key(1)}, jnp.ones((3, 2, 4)))
