"""Penalties against float64 NumPy, and which leaves they concern."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxdrop import penalties
from tests.normals import standard_normal

KEY = jax.random.key(0)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.Dense(5)(x))
        return nn.MultiHeadDotProductAttention(2, qkv_features=4)(x)


def linen_params():
    params = Net().init(KEY, jnp.ones((1, 3, 4)))["params"]
    return jax.tree.map(lambda leaf: leaf + 0.1, params)


def weights(params) -> np.ndarray:
    """The kernels, all in one float64 vector."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return np.concatenate(
        [
            np.asarray(leaf, np.float64).ravel()
            for path, leaf in leaves
            if "kernel" in jax.tree_util.keystr(path)
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("penalty", "strength", "reference"),
    [
        (penalties.l1, 0.3, lambda w: 0.3 * np.abs(w).sum()),
        (penalties.l2, 0.3, lambda w: 0.3 * (w**2).sum()),
        (penalties.l1_l2, (0.3, 0.2), lambda w: 0.3 * np.abs(w).sum() + 0.2 * (w**2).sum()),
        (penalties.l1_l2, 0.3, lambda w: 0.3 * np.abs(w).sum() + 0.3 * (w**2).sum()),
        (
            lambda p, c: penalties.l2_sp(p, jax.tree.map(jnp.ones_like, p), c),
            0.3,
            lambda w: 0.3 * ((w - 1) ** 2).sum(),
        ),
    ],
)
def test_values_against_numpy(penalty, strength, reference):
    params = linen_params()
    expected = reference(weights(params))
    np.testing.assert_allclose(penalty(params, strength), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(penalty)(params, strength), expected, rtol=1e-6)
    assert penalty(params, 0.0) == 0


def test_gradients():
    params = {"kernel": jnp.array([[1.0, -2.0, 0.0]]), "bias": jnp.array([5.0])}
    grad = jax.grad(penalties.l1)(params, 0.5)
    np.testing.assert_array_equal(grad["kernel"], [[0.5, -0.5, 0.0]])
    grad = jax.grad(penalties.l2)(params, 0.5)
    np.testing.assert_array_equal(grad["kernel"], [[1.0, -2.0, 0.0]])
    np.testing.assert_array_equal(grad["bias"], [0.0])


