"""The modules that are one pure function each, as their tests in both APIs see them."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flax.errors
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx
from tests.normals import standard_normal

KEY = jax.random.key(5)
X = standard_normal(1, (8, 6, 5, 8))
TOKENS = jax.random.randint(jax.random.key(2), (8, 15), 0, 20)
SEEN = jnp.tril(jnp.ones((5, 8), bool))
ENDS = {"senders": jnp.array([0, 1, 1, 2, 0]), "receivers": jnp.array([1, 0, 2, 1, 0]), "num_nodes": 3}
LOW = float(jnp.finfo(jnp.float32).min)


@dataclass(frozen=True)
class Case:
    """A module, its function, and what it is called with."""

    name: str
    pure: Callable
    options: dict[str, Any] = field(default_factory=dict)
    data: tuple = (X,)
    # What is given at call time, beside the data.
    called: dict[str, Any] = field(default_factory=dict)
    # What evaluation gives; by default the data as it is.
    still: Callable[[], Any] = lambda: X
    level: str | None = "rate"

    @property
    def levels(self) -> tuple:
        return () if self.level is None else (0.3,)

    def expected(self, *level: float) -> Any:
        return self.pure(KEY, *self.data, *(level or self.levels), **self.options, **self.called)


ELEMENTS = (
    Case("Dropout", jaxdrop.dropout, {"broadcast_dims": (1,), "bits": 8}),
    Case("GaussianDropout", jaxdrop.gaussian_dropout),
    Case("GaussianNoise", jaxdrop.gaussian_noise, level="stddev"),
    Case("AlphaDropout", jaxdrop.alpha_dropout, {"broadcast_dims": (2,), "bits": 24}),
    Case(
        "Standout",
        jaxdrop.standout,
        {"alpha": 0.5, "beta": 0.2, "bits": 24},
        data=(X, 2 * X),
        still=lambda: jaxdrop.standout_mean(X, 2 * X, alpha=0.5, beta=0.2),
        level=None,
    ),
)
STRUCTURED = (
    Case("SpatialDropout", jaxdrop.spatial_dropout, {"channel_axis": 1, "bits": 8}),
    Case("FeatureAlphaDropout", jaxdrop.feature_alpha_dropout, {"channel_axis": 2, "bits": 24}),
    Case("DropPath", jaxdrop.drop_path, {"mode": "batch", "bits": 24}),
    Case(
        "ShakeDrop",
        jaxdrop.shake_drop,
        {"mode": "batch", "level": "channel", "channel_axis": 1, "alpha": (0.0, 1.0), "bits": 24},
        still=lambda: jaxdrop.shake_drop_mean(X, 0.3, alpha=(0.0, 1.0), bits=24),
    ),
    Case("DropBlock", jaxdrop.drop_block, {"block_size": 3, "channel_axis": 1, "broadcast_dims": (1,)}),
    Case("PatchDropout", jaxdrop.patch_dropout, {"prefix_tokens": 2}),
    Case(
        "PatchDropout",
        jaxdrop.patch_dropout,
        {"return_indices": True},
        still=lambda: (X, jnp.broadcast_to(jnp.arange(6), (8, 6))),
    ),
    Case("Cutout", jaxdrop.cutout, {"size": (3, 2), "fill": 0.5, "channel_axis": 3}),
)
SEQUENCES = (
    Case("LockedDropout", jaxdrop.locked_dropout, {"time_axis": 2, "bits": 8}),
    Case(
        "WordDropout",
        jaxdrop.word_dropout,
        {"replacement": 99, "protected": (3, 4), "bits": 8},
        data=(TOKENS,),
        still=lambda: TOKENS,
    ),
    Case("NEFTune", jaxdrop.neftune, called={"mask": X[0, ..., 0] > 0}, level="alpha"),
    Case(
        "Zoneout",
        jaxdrop.zoneout,
        {"bits": 8},
        data=(X, X + 1),
        still=lambda: jaxdrop.zoneout_mean(X, X + 1, 0.3, bits=8),
    ),
)
ATTENTION = (
    Case("AttentionDropout", jaxdrop.attention_dropout, {"broadcast_dims": (0, 1), "bits": 24}),
    Case("DropKey", jaxdrop.drop_key, {"broadcast_dims": (0,), "bits": 8}),
    Case("DropKey", jaxdrop.drop_key, called={"mask": SEEN}, still=lambda: jnp.where(SEEN, X, LOW)),
    Case("DropHead", jaxdrop.drop_head, {"head_axis": 1, "bits": 8}),
)
GRAPHS = (
    Case("DropEdge", jaxdrop.drop_edge, {"bits": 8}, data=(jnp.ones(50),), still=lambda: jnp.ones(50)),
    Case(
        "DropEdge",
        jaxdrop.drop_edge,
        {"undirected": True, "renormalize": True},
        data=(jnp.ones(5),),
        called=ENDS,
        still=lambda: jaxdrop.drop_edge(KEY, jnp.ones(5), 0.0, renormalize=True, **ENDS),
    ),
    Case("DropMessage", jaxdrop.drop_message, {"bits": 8}),
    Case("DropNode", jaxdrop.drop_node, {"bits": 24}, data=(X[0, 0],), still=lambda: X[0, 0]),
)
ALL = (*ELEMENTS, *STRUCTURED, *SEQUENCES, *ATTENTION, *GRAPHS)


def cases(these: tuple[Case, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", these, ids=lambda case: case.name)


def equal(got: Any, expected: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def check_drop_key_in_a_partial(attention_fn: Callable) -> None:
    """It is known for what it is, and hides keys before the softmax, not after it."""
    query, options = standard_normal(KEY, (2, 5, 2, 4)), {"broadcast_dims": (1,)}
    one, other = (
        attention_fn(functools.partial(jaxdrop.drop_key, **options)),
        attention_fn(jaxdrop.drop_key, **options),
    )
    found, expected = (f(query, query, query, dropout_rng=KEY, dropout_rate=0.5) for f in (one, other))
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).all()


def check_masks_of_drop_key(call: Callable[[jax.Array], jax.Array]) -> None:
    """Of `call(mask)` of a module that is deterministic, on logits `[3, 6, 8]`."""
    with pytest.raises(TypeError, match=r"`mask` must be a boolean array, got float32\."):
        call(jnp.zeros((3, 6, 8)))
    with pytest.raises(ValueError, match=r"`mask` must broadcast to shape \(3, 6, 8\), got \(2, 3, 6, 8\)\."):
        call(jnp.ones((2, 3, 6, 8), bool))


def check_linen(case: Case) -> None:
    """The function bit for bit, at rest where deterministic, in a jitted model with its gradient."""
    make = getattr(jaxdrop.linen, case.name)
    module = make(*case.levels, **case.options)

    def call(*data: Any, **options: Any) -> Any:
        return module.apply({}, *data, **case.called, **options)

    equal(call(*case.data, deterministic=False, rng=KEY), case.expected())
    equal(call(*case.data, deterministic=True), case.still())
    with pytest.raises(ValueError, match="deterministic"):
        call(*case.data, rng=KEY)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        call(*case.data, deterministic=False)
    if case.level is not None:
        at_call = call(*case.data, deterministic=False, rng=KEY, **{case.level: 0.5})
        equal(at_call, case.expected(0.5))
        keyless = call(*case.data, deterministic=False, **{case.level: 0.0})
        equal(keyless, case.expected(0.0))
    check_gradient(lambda *data: call(*data, deterministic=False, rngs={"dropout": KEY}), case)


def check_nnx(case: Case) -> None:
    """As `check_linen`, and that its clone goes on as it does, and it follows `train` and `eval`."""
    make = getattr(jaxdrop.nnx, case.name)
    module = make(*case.levels, **case.options, rngs=nnx.Rngs(dropout=5))
    equal(module(*case.data, rngs=KEY, **case.called), case.expected())
    if case.level is not None:
        equal(module(*case.data, rngs=KEY, **{case.level: 0.5}, **case.called), case.expected(0.5))
    again = nnx.clone(module)
    equal(again(*case.data, **case.called), module(*case.data, **case.called))
    module.eval()
    equal(module(*case.data, **case.called), case.still())
    module.train()
    bare = make(*case.levels, **case.options)
    with pytest.raises(ValueError, match="`rngs` must be given to the constructor or the call"):
        bare(*case.data, **case.called)
    if case.level is not None:
        equal(bare(*case.data, **{case.level: 0.0}, **case.called), case.expected(0.0))


def check_gradient(call: Callable, case: Case) -> None:
    """Under `jit`, with respect to the first array, finite and not zero all over."""
    first, *rest = case.data
    if not jnp.issubdtype(first.dtype, jnp.floating):
        equal(jax.jit(call)(*case.data), call(*case.data))
        return

    def total(first: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(jax.tree.leaves(call(first, *rest))[0]))

    gradient = jax.jit(jax.grad(total))(first)
    assert np.isfinite(gradient).all()
    assert np.any(gradient != 0)


def primitives(jaxpr: Any) -> set[str]:
    """The names of all operations of a program, those of its inner programs too."""
    return {equation.primitive.name for equation in _equations(jaxpr)}


def loop_bodies(jaxpr: Any) -> list[Any]:
    return [e.params["jaxpr"].jaxpr for e in _equations(jaxpr) if e.primitive.name == "scan"]


def draws(jaxpr: Any) -> bool:
    """Whether a program makes random bits: by JAX's operations, or by its own shifts and xors."""
    return bool(primitives(jaxpr) & {"random_bits", "threefry2x32", "shift_right_logical", "xor"})


