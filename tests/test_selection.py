"""Which leaves are concerned: predicates, patterns and masks, on Linen's and NNX's trees alike."""

import dataclasses
import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxdrop.linen
import jaxdrop.nnx
from jaxdrop import _selection

PARAMS = {
    "Dense_0": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)},
    "Dense_1": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "LayerNorm_0": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
}


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.Dense(5)(x))
        return nn.MultiHeadDotProductAttention(2, qkv_features=4)(x)


class Model(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.LayerNorm(4, rngs=rngs)


def found(params, where):
    """The shares of the concerned leaves by path."""
    shares = zip(_selection.paths(params), _selection.strength_shares(params, where), strict=True)
    return {path: share for path, share in shares if share is not None}


def test_by_default_the_weights_of_linen():
    params = Net().init(jax.random.key(0), jnp.ones((1, 3, 4)))["params"]
    assert len(jax.tree.leaves(params)) == 12
    chosen = found(params, None)
    assert len(chosen) == 5
    assert all(path.endswith("/kernel") for path in chosen)


def test_paths_of_nnx_are_those_of_linen():
    params = nnx.state(Model(nnx.Rngs(0)), nnx.Param)
    assert sorted(_selection.paths(params)) == ["linear/bias", "linear/kernel", "norm/bias", "norm/scale"]
    assert found(params, None) == {"linear/kernel": 1}
    assert found(params, [("norm/*", 0.1), ("*/kernel", 2.0)]) == {
        "linear/kernel": 2,
        "norm/bias": 0.1,
        "norm/scale": 0.1,
    }


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (lambda path, leaf: leaf.shape == (2, 2), {"Dense_1/kernel": 1}),
        ([("Dense_0/kernel", 1e-4), ("*/kernel", 1e-3)], {"Dense_0/kernel": 1e-4, "Dense_1/kernel": 1e-3}),
        ([("Dense_0/*", 0), ("*/kernel", 1e-3)], {"Dense_1/kernel": 1e-3}),
        ([("Dense_?/kernel", True)], {"Dense_0/kernel": 1, "Dense_1/kernel": 1}),
        ([("Dense_[1-9]/bias", 3)], {"Dense_1/bias": 3}),
        ((("*/scale", 0.5),), {"LayerNorm_0/scale": 0.5}),
    ],
)
def test_shares(where, expected):
    assert found(PARAMS, where) == expected


def test_a_share_may_be_traced():
    assert jax.jit(lambda c: found(PARAMS, [("*/scale", c)]))(0.25) == {"LayerNorm_0/scale": 0.25}


def test_a_tree_of_booleans():
    tree = jax.tree.map(lambda leaf: leaf.ndim == 1, PARAMS)
    assert set(found(PARAMS, tree)) == {
        "Dense_0/bias",
        "Dense_1/bias",
        "LayerNorm_0/scale",
        "LayerNorm_0/bias",
    }
    assert _selection.weight_mask(PARAMS, tree) == tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Callable:
    """A tree that is callable, as modules of Equinox are."""

    kernel: Any
    table: Any

    def __call__(self, *_):
        raise AssertionError("a tree of booleans is not called")


def test_a_tree_of_booleans_that_is_callable():
    params = Callable(jnp.ones((2, 2)), jnp.ones((2, 2)))
    for off in (False, np.False_, jnp.array(False)):
        assert found(params, Callable(True, off)) == {"kernel": 1}
    assert found(params, _selection.weight_mask(params)) == {"kernel": 1, "table": 1}
    model = Model(nnx.Rngs(0))
    assert found(model, _selection.weight_mask(model)) == {"linear/kernel": 1}
    with pytest.raises(ValueError, match="`where` must have the structure of the parameters"):
        found(PARAMS, Callable(True, False))


@pytest.mark.parametrize("wrap", [functools.partial, jax.tree_util.Partial])
def test_a_predicate_may_hold_booleans(wrap):
    rule = wrap(lambda flag, path, leaf: flag and path.endswith("scale"), True)
    assert found(PARAMS, rule) == {"LayerNorm_0/scale": 1}