def test_l2_is_the_coupled_decay_of_twice_its_strength():
    params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([5.0])}
    decay = optax.chain(optax.add_decayed_weights(0.6, mask=penalties.weight_mask), optax.sgd(0.1))
    zero = jax.tree.map(jnp.zeros_like, params)
    decayed, _ = decay.update(zero, decay.init(params), params)
    penalized, _ = optax.sgd(0.1).update(jax.grad(penalties.l2)(params, 0.3), optax.sgd(0.1).init(params))
    np.testing.assert_allclose(decayed["kernel"], penalized["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(decayed["bias"], 0)


def test_complex_leaves_are_refused():
    message = "`params` must be a floating-point array, got complex64 at a/kernel: exclude it with `where`."
    with pytest.raises(TypeError, match=re.escape(message)):
        penalties.l2({"a": {"kernel": jnp.ones((2, 2), jnp.complex64)}}, 1.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_sums_do_not_overflow(dtype):
    params = {"kernel": jnp.full((1000, 1000), 2.0, dtype)}
    assert penalties.l1(params, 1.0) == 2e6
    assert penalties.l2(params, 1.0) == 4e6
    assert jax.grad(penalties.l2)(params, 1.0)["kernel"].dtype == dtype


def test_the_parameters_of_nnx_and_the_model_itself():
    model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    expected = 2 * (weights(params) ** 2).sum()
    np.testing.assert_allclose(penalties.l2(params, 2.0), expected, rtol=1e-6)
    np.testing.assert_allclose(penalties.l2(model, 2.0), expected, rtol=1e-6)
    grads = nnx.grad(lambda model: penalties.l2(model, 2.0))(model)
    np.testing.assert_allclose(grads["kernel"][...], 4 * model.kernel[...], rtol=1e-6)
    np.testing.assert_array_equal(grads["bias"][...], 0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-23, 1e25])
def test_penalties_of_units_whose_squares_are_no_float32(size):
    params = {"kernel": jnp.array([[3.0, 1.0], [4.0, 0.0]]) * jnp.float32(size)}
    expected = 2**0.5 * 6 * size
    np.testing.assert_allclose(penalties.group_lasso(params, 1.0), expected, rtol=1e-6)
    np.testing.assert_allclose(penalties.orthogonal(params, 1.0), 0.6, rtol=1e-6)
    grad = jax.grad(penalties.group_lasso)(params, 1.0)["kernel"]
    np.testing.assert_allclose(grad, 2**0.5 * np.array([[0.6, 1.0], [0.8, 0.0]]), rtol=1e-6)
    assert jnp.isnan(penalties.group_lasso({"kernel": params["kernel"].at[0, 0].set(jnp.nan)}, 1.0))


class Many(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(11)])


def test_a_dict_of_a_checkpoint_is_a_starting_point():
    """Its keys may be strings, which sort in another order than numbers."""
    params = nnx.state(Many(nnx.Rngs(0)), nnx.Param)
    start = jax.tree.map(lambda leaf: leaf + 1, nnx.to_pure_dict(params))
    start = {"layers": {str(i): layer for i, layer in start["layers"].items()}}
    np.testing.assert_allclose(penalties.l2_sp(params, start, 0.5), 0.5 * 11 * 4, rtol=1e-5)
    with pytest.raises(ValueError, match="`start` must have the structure of the parameters"):
        penalties.l2_sp(params, {"layers": {"0": start["layers"]["0"]}}, 0.5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_strict_promotion(dtype):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        w = jnp.array([[3.0, 0.0], [4.0, 0.0]], dtype)
        total = penalties.l1_l2({"kernel": w, "other": w}, (0.5, 2.0))
        assert total == 2 * (0.5 * 7 + 2 * 25)
        assert total.dtype == ("float64" if dtype == "float64" else "float32")
        np.testing.assert_allclose(penalties.group_lasso({"kernel": w}, 1.0), 2**0.5 * 5, rtol=1e-6)
        assert penalties.activity(w, (1.0, 0.0)) == 3.5
        assert jnp.isfinite(penalties.kl_sparsity(w / 8, 1.0, target=0.1))


class Tied(nnx.Module):
    def __init__(self, rngs):
        self.first, self.norm = nnx.Linear(3, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)
        self.second, self.drop = self.first, nnx.Dropout(0.5, rngs=rngs)
        self.cache = nnx.Cache(jnp.ones((2, 3)))


@pytest.mark.parametrize(
    "where", [None, [("*/kernel", 1.0)], [("second/kernel", 1.0)], lambda path, leaf: leaf.ndim == 2]
)
def test_a_shared_variable_counts_once(where):
    model = Tied(nnx.Rngs(0))
    kernel = np.asarray(model.first.kernel[...], np.float64)
    np.testing.assert_allclose(penalties.l2(model, 2.0, where=where), 2 * (kernel**2).sum(), rtol=1e-6)
    np.testing.assert_allclose(nnx.jit(penalties.l1)(model, 2.0), 2 * np.abs(kernel).sum(), rtol=1e-6)
    grads = nnx.grad(lambda model: penalties.l2(model, 2.0, where=where))(model)
    np.testing.assert_allclose(grads["first"]["kernel"][...], 4 * kernel, rtol=1e-6)
    start = jax.tree.map(jnp.zeros_like, model)
    np.testing.assert_allclose(penalties.l2_sp(model, start, 1.0), (kernel**2).sum(), rtol=1e-6)
    everything = [("*", 1.0)]
    expected = sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    np.testing.assert_allclose(penalties.l2(model, 1.0, where=everything), expected, rtol=1e-6)


def test_where():
    params = {"a": {"kernel": jnp.ones((2, 2))}, "b": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    assert penalties.l1(params, 1.0, where=lambda path, _: path.startswith("b/")) == 6
    tree = {"a": {"kernel": True}, "b": {"kernel": False, "bias": True}}
    assert penalties.l1(params, 1.0, where=tree) == 6
    assert penalties.l1_l2(params, (1.0, 1.0), where=tree) == 12
    assert penalties.l1_l2(params, jnp.array([1.0, 0.0]), where=tree) == 6
    pairs = [("b/bias", 0.5), ("*/kernel", 2.0)]
    assert penalties.l1(params, 0.1, where=pairs) == pytest.approx(0.1 * (0.5 * 2 + 2 * 8))
    assert jax.jit(lambda c: penalties.l1(params, c, where=[("b/*", c)]))(0.5) == pytest.approx(0.25 * 6)
    with pytest.raises(ValueError, match="the nearest are "):
        penalties.l1(params, 1.0, where=[("c/kernel", 1.0)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: penalties.l1(p, -1.0), "`strength` must be finite and at least 0, got -1."),
        (lambda p: penalties.l2(p, float("nan")), "`strength` must be finite and at least 0, got nan."),
        (lambda p: penalties.l2(p, jnp.ones(2)), "`strength` must be a scalar, got shape (2,)."),
        (lambda p: penalties.l1_l2(p, jnp.ones(3)), "`strength` must be a scalar or a pair (l1, l2), got"),
        (lambda p: penalties.l1_l2(p, (1.0,)), "`strength` must be a scalar or a pair (l1, l2), got (1.0,)."),
    ],
)
def test_bad_strengths(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call({"kernel": jnp.ones((2, 2))})


KERNEL = standard_normal(KEY, (3, 4, 6))


def by_unit(w, axes) -> np.ndarray:
    """Rows of units, in float64."""
    w = np.moveaxis(np.asarray(w, np.float64), axes, range(len(axes)))
    return w.reshape(np.prod(w.shape[: len(axes)]), -1)


@pytest.mark.parametrize(("unit_axis", "axes"), [(-1, (2,)), (-2, (1,)), (0, (0,)), ((-2, -1), (1, 2))])
def test_group_lasso_against_numpy(unit_axis, axes):
    rows = by_unit(KERNEL, axes)
    expected = 0.3 * rows.shape[1] ** 0.5 * np.sqrt((rows**2).sum(1)).sum()
    params = {"kernel": KERNEL, "bias": jnp.ones(6)}
    found, grad = jax.value_and_grad(lambda p: penalties.group_lasso(p, 0.3, unit_axis=unit_axis))(params)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    slopes = 0.3 * rows.shape[1] ** 0.5 * rows / np.sqrt((rows**2).sum(1, keepdims=True))
    np.testing.assert_allclose(by_unit(grad["kernel"], axes), slopes, rtol=1e-5)
    np.testing.assert_array_equal(grad["bias"], 0)


@pytest.mark.parametrize(("unit_axis", "axes"), [(-1, (2,)), (0, (0,)), ((0, 2), (0, 2))])
def test_orthogonal_against_numpy(unit_axis, axes):
    rows = by_unit(KERNEL, axes)
    rows /= np.sqrt((rows**2).sum(1, keepdims=True))
    cosines = np.abs(rows @ rows.T)[np.triu_indices(len(rows), 1)]
    found = penalties.orthogonal({"kernel": KERNEL}, 0.3, unit_axis=unit_axis)
    np.testing.assert_allclose(found, 0.3 * cosines.mean(), rtol=1e-5)


@pytest.mark.parametrize("penalty", [penalties.group_lasso, penalties.orthogonal])
def test_the_units_of_a_table_are_its_rows(penalty):
    w = KERNEL[0]
    assert penalty({"embedding": w}, 1.0) == penalty({"embedding": w}, 1.0, unit_axis=-2)
    assert penalty({"embedding": w}, 1.0) != penalty({"kernel": w}, 1.0)
    with pytest.raises(ValueError, match="`unit_axis` must be given for 0/weight, "):
        penalty([{"weight": w}], 1.0)


def test_orthogonal_is_zero_where_all_are():
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 4)))
    assert penalties.orthogonal({"kernel": jnp.asarray(5 * q, jnp.float32)}, 1.0) < 1e-6
    assert penalties.orthogonal({"kernel": jnp.ones((6, 4))}, 1.0) == pytest.approx(1)


