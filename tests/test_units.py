"""The axes of layers and units, and stacked layers treated one by one, as nn.scan and nnx.vmap stack them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdrop import _units, optim, penalties
from tests.devices import make_mesh
from tests.normals import standard_normal

KEY = jax.random.key(0)


def stepped(transformation, params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transformation.update(zeros, transformation.init(params), params)
    return optax.apply_updates(params, updates)


# Each function as one of parameters; penalties give a sum over layers.
ACTS = {
    "max_norm": lambda p, **kw: stepped(optim.max_norm(0.4, **kw), p),
    "unit_norm": lambda p, **kw: stepped(optim.unit_norm(**kw), p),
    "projection_max_norm": lambda p, **kw: optim.projection_max_norm(p, 0.4, **kw),
    "projection_unit_norm": optim.projection_unit_norm,
    "proximal_group_lasso": lambda p, **kw: stepped(optim.proximal_group_lasso(0.5, 0.1, **kw), p),
}
SUMS = {
    "group_lasso": lambda p, **kw: penalties.group_lasso(p, 0.3, **kw),
    "orthogonal": lambda p, **kw: penalties.orthogonal(p, 0.3, **kw),
}


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        y = nn.LayerNorm()(nn.Dense(4)(x))
        y = y + nn.MultiHeadDotProductAttention(2)(y)
        token = self.param("cls_token", nn.initializers.zeros, (1, 1, 4))
        return y + token + nn.Embed(5, 4)(jnp.zeros(x.shape[:-1], int)), None


def scanned():
    blocks = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
    return {"layers": blocks().init(KEY, jnp.ones((1, 6, 4)), None)["params"]}


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.conv, self.norm = nnx.Conv(2, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.linear, self.table = nnx.Linear(4, 6, rngs=rngs), nnx.Embed(5, 4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)


def ensemble():
    make = nnx.split_rngs(splits=3)(nnx.vmap(Layer))
    return nnx.state(make(nnx.Rngs(0)), nnx.Param)


MODELS = {"scan": (scanned, [("layers/*", 0)]), "vmap": (ensemble, [("*", 0)])}
# Of the larger model a part, to compile less.
TRIED = {"scan": ("max_norm", "projection_unit_norm"), "vmap": tuple(ACTS)}


def layer(params, i):
    return jax.tree.map(lambda leaf: leaf[i], params)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_stacked_layers_are_treated_one_by_one(model):
    make, stacked = MODELS[model]
    params = jax.tree.map(lambda leaf: leaf + 0.01, make())

    def run(params, **kw):
        acts = {name: ACTS[name](params, **kw) for name in TRIED[model]}
        return acts, {name: jax.value_and_grad(total)(params, **kw) for name, total in SUMS.items()}

    acts, sums = jax.jit(lambda params: run(params, stacked=stacked))(params)
    expected, parts = jax.jit(lambda params: jax.lax.map(run, params))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), acts, expected)
    for name, (value, grads) in sums.items():
        values, slopes = parts[name]
        np.testing.assert_allclose(value, values.sum(), rtol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), grads, slopes)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_without_a_word_a_bias_or_a_table_shows_the_layers(model):
    params = MODELS[model][0]()
    for call in (*ACTS.values(), *SUMS.values()):
        with pytest.raises(ValueError, match=r"`stacked` must name .*(kernel|embedding), whose shape \(3, "):
            jax.eval_shape(call, params)
        jax.eval_shape(call, layer(params, 0))
    with pytest.raises(
        ValueError, match=r"\(3, 4, 6\) with a bias of shape \(3, 6\) is that of several layers"
    ):
        optim.projection_unit_norm({"a": {"kernel": jnp.ones((3, 4, 6)), "bias": jnp.ones((3, 6))}})
    chosen = penalties.weight_mask(params)
    assert jax.tree.leaves(chosen) == jax.tree.leaves(penalties.weight_mask(layer(params, 0)))


def test_layers_along_any_axes():
    w = standard_normal(KEY, (5, 3, 2, 4))  # [inputs, layers, groups, units]
    ordered = jnp.moveaxis(w, (1, 2), (0, 1))
    calls = {name: (SUMS | ACTS)[name] for name in ("projection_max_norm", *SUMS)}

    @jax.jit
    @jax.vmap
    @jax.vmap
    def alone(w):
        return {name: call({"kernel": w}, unit_axis=0) for name, call in calls.items()}

    @jax.jit
    def together(w):
        pairs = ([("kernel", axes)] for axes in ((1, 2), (-2, 1), [1, np.int64(2)]))
        return [
            {n: call({"kernel": w}, unit_axis=0, stacked=one) for n, call in calls.items()} for one in pairs
        ]

    expected = alone(ordered)
    for found in together(w):
        new, kernel = found["projection_max_norm"]["kernel"], expected["projection_max_norm"]["kernel"]
        np.testing.assert_allclose(jnp.moveaxis(new, (1, 2), (0, 1)), kernel, rtol=1e-6, atol=1e-7)
        for name in SUMS:
            np.testing.assert_allclose(found[name], expected[name].sum(), rtol=1e-6)


@pytest.mark.slow
def test_layers_on_several_devices():
    w = standard_normal(KEY, (4, 6, 8))
    mesh = make_mesh((4, 2), ("a", "b"), (AxisType.Explicit,) * 2)
    sharded = jax.device_put(w, NamedSharding(mesh, PartitionSpec("a", None, "b")))

    def run(w):
        acts = [ACTS[name]({"kernel": w}, stacked=[("*", 0)])["kernel"] for name in ("max_norm", "unit_norm")]
        return acts, [jax.grad(call)({"kernel": w}, stacked=[("*", 0)])["kernel"] for call in SUMS.values()]

    new = jax.jit(run)(sharded)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), new, jax.jit(run)(w))
    assert all(leaf.sharding.is_equivalent_to(sharded.sharding, 3) for leaf in jax.tree.leaves(new[0]))


def test_half_precision_of_stacked_layers():
    w = standard_normal(KEY, (3, 4, 5)).astype(jnp.bfloat16)
    call = jax.jit(ACTS["max_norm"], static_argnames="stacked")
    new = call({"kernel": w}, stacked=(("*", 0),))["kernel"]
    assert new.dtype == jnp.bfloat16
    parts = [call({"kernel": part})["kernel"] for part in w]
    np.testing.assert_array_equal(np.asarray(new, np.float32), np.asarray(parts, np.float32))


@pytest.mark.parametrize(
    ("unit_axis", "expected"), [(-1, (0, 1, 2)), (2, (0, 1, 3)), ((-2, -1), (0, 1)), ((0, 1, 2, 3), ())]
)
def test_axes(unit_axis, expected):
    assert _units.axes(jnp.ones((2, 3, 4, 5)), "", unit_axis, _units.Layers()).weights == expected


def test_the_unit_axis_counts_the_axes_of_a_layer():
    w = jnp.ones((2, 3, 4, 5))
    assert _units.axes(w, "layers/weight", 0, _units.Layers((0, 3))) == ((0, 3), (1,), (2,))
    assert _units.axes(w, "embed/embedding", None, _units.Layers((1,))) == ((1,), (2,), (0, 3))
    assert _units.axes(w[0], "embed/weight", None, _units.Layers((0,))) == ((0,), (1,), (2,))


def test_an_axis_that_is_not_there():
    for axis, stack, name in ((-2, (), "unit_axis"), (0, (-2,), "stacked")):
        message = f"`{name}` must lie in [-1, 0] for an array of rank 1, got -2."
        with pytest.raises(ValueError, match=re.escape(message)):
            _units.axes(jnp.ones(3), "", axis, _units.Layers(stack))


@pytest.mark.parametrize("unit_axis", [0, -1, (1,)])
def test_a_scalar_has_no_axis(unit_axis):
    axis = unit_axis[0] if isinstance(unit_axis, tuple) else unit_axis
    message = f"`unit_axis` must be an axis, and an array of rank 0 has none, got {axis}."
    with pytest.raises(ValueError, match=re.escape(message)):
        _units.axes(jnp.ones(()), "", unit_axis, _units.Layers())


# Shapes of a leaf and its bias of one layer: Flax's dense layers of several axes and of attention, a
# convolution, those of Haiku and Equinox with channels first, and a GRU of Keras.
SINGLE = [
    ("kernel", (4, 6), (6,)),
    ("kernel", (4, 2, 3), (2, 3)),
    ("kernel", (2, 3, 4), (4,)),
    ("kernel", (3, 3, 4, 6), (6,)),
    ("kernel", (1, 1, 4, 6), (1, 1, 1, 6)),
    ("kernel", (3, 4, 6), ()),
    ("w", (3, 3, 4, 6), (6, 1, 1)),
    ("w", (3, 4, 1), (1, 1)),
    ("weight", (6, 4, 3, 3), (6, 1, 1)),
    ("weight", (6, 4, 1), (6, 1)),
    ("kernel", (4, 2, 1), (2, 1)),
    ("kernel", (4, 1), (1,)),
    ("kernel", (4, 1, 3), (1, 3)),
    ("kernel", (4, 6), (2, 6)),
    ("embedding", (5, 4), ()),
]


@pytest.mark.parametrize(("name", "shape", "bias"), SINGLE)
def test_a_single_layer_is_not_taken_for_several(name, shape, bias):
    unit_axis = 0 if name == "weight" else None
    tree = {name: jnp.ones(shape), {"w": "b"}.get(name, "bias"): jnp.ones(bias)}
    (told,) = (x for x, path in zip(_units.layers(tree, ()), sorted(tree), strict=True) if path == name)
    assert told == (None, bias)
    assert _units.axes(tree[name], name, unit_axis, told).layers == ()
    if (bias and len(bias) < len(shape)) or name == "embedding":
        with pytest.raises(ValueError, match="`stacked` must name "):
            _units.axes(jnp.ones((7, *shape)), name, unit_axis, _units.Layers(None, bias and (7, *bias)))


@pytest.mark.parametrize(
    ("shape", "bias"), [((3, 4, 5), (3, 1, 5)), ((3, 4, 1), (3, 1)), ((1, 4, 5), (1, 5))]
)
def test_experts_and_heads_of_one_unit_are_several_layers(shape, bias):
    tree = {"kernel": jnp.ones(shape), "bias": jnp.ones(bias)}
    with pytest.raises(ValueError, match="`stacked` must name kernel, whose shape "):
        penalties.group_lasso(tree, 1.0)
    assert penalties.group_lasso(tree, 1.0, stacked=[("*", 0)]) == 4 * shape[0] * shape[-1]


def test_ways_to_say_that_units_have_several_axes():
    """Locally connected layers have a kernel at each place, and biases of the same shape."""
    tree = {"kernel": jnp.ones((8, 6, 3)), "bias": jnp.ones((8, 3))}
    assert penalties.group_lasso(tree, 1.0, stacked=[("*", ())]) == pytest.approx(3 * 48, rel=1e-6)
    each = penalties.group_lasso(tree, 1.0, stacked=[("*", 0)])
    assert each == penalties.group_lasso(tree, 1.0, unit_axis=(0, -1)) == pytest.approx(24 * 6, rel=1e-6)


@pytest.mark.parametrize(
    ("stacked", "error", "message"),
    [
        ("kernel", TypeError, "`stacked` must be a list of (pattern, axes) pairs, got 'kernel'."),
        (["kernel"], TypeError, "`stacked` must be a list of (pattern, axes) pairs, got ['kernel']."),
        ([("kernel", True)], TypeError, "`stacked` must have an axis or axes beside each pattern, got True."),
        ([("kernel", "a")], TypeError, "`stacked` must have an axis or axes beside each pattern, got 'a'."),
        ([("kernel", None)], TypeError, "an axis or axes beside each pattern, got None."),
        ([("kernel", [True])], TypeError, "an axis or axes beside each pattern, got [True]."),
        ([("kernels", 0)], ValueError, "`stacked` must have patterns that match a path, got 'kernels'; the"),
        ([("*", 0), ("kernel", 0)], ValueError, "`stacked` must have patterns that add a leaf, got 'kernel'"),
        ([("kernel", 3)], ValueError, "`stacked` must lie in [-3, 2] for an array of rank 3, got 3."),
    ],
)
def test_bad_input(stacked, error, message):
    params = {"kernel": jnp.ones((3, 4, 5))}
    for call in (
        lambda: optim.max_norm(1.0, stacked=stacked).init(params),
        lambda: penalties.orthogonal(params, 1.0, stacked=stacked),
    ):
        with pytest.raises(error, match=re.escape(message)):
            call()


def test_parts_that_masks_take_out_may_be_named():
    params = {"a": {"kernel": jnp.ones((3, 4, 5))}, "b": {"kernel": jnp.ones((3, 4, 5))}}
    for both in ([("a/*", 0), ("b/*", 0)], [("*", 0)]):
        transformation = optax.masked(optim.unit_norm(stacked=both), {"a": True, "b": False})
        new = stepped(transformation, params)
        np.testing.assert_allclose(new["a"]["kernel"], 0.5, rtol=1e-6)
        np.testing.assert_array_equal(new["b"]["kernel"], 1)