def _equations(jaxpr: Any) -> list[Any]:
    found = []
    for equation in jaxpr.eqns:
        found.append(equation)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            found += _equations(inner)
    return found


def check_attention_in_blocks(attention_fn: Callable) -> None:
    """In blocks, `attention_fn` gives what it gives with all weights, and hides what a bias hides."""
    keys = jax.random.split(jax.random.key(0), 3)
    query, key, value = (jax.random.normal(one, (2, 9, 2, 4)) for one in keys)
    causal = jnp.tril(jnp.ones((1, 1, 9, 9), bool))
    bias = jnp.where(causal, 0.0, -1e9)
    options = {"dropout_rng": keys[0], "dropout_rate": 0.6}
    for regularizer in (jaxdrop.attention_dropout, functools.partial(jaxdrop.drop_key, bits=8)):
        whole, blocks = attention_fn(regularizer), attention_fn(regularizer, block_size=4)
        expected = whole(query, key, value, mask=causal, **options)
        for attend in (blocks, whole):
            for hidden in ({"mask": jnp.float32(causal)}, {"bias": bias}):
                y = attend(query, key, value, **hidden, **options)
                np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        expected = whole(query, key, value, mask=causal, deterministic=True)
        y = blocks(query, key, value, mask=causal, deterministic=True)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    # The future has no gradient.
    grad = jax.grad(lambda value: blocks(query, key, value, bias=bias, **options)[:, :4].sum())(value)
    assert (grad[:, 4:] == 0).all()
    assert (grad[:, :4] != 0).any()
    half = attention_fn(block_size="auto")(query, key, value, dtype=jnp.bfloat16, **options)
    assert half.dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="`block_size` must be None to sow weights"):
        blocks(query, key, value, module=object(), **options)
    with pytest.raises(
        ValueError, match="`regularizer` must be `attention_dropout` or `drop_key`, got gauss"
    ):
        attention_fn(jaxdrop.gaussian_dropout, block_size=4)(query, key, value, **options)