@pytest.mark.parametrize("kernel", [jnp.ones((4, 1)), jnp.zeros((4, 3)), jnp.ones((4, 3)).at[:, 1].set(0)])
@pytest.mark.parametrize("penalty", [penalties.orthogonal, penalties.group_lasso])
def test_finite_for_one_unit_and_at_zero(penalty, kernel):
    """Keras's orthogonal regularizer is NaN for a single row, and has a NaN gradient at 0."""
    value, grad = jax.value_and_grad(penalty)(kernel, 1.0)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    np.testing.assert_array_equal(np.asarray(grad)[np.asarray(kernel) == 0], 0)


def test_an_integer_start_is_named():
    params, start = {"a": {"kernel": jnp.ones((2, 2))}}, {"a": {"kernel": jnp.ones((2, 2), jnp.int8)}}
    with pytest.raises(TypeError, match="`start` must be a floating-point array, got int8 at a/kernel: "):
        penalties.l2_sp(params, start, 0.5)


def test_l2_sp_has_no_gradient_for_the_start():
    params, start = {"kernel": jnp.ones((2, 2))}, {"kernel": jnp.full((2, 2), 3.0)}
    grads = jax.grad(lambda p, s: penalties.l2_sp(p, s, 0.5), (0, 1))(params, start)
    np.testing.assert_array_equal(grads[0]["kernel"], -2)
    np.testing.assert_array_equal(grads[1]["kernel"], 0)
    assert penalties.l2_sp(params, params, 0.5) == 0


