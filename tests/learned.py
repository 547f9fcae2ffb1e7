"""The laws of the members that learn: `f(key, x, *params)` gives `(y, penalty)`."""

from collections.abc import Callable

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.devices import make_mesh

KEY = jax.random.key(7)
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def loss(function: Callable, key: jax.Array, *arrays: jax.Array) -> jax.Array:
    """A scalar in which every element of both results has its own part."""
    y, penalty = function(key, *arrays)
    weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    return jnp.sum(weights * jnp.tanh(y)) + 1e-2 * penalty


def check_transformations(function: Callable, x: jax.Array, *params: jax.Array) -> None:
    """Under jit, scan, remat and vmap over keys it gives what it gives eagerly."""
    keys = jax.random.split(KEY, 4)
    eager = [function(key, x, *params) for key in keys]
    looped = jax.tree.map(lambda *leaves: jnp.stack(leaves), *eager)
    mapped = jax.vmap(lambda key: function(key, x, *params))(keys)
    scanned = jax.lax.scan(lambda c, key: (c, function(key, x, *params)), 0, keys)[1]
    chex.assert_trees_all_close(jax.jit(function)(keys[0], x, *params), eager[0], **CLOSE)
    chex.assert_trees_all_close(mapped, looped, **CLOSE)
    chex.assert_trees_all_close(scanned, looped, **CLOSE)
    assert len({np.asarray(y).tobytes() for y, _ in eager}) == len(keys)


def check_derivatives(function: Callable, x: jax.Array, *params: jax.Array) -> None:
    """Backward and forward derivatives agree, so the backward pass draws what was drawn; none is NaN."""
    arrays = (x, *params)
    numbers = tuple(range(len(arrays)))

    def of(*arrays: jax.Array) -> jax.Array:
        return loss(function, KEY, *arrays)

    backward = jax.grad(of, numbers)
    grads = jax.jit(backward)(*arrays)
    tangents = jax.tree.map(lambda a: jnp.sin(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), arrays)
    _, slope = jax.jit(lambda a, t: jax.jvp(of, a, t))(arrays, tangents)
    _, second = jax.jit(lambda a, t: jax.jvp(backward, a, t))(arrays, tangents)
    expected = sum(jnp.vdot(grad, tangent) for grad, tangent in zip(grads, tangents, strict=True))
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5)
    chex.assert_tree_all_finite((grads, second))
    remat = jax.jit(jax.grad(jax.checkpoint(of), numbers))(*arrays)
    chex.assert_trees_all_close(remat, grads, rtol=1e-4, atol=1e-5)
    assert all(np.any(np.asarray(grad) != 0) for grad in grads)


def check_half_precision(function: Callable, x: jax.Array, *params: jax.Array) -> None:
    """The result is the single precision rounded once; the penalty is float32, of any inputs."""
    for dtype in ("bfloat16", "float16"):
        half = x.astype(dtype)
        y, penalty = function(KEY, half, *params)
        wide, expected = function(KEY, half.astype(jnp.float32), *params)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, wide.astype(dtype))
        np.testing.assert_array_equal(penalty, expected)
        _, penalty = function(KEY, half, *(p.astype(dtype) for p in params))
        assert penalty.dtype == jnp.float32
        np.testing.assert_allclose(penalty, expected, rtol=0.05)


def check_key(function: Callable, x: jax.Array, *params: jax.Array) -> None:
    """The key counts as used once, a gradient included; to use it twice is seen."""
    with jax.debug_key_reuse(True):
        key = jax.random.key(1)
        jax.jit(jax.grad(lambda key, x: loss(function, key, x, *params), 1))(key, x)
        key = jax.random.key(2)
        function(key, x, *params)
        with pytest.raises(jax.errors.KeyReuseError):
            function(key, x, *params)


def check_sharded_batch(function: Callable, x: jax.Array, *params: jax.Array) -> None:
    """A batch over eight devices gives the same, sharded as it came, and no talk between them."""
    call = jax.jit(function)
    expected = call(KEY, x, *params)
    for axis_type in (AxisType.Auto, AxisType.Explicit):
        mesh = make_mesh((8,), ("a",), axis_types=(axis_type,))
        with jax.set_mesh(mesh):
            sharded = jax.device_put(x, NamedSharding(mesh, P("a")))
            y, penalty = call(KEY, sharded, *params)
            chex.assert_trees_all_close((y, penalty), expected, **CLOSE)
            assert y.sharding.is_equivalent_to(sharded.sharding, y.ndim)
            text = call.lower(KEY, sharded, *params).compile().as_text()
            assert "all-" not in text
            assert "collective-permute" not in text


def check_other_keys(function: Callable, x: jax.Array, *params: jax.Array) -> None:
    """With keys of four words a mapped call is the loop as well, as nowhere in JAX."""
    keys = jax.random.split(jax.random.key(3, impl="rbg"), 3)
    call = jax.jit(function)
    mapped, _ = jax.vmap(lambda key: call(key, x, *params))(keys)
    looped = jnp.stack([call(key, x, *params)[0] for key in keys])
    np.testing.assert_allclose(mapped, looped, **CLOSE)
    assert len({np.asarray(y).tobytes() for y in looped}) == 3


def check_export(function: Callable, x: jax.Array, *params: jax.Array) -> None:
    """It can be exported with a batch of any size."""
    (batch,) = jax.export.symbolic_shape("b")
    shapes = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), jax.eval_shape(lambda: KEY)
    exported = jax.export.export(jax.jit(lambda x, key: function(key, x, *params)))(*shapes)
    chex.assert_trees_all_close(exported.call(x, KEY), function(KEY, x, *params), **CLOSE)


EVERY_LAW = (
    check_transformations,
    check_derivatives,
    check_half_precision,
    check_key,
    check_sharded_batch,
    check_other_keys,
    check_export,
)
