"""Constraints against NumPy, idempotent, and leaving alone what they need not touch."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdrop import optim
from tests.devices import make_mesh
from tests.normals import standard_normal

W = standard_normal(0, (3, 4, 6, 5))


def step(transformation, w, u=None):
    updates, _ = transformation.update(jnp.zeros_like(w) if u is None else u, transformation.init(w), w)
    return optax.apply_updates(w, updates)


@pytest.mark.parametrize(("unit_axis", "axes"), [(-1, (0, 1, 2)), (-2, (0, 1, 3)), ((2, 3), (0, 1))])
def test_max_norm_against_numpy(unit_axis, axes):
    w = np.asarray(W, np.float64)
    norms = np.sqrt((w**2).sum(axes, keepdims=True))
    limit = float(np.median(norms))
    new = step(optim.max_norm(limit, unit_axis=unit_axis), W)
    np.testing.assert_allclose(new, w * np.minimum(1, limit / norms), rtol=1e-5)
    untouched = np.broadcast_to(norms < limit * 0.999, w.shape)
    assert untouched.any()
    np.testing.assert_array_equal(np.asarray(new)[untouched], np.asarray(W)[untouched])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("transformation", [optim.max_norm(1.3), optim.unit_norm()])
def test_idempotent_to_the_bit(transformation, dtype):
    w = W.astype(dtype)
    once = step(transformation, w)
    assert (once != w).any()
    again = step(transformation, once)
    np.testing.assert_array_equal(again.astype(np.float32), once.astype(np.float32))


def test_small_weights_are_not_shrunk():
    """Keras divides by the norm plus an epsilon, here half of it: its weights would be 5e-8."""
    w = jnp.full((1, 3), 1e-7)
    np.testing.assert_array_equal(step(optim.max_norm(2.0), w), w)
    np.testing.assert_allclose(step(optim.max_norm(1e-8), w), 1e-8, rtol=1e-5)


def test_the_step_ends_on_the_limit():
    w, u = jnp.array([[0.6, 0.1], [0.0, 0.0]]), jnp.array([[0.0, 0.0], [0.8, 0.1]])
    new = step(optim.max_norm(0.5), w, u)
    np.testing.assert_allclose(new, [[0.3, 0.1], [0.4, 0.1]], atol=1e-7)


def test_no_limit_and_a_limit_of_zero():
    np.testing.assert_array_equal(step(optim.max_norm(float("inf")), W), W)
    np.testing.assert_array_equal(step(optim.max_norm(0.0), W), 0)
    limits = jnp.array([jnp.inf, 0.0])
    both = jax.vmap(lambda limit: step(optim.max_norm(limit), W))(limits)
    np.testing.assert_array_equal(both, [W, jnp.zeros_like(W)])


def test_unit_norm_against_numpy():
    w = np.asarray(W, np.float64)
    new = step(optim.unit_norm(), W)
    np.testing.assert_allclose(new, w / np.sqrt((w**2).sum((0, 1, 2), keepdims=True)), rtol=1e-5)
    sized = step(optim.unit_norm(where=[("*", 3.0)]), W)
    np.testing.assert_allclose(sized, 3 * new, rtol=1e-5)


def test_unit_norm_of_nothing_is_nothing():
    np.testing.assert_array_equal(step(optim.unit_norm(), jnp.zeros((2, 3))), 0)


def test_non_negative():
    w, u = jnp.array([[1.0, -2.0, 0.5]]), jnp.array([[-3.0, 1.0, 0.25]])
    np.testing.assert_array_equal(step(optim.non_negative(), w, u), [[0.0, 0.0, 0.75]])
    with pytest.raises(ValueError, match=re.escape("`where` must have shares of 0 or 1")):
        optim.non_negative(where=[("*", 2.0)]).init(w)


@pytest.mark.slow
def test_the_constraint_holds_all_along_a_training():
    params = {"kernel": standard_normal(1, (8, 16))}
    optimizer = optax.chain(optax.adam(0.3), optim.non_negative(), optim.max_norm(1.0))
    state = optimizer.init(params)
    for i in range(20):
        grads = {"kernel": jax.random.normal(jax.random.key(i), (8, 16))}
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        norms = np.linalg.norm(np.asarray(params["kernel"], np.float64), axis=0)
        assert norms.max() <= 1 + 1e-6
        assert params["kernel"].min() >= 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_narrower_than_the_parameters(dtype):
    """The update is as wide as the parameters, or it would not end where it shall."""
    params, grads = W, jnp.zeros_like(W, dtype)

    def end(tx):
        updates, _ = tx.update(grads, tx.init(params), params)
        return optax.apply_updates(params, updates)

    assert (end(optim.non_negative()) >= 0).all()
    assert (end(optim.proximal_l1(10.0, 1.0)) == 0).all()
    norms = jnp.sqrt(jnp.sum(end(optim.max_norm(0.1)) ** 2, axis=(0, 1, 2)))
    np.testing.assert_allclose(norms, 0.1, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-37, 1e-23, 1e19, 1e30])
def test_norms_whose_squares_are_no_float32(size):
    params = jnp.array([[3.0, 0.0], [4.0, 0.0]]) * jnp.float32(size)
    one = np.array([[0.6, 0.0], [0.8, 0.0]])
    # The update takes the weights away, so the end is rounded as they are.
    np.testing.assert_allclose(step(optim.unit_norm(), params), one, rtol=1e-6, atol=5e-7 * size)
    np.testing.assert_allclose(step(optim.max_norm(size), params), one * size, rtol=1e-6)


PROJECTIONS = {
    "max_norm": lambda params, **kw: optim.projection_max_norm(params, 1.5, **kw),
    "unit_norm": optim.projection_unit_norm,
    "non_negative": optim.projection_non_negative,
}


def projected(name: str, w: np.ndarray) -> np.ndarray:
    """In float64; the units are columns."""
    norms = np.sqrt((w**2).sum(0, keepdims=True))
    scaled = {"max_norm": np.minimum(1, 1.5 / norms), "unit_norm": 1 / norms, "non_negative": w > 0}
    return w * scaled[name]


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_a_projection_is_exact_and_idempotent(name, size):
    """As an update it is off by a percent and more at 1e6."""
    w = size * standard_normal(0, (40, 6))
    once = PROJECTIONS[name](w)
    np.testing.assert_allclose(once, projected(name, np.asarray(w, np.float64)), rtol=1e-6)
    np.testing.assert_array_equal(PROJECTIONS[name](once), once)
    np.testing.assert_array_equal(jax.jit(PROJECTIONS[name])(once), once)


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_projection_of_half_precision_is_rounded_once(name, dtype):
    w = (100 * standard_normal(0, (40, 6))).astype(dtype)
    once = PROJECTIONS[name](w)
    assert once.dtype == dtype
    wide = PROJECTIONS[name](w.astype(jnp.float32)).astype(dtype)
    np.testing.assert_array_equal(once.astype(np.float32), wide.astype(np.float32))
    np.testing.assert_array_equal(PROJECTIONS[name](once).astype(np.float32), once.astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROJECTIONS)
def test_a_projection_of_a_tree(name):
    w, b = jnp.array([[3.0, -0.1], [4.0, 0.1]]), jnp.full(2, -9.0)
    params = {"kernel": w, "bias": b, "count": jnp.array(3)}
    new = PROJECTIONS[name](params)
    assert new["bias"] is b
    assert new["count"] is params["count"]
    np.testing.assert_allclose(new["kernel"], projected(name, np.asarray(w, np.float64)), rtol=1e-6)
    np.testing.assert_array_equal(PROJECTIONS[name](params, where=[("bias", 0), ("*kernel", 1)])["bias"], b)
    model = nnx.Linear(40, 6, rngs=nnx.Rngs(0))
    state = nnx.state(model, nnx.Param)
    nnx.update(model, PROJECTIONS[name](state))
    expected = projected(name, np.asarray(state["kernel"][...], np.float64))
    np.testing.assert_allclose(model.kernel[...], expected, rtol=1e-6)
    with pytest.raises(TypeError, match="got int32 at count: exclude it with `where`"):
        PROJECTIONS[name](params, where=lambda *_: True)


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_projection_of_a_sharded_kernel(name, kind):
    w = standard_normal(0, (8, 12))
    mesh = make_mesh((4, 2), ("x", "y"), (kind,) * 2)
    for axes in (("x",), ("y", "x")):
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        new = jax.jit(PROJECTIONS[name])(jax.device_put(w, sharding))
        assert new.sharding.is_equivalent_to(sharding, 2)
        np.testing.assert_allclose(new, PROJECTIONS[name](w), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_shares_and_limits_of_projections():
    found = optim.projection_max_norm({"a": 9 * W}, 2.0, where=[("a", 0.5)])["a"]
    np.testing.assert_allclose(found, optim.projection_max_norm(9 * W, 1.0), rtol=1e-6)
    np.testing.assert_array_equal(optim.projection_max_norm(W, jnp.inf), W)
    np.testing.assert_array_equal(jax.jit(optim.projection_max_norm)(W, 0.0), 0)
    with pytest.raises(ValueError, match=re.escape("`limit` must be at least 0, got -3.")):
        optim.projection_max_norm(W, -3.0)
    with pytest.raises(ValueError, match=re.escape("`where` must have shares of 0 or 1")):
        optim.projection_non_negative(W, where=[("*", 2.0)])
    slopes = jax.grad(lambda w: optim.projection_max_norm(w, 1.0)[0].sum())(jnp.zeros((2, 3)))
    np.testing.assert_array_equal(slopes, [[1, 1, 1], [0, 0, 0]])


def test_a_traced_limit_that_makes_no_sense_gives_nan():
    w = W[0, 0]
    calls = (optim.projection_max_norm, lambda w, limit: step(optim.max_norm(limit), w))
    for call in calls:
        bad = jax.jit(jax.vmap(call, (None, 0)))(w, jnp.array([-1.0, jnp.nan]))
        assert np.isnan(bad).all()
    assert np.isnan(step(optim.max_norm(lambda step: -1.0), w)).all()


@pytest.mark.parametrize(
    ("path", "unit_axis"), [("embed/embedding", -2), ("wte/embeddings", -2), ("embed/weight", -2), ("w", -1)]
)
def test_the_units_of_a_table_are_its_rows(path, unit_axis):
    w, zeros = 5 * W[0, 0], {path: jnp.zeros((6, 5))}

    def updates(p, **kw):
        transformation = optim.unit_norm(**kw)
        return transformation.update(zeros, transformation.init(p), p)[0]

    for call in (optim.projection_unit_norm, updates):
        np.testing.assert_array_equal(call({path: w})[path], call({path: w}, unit_axis=unit_axis)[path])
    with pytest.raises(ValueError, match="`unit_axis` must be given for layers/0/weight, "):
        optim.max_norm(1.0).init({"layers": [{"weight": w}]})
    optim.max_norm(1.0, unit_axis=0).init({"layers": [{"weight": w}]})
