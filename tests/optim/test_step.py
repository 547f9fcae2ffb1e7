"""What all transformations share: schedules, shares, dtypes, sharding, one trace, and bad input."""

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

PARAMS = {
    "a": {"kernel": jnp.linspace(-2.0, 2.0, 12).reshape(4, 3), "bias": jnp.full(3, -5.0, jnp.float32)},
    "b": {"kernel": jnp.linspace(-1.0, 3.0, 8).reshape(2, 4)},
}
# Each with a strength, a limit or neither.
ALL = {
    "coupled_l2": lambda c=0.3, **kw: optim.coupled_l2(c, **kw),
    "decoupled_l2": lambda c=0.3, **kw: optim.decoupled_l2(c, 0.5, **kw),
    "proximal_l1": lambda c=0.3, **kw: optim.proximal_l1(c, 0.5, **kw),
    "proximal_elastic_net": lambda c=0.3, **kw: optim.proximal_elastic_net((c, 0.2), 0.5, **kw),
    "proximal_group_lasso": lambda c=0.3, **kw: optim.proximal_group_lasso(c, 0.5, **kw),
    "max_norm": lambda c=0.3, **kw: optim.max_norm(c, **kw),
    "unit_norm": lambda **kw: optim.unit_norm(**kw),
    "non_negative": lambda **kw: optim.non_negative(**kw),
}
# Each constraint as a function of parameters; tests/optim/test_constraints.py holds them.
PROJECTIONS = [f"projection_{name}" for name in ("max_norm", "unit_norm", "non_negative")]
SCHEDULED = [name for name in ALL if name not in ("unit_norm", "non_negative")]


def after(transformation, params=PARAMS, grads=None, steps=1):
    """The parameters after steps of plain SGD at .5, chained as each wants it."""
    state = transformation.init(params)
    for _ in range(steps):
        updates = jax.tree.map(jnp.zeros_like, params) if grads is None else grads
        updates, state = transformation.update(updates, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_every_transformation_is_here():
    assert {name for name in vars(optim) if name[0].islower() and callable(getattr(optim, name))} == {
        *ALL,
        "halt_on_nonfinite",
        "raise_if_halted",
        *PROJECTIONS,
    }


@pytest.mark.parametrize("name", ALL)
def test_biases_are_left_alone_unless_asked_for(name):
    new = after(ALL[name]())
    np.testing.assert_array_equal(new["a"]["bias"], PARAMS["a"]["bias"])
    assert (new["a"]["kernel"] != PARAMS["a"]["kernel"]).any()
    other = after(ALL[name](where=[("*/bias", True)]))
    assert (other["a"]["bias"] != PARAMS["a"]["bias"]).any()
    np.testing.assert_array_equal(other["a"]["kernel"], PARAMS["a"]["kernel"])


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_share_multiplies_the_strength(name):
    new = after(ALL[name](0.3, where=[("a/kernel", 0.5), ("b/*", 2.0)]))
    halved, doubled = after(ALL[name](0.15)), after(ALL[name](0.6))
    if name == "proximal_elastic_net":  # whose L2 strength has the share too
        halved = after(optim.proximal_elastic_net((0.15, 0.1), 0.5))
        doubled = after(optim.proximal_elastic_net((0.6, 0.4), 0.5))
    np.testing.assert_allclose(new["a"]["kernel"], halved["a"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(new["b"]["kernel"], doubled["b"]["kernel"], rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_schedule_is_its_values_one_after_another(name):
    values = [0.1, 0.7, 0.2]
    scheduled = after(ALL[name](lambda step: jnp.array(values)[step]), steps=3)
    params = PARAMS
    for value in values:
        params = after(ALL[name](value), params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), scheduled, params)


@pytest.mark.parametrize("name", SCHEDULED)
def test_no_retrace_when_a_value_changes(name):
    traced = []

    @jax.jit
    def step(params, state, strength):
        traced.append(1)
        transformation = ALL[name](strength)
        updates, state = transformation.update(jax.tree.map(jnp.zeros_like, params), state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, ALL[name](0.1).init(PARAMS)
    for strength in (0.1, 0.2, 0.0):
        params, state = step(params, state, strength)
    assert len(traced) == 1
    assert state.step == 3


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_float32_rounded(name, dtype):
    low = jax.tree.map(lambda leaf: leaf.astype(dtype), PARAMS)
    new = after(ALL[name](), low)
    wide = after(ALL[name](), jax.tree.map(lambda leaf: leaf.astype(jnp.float32), low))
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(wide), strict=True):
        assert a.dtype == dtype
        # The update is rounded, and so is the sum.
        np.testing.assert_allclose(a.astype(np.float32), b, atol=2 * float(jnp.finfo(dtype).eps) * 2)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "dtypes", [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "float16")]
)
def test_strict_promotion_changes_nothing(name, dtypes):
    of_params, of_updates = dtypes
    params = jax.tree.map(lambda leaf: leaf.astype(of_params), PARAMS)
    grads = jax.tree.map(lambda leaf: (leaf / 3).astype(of_updates), PARAMS)
    share = True if name == "non_negative" else np.float32(0.3)
    transformation = ALL[name](where=[("*/kernel", share)])
    state = transformation.init(params)
    expected, _ = transformation.update(grads, state, params)
    with jax.numpy_dtype_promotion("strict"):
        updates, _ = transformation.update(grads, transformation.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, updates, expected)
    assert updates["a"]["kernel"].dtype == expected["a"]["kernel"].dtype


def test_sums_of_half_precision_do_not_overflow():
    params = {"kernel": jnp.full((1000, 2), 200.0, jnp.float16)}  # a sum of squares of 4e7
    new = after(optim.max_norm(100.0), params)["kernel"]
    np.testing.assert_allclose(new.astype(np.float32), 100 / 1000**0.5, rtol=2e-2)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("axes", [("x", None), ("y", "x")])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_sharded_parameters_keep_their_sharding(name, axes, kind):
    mesh = make_mesh((4, 2), ("x", "y"), (kind,) * 2)
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    w = standard_normal(0, (8, 12))
    transformation = ALL[name]()
    expected = after(transformation, {"kernel": w})["kernel"]
    with jax.set_mesh(mesh):
        params = {"kernel": jax.device_put(w, sharding)}
        new = jax.jit(lambda params: after(transformation, params))(params)["kernel"]
    assert new.sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_runs_of_a_sweep_are_runs_alone(name):
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, -leaf]), PARAMS)
    together = jax.vmap(lambda params: after(ALL[name](), params))(many)
    for i in range(3):
        alone = after(ALL[name](), jax.tree.map(lambda leaf, i=i: leaf[i], many))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6, atol=1e-7), together, alone
        )