def test_no_retrace_when_a_strength_changes():
    traced = []

    @jax.jit
    def total(params, strength, share):
        traced.append(1)
        return penalties.l1_l2(params, (strength, strength), where=[("kernel", share)])

    for strength, share in ((0.1, 1.0), (0.2, 1.0), (0.0, 0.5)):
        assert total({"kernel": jnp.ones((2, 2))}, strength, share) == pytest.approx(8 * strength * share)
    assert len(traced) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: penalties.group_lasso(KERNEL, -1.0), "`strength` must be finite and at least 0, got -1."),
        (
            lambda: penalties.group_lasso(KERNEL, 1.0, unit_axis=3),
            "`unit_axis` must lie in [-3, 2] for an array",
        ),
        (
            lambda: penalties.orthogonal({"b": jnp.ones(3)}, 1.0, where=lambda *_: True),
            "`params` must be of shape [..., inputs, units], got (3,).",
        ),
        (
            lambda: penalties.l2_sp(KERNEL, {"a": KERNEL}, 1.0),
            "`start` must have the structure of the parameters",
        ),
        (
            lambda: penalties.l2_sp(KERNEL, KERNEL[0], 1.0),
            "`start` must have the shape of `params`, (3, 4, 6), got (4, 6).",
        ),
        (
            lambda: penalties.activity(KERNEL, (1.0, -1.0)),
            "`strength` must be finite and at least 0, got -1.",
        ),
        (lambda: penalties.activity(jnp.ones(()), 1.0), "`activations` must be of shape [B, ...], got ()."),
        (lambda: penalties.kl_sparsity(KERNEL, 1.0, target=1.0), "`target` must lie in (0, 1), got 1."),
        (
            lambda: penalties.kl_sparsity(jnp.full((2, 2), 1.5), 1.0, target=0.1),
            "`activations` must lie in [0, 1], got 1.5.",
        ),
        (lambda: penalties.l2({"a": jnp.ones(3)}, 1.0), "`where` must select at least one leaf"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