class Parts(nnx.Module):
    """A model with all that is no parameter, and a layer at two paths."""

    def __init__(self, rngs):
        self.first = self.second = nnx.Linear(2, 3, rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.sown = nnx.Intermediate((jnp.ones((4, 3)),))
        self.cache, self.flags = nnx.Cache(jnp.ones((4, 3))), nnx.Variable(jnp.ones((2, 2), bool))
        self.words, self.plain = nnx.Variable(jnp.ones((2, 2), jnp.uint32)), jnp.ones((2, 2))


@pytest.mark.parametrize("where", [None, lambda path, leaf: jnp.ndim(leaf) == 2, [("*/kernel", 1.0)]])
def test_of_a_model_of_nnx_only_parameters(where):
    model = Parts(nnx.Rngs(0))
    assert found(model, where) == {"first/kernel": 1, "second/kernel": 1}
    assert found(nnx.state(model), where) == {"first/kernel": 1}
    assert found({"model": model, "kernel": jnp.ones((2, 2))}, lambda path, leaf: leaf.ndim == 2) == {
        "kernel": 1,
        "model/first/kernel": 1,
        "model/second/kernel": 1,
    }
    with pytest.raises(ValueError, match="`where` must have patterns that match a path, got 'norm/mean'"):
        found(model, [("norm/mean", 1.0)])


def test_variables_alone_are_a_tree_like_any():
    model = Parts(nnx.Rngs(0))
    assert found(nnx.state(model, nnx.Cache), None) == {"cache": 1}
    assert found(model.cache, None) == {"": 1}


def test_a_mask_of_patterns_fits_optax():
    mask = functools.partial(_selection.weight_mask, where=[("Dense_0/*", False), ("*/kernel", True)])
    decay = optax.add_decayed_weights(0.5, mask=mask)
    updates, _ = decay.update(jax.tree.map(jnp.zeros_like, PARAMS), decay.init(PARAMS), PARAMS)
    sums = {
        path: float(leaf.sum())
        for path, leaf in zip(_selection.paths(PARAMS), jax.tree.leaves(updates), strict=True)
    }
    assert {path: total for path, total in sums.items() if total} == {"Dense_1/kernel": 2.0}


MASKED = {
    "leaves": PARAMS | {"Dense_1": {"kernel": optax.MaskedNode(), "bias": optax.MaskedNode()}},
    "part": PARAMS | {"Dense_1": optax.MaskedNode()},
    "partition": PARAMS | {"Dense_1": {"kernel": None, "bias": None}},
}


@pytest.mark.parametrize("kind", MASKED)
def test_leaves_that_a_mask_has_taken_out(kind):
    params = MASKED[kind]
    assert found(params, [("Dense_1/kernel", 0.5), ("*/kernel", 2.0)]) == {"Dense_0/kernel": 2}
    assert found(params, [("Dense_0/*", 0.5), ("*/bias", 1), ("Dense_1/bias", 3)]) == {
        "Dense_0/kernel": 0.5,
        "Dense_0/bias": 0.5,
        "LayerNorm_0/bias": 1,
    }
    assert found(params, jax.tree.map(lambda leaf: leaf.ndim == 2, PARAMS)) == {"Dense_0/kernel": 1}
    for typo in ("Dense_2/kernel", "*/kernl") if kind != "part" else ("Dense_2/kernel",):
        with pytest.raises(ValueError, match="`where` must have patterns that match a path"):
            found(params, [(typo, 1.0)])
    with pytest.raises(ValueError, match="`where` must have the structure of the parameters"):
        found(params, {"Dense_0": PARAMS["Dense_0"], "Dense_1": PARAMS["Dense_1"]})
    with pytest.raises(ValueError, match="`where` must select at least one leaf, got none of"):
        found(params, [("Dense_1/kernel", 1.0)])


@pytest.mark.parametrize("nested", [False, True])
def test_patterns_under_the_masks_of_optax(nested):
    pairs = [("Dense_0/kernel", 0.5), ("Dense_1/kernel", 0.25)]
    decay = jaxdrop.optim.coupled_l2(1.0, where=pairs)
    groups = {"Dense_0": decay, "Dense_1": decay, "LayerNorm_0": optax.identity()}
    labels = {name: dict.fromkeys(part, name) if nested else name for name, part in PARAMS.items()}
    optimizer = optax.multi_transform(groups, labels)
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = optimizer.update(zeros, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["Dense_0"]["kernel"], 1.0)
    np.testing.assert_array_equal(updates["Dense_1"]["kernel"], 0.5)
    assert not updates["LayerNorm_0"]["scale"].any()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            [("Dense_2/kernel", 1.0)],
            "`where` must have patterns that match a path, got 'Dense_2/kernel'; "
            "the nearest are Dense_1/kernel, Dense_0/kernel, ",
        ),
        (
            [("*/kernel", 1.0), ("Dense_0/kernel", 0.0)],
            "`where` must have patterns that add a leaf, got 'Dense_0/kernel', which matches only "
            "leaves already taken by an earlier pattern: Dense_0/kernel.",
        ),
        ([("*/kernel", -1.0)], "`where: */kernel` must be finite and at least 0, got -1."),
        ([("*/kernel", np.ones(2))], "`where` must be a scalar, got shape (2,)."),
        ({"Dense_0": True}, "`where` must have the structure of the parameters"),
        ([1.0, 2.0], "`where` must have the structure of the parameters"),
        (
            jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), PARAMS),
            "`where` must hold one boolean for each leaf of the parameters, got arrays.",
        ),
        (
            lambda *_: False,
            "`where` must select at least one leaf, got none of Dense_0/bias, Dense_0/kernel, ",
        ),
        ([("*/kernel", 0)], "`where` must select at least one leaf, got none of"),
    ],
)
def test_bad_rules(where, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        _selection.strength_shares(PARAMS, where)


def test_the_default_that_concerns_nothing_is_an_error():
    message = (
        "`where` must select at least one leaf (by default those of rank 2 or more that are not a bias, "
        "scale, token or position embedding), got none of a."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        _selection.strength_shares({"a": jnp.ones(3)}, None)


@pytest.mark.parametrize("rule", [_selection.weight_mask, _selection.selected, _selection.unit_shares])
def test_where_there_is_no_strength_there_are_no_shares(rule):
    message = "`where` must have shares of 0 or 1 where there is no strength, got 0.5."
    with pytest.raises(ValueError, match=re.escape(message)):
        rule(PARAMS, [("*/kernel", 0.5)])
    assert rule(PARAMS, [("*/kernel", 1.0)])


def test_what_a_variational_layer_has_learnt_of_its_noise_is_no_weight():
    dense = jaxdrop.linen.SparseVariationalDense(4)
    params = dense.init(jax.random.key(0), jnp.ones((2, 3)), deterministic=True)["params"]
    assert _selection.weight_mask(params) == {"kernel": True, "bias": False, "log_variance": False}
    state = nnx.state(jaxdrop.nnx.VariationalDense(3, 4, shared="weight", rngs=nnx.Rngs(0)), nnx.Param)
    np.testing.assert_allclose(jaxdrop.penalties.l2(state, 1.0), (state["kernel"][...] ** 2).sum(), rtol=1e-6)


def test_the_scale_of_a_norm_may_be_named_as_a_kernel():
    """Stacked layers of Equinox: the scale of a norm has two axes, as its bias has."""
    stacked = {
        "0": {"weight": jnp.ones((6, 4, 3)), "bias": jnp.ones((6, 4))},
        "1": {"weight": jnp.ones((6, 4)), "bias": jnp.ones((6, 4))},
    }
    assert found(stacked, None) == {"0/weight": 1}
    assert found({"0.weight": jnp.ones((6, 4)), "0.bias": jnp.ones((6, 4))} | stacked, None) == {
        "0/weight": 1
    }
    assert found({"kernel": jnp.ones((1, 4)), "bias": jnp.ones((1, 4))}, None) == {"kernel": 1}