@pytest.mark.parametrize("name", ALL)
def test_the_parameters_of_nnx(name):
    model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    optimizer = nnx.Optimizer(model, ALL[name](), wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param)))
    expected = after(ALL[name](), before)
    np.testing.assert_allclose(model.kernel[...], expected["kernel"], rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_none_in_the_updates_is_a_frozen_parameter(name):
    transformation, zeros = ALL[name](), jax.tree.map(jnp.zeros_like, PARAMS)
    state = transformation.init(PARAMS)
    expected, _ = transformation.update(zeros, state, PARAMS)
    for frozen in ({"kernel": None}, None):  # a leaf, and a part
        updates, _ = jax.jit(transformation.update)(zeros | {"b": frozen}, state, PARAMS)
        assert updates["b"] == frozen
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updates["a"], expected["a"])


class Tied(nnx.Module):
    def __init__(self, rngs):
        self.first = self.second = nnx.Linear(3, 3, rngs=rngs)
        self.drop, self.cache = nnx.Dropout(0.5, rngs=rngs), nnx.Cache(jnp.full((2, 3), -3.0))


def test_of_a_model_of_nnx_only_parameters_decay():
    model = Tied(nnx.Rngs(0))
    for params in (model, nnx.state(model)):
        zeros = jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf)), params)
        updates, _ = optim.coupled_l2(0.5).update(zeros, optim.coupled_l2(0.5).init(params), params)
        changed = [np.asarray(leaf) for leaf in jax.tree.leaves(updates) if np.any(leaf)]
        # At both paths of the module, so that they stay equal.
        assert len(changed) == (2 if params is model else 1)
        for leaf in changed:
            np.testing.assert_allclose(leaf, model.first.kernel[...], rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_nan_is_not_hidden(name):
    params = {"kernel": jnp.array([[1.0, jnp.nan], [2.0, 1.0]])}
    assert jnp.isnan(after(ALL[name](), params)["kernel"][0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optim.coupled_l2(-1.0), "`strength` must be finite and at least 0, got -1."),
        (lambda: optim.decoupled_l2(0.1, -0.1), "`learning_rate` must be finite and at least 0, got -0.1."),
        (lambda: optim.proximal_l1(float("nan"), 0.1), "`strength` must be finite and at least 0, got nan."),
        (lambda: optim.proximal_l1(np.ones(2), 0.1), "`strength` must be a scalar, got shape (2,)."),
        (
            lambda: optim.proximal_elastic_net((0.1, -2.0), 0.1),
            "`strength` must be finite and at least 0, got -2.",
        ),
        (
            lambda: optim.proximal_elastic_net((0.1,), 0.1),
            "`strength` must be a scalar or a pair (l1, l2), got",
        ),
        (lambda: optim.max_norm(-3.0), "`limit` must be at least 0, got -3."),
        (lambda: optim.max_norm(float("nan")), "`limit` must be at least 0, got nan."),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("name", ALL)
def test_what_does_not_fit_the_parameters_is_said_at_once(name):
    with pytest.raises(ValueError, match=re.escape("got 'c/*'; the nearest are ")):
        ALL[name](where=[("c/*", True)]).init(PARAMS)
    with pytest.raises(ValueError, match=re.escape("`where` must have the structure of the parameters")):
        ALL[name](where={"a": True}).init(PARAMS)
    with pytest.raises(
        TypeError, match=re.escape("`params` must be a floating-point array, got int32 at a: ")
    ):
        ALL[name]().init({"a": jnp.ones((2, 2), jnp.int32)})
    with pytest.raises(ValueError, match=re.escape("`params` must be given to `update`, got None.")):
        ALL[name]().update(PARAMS, ALL[name]().init(PARAMS))


@pytest.mark.parametrize("name", ["proximal_group_lasso", "max_norm", "unit_norm"])
def test_a_unit_axis_that_is_not_there(name):
    with pytest.raises(
        ValueError, match=re.escape("`unit_axis` must lie in [-2, 1] for an array of rank 2, got 2.")
    ):
        ALL[name](unit_axis=2).init(PARAMS)
