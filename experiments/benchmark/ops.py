"""Benchmarks of one operation: dropout of activations, feature maps and weights, and its compilation."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx
from experiments import timing
from experiments.benchmark.peers import FLAX, NONE, OURS, Drop, Setting
from experiments.timing import Contest, Program, Programs

FORWARD, BOTH = "fwd", "fwd+bwd"
COPY = "copy"
MODULE = "jaxdrop.linen"
BATCH = 128
# Attention weights of ViT: the last axis is not a multiple of four.
ODD = (64, 12, 197, 197)
Forward = Callable[[jax.Array, jax.Array], Any]


def ops(setting: Setting) -> Iterator[Contest]:
    """Contests of dropout of activations, feature maps and weights, with keys from several sources."""
    small, large = (128, 1024), (4096, 4096)
    larger = (16384, 16384) if setting.on_gpu else (8192, 4096)
    if setting.quick:
        small = large = larger = (8, 64)
    rows = [
        (small, "float32", 0.1),
        (small, "bfloat16", 0.1),
        (small, "float32", 0.5),
        (large, "float32", 0.1),
        (large, "float32", 0.5),
        (large, "bfloat16", 0.1),
        (larger, "float32", 0.1),
    ]
    if setting.on_gpu:
        rows += [(larger, "bfloat16", 0.1), (larger, "bfloat16", 0.5), (ODD, "float32", 0.1)]
    for shape, dtype, rate in rows[: 2 if setting.quick else None]:
        title = f"dropout {'x'.join(map(str, shape))} {dtype} rate {rate}"
        yield Contest(title, COPY, partial(_elementwise, setting, shape, dtype, rate, ()))
    title = f"dropout {large[0]}x{large[1]} float32 rate 0.1, in place"
    yield Contest(title, COPY, partial(_in_place, setting, large, 0.1))
    maps = (2, 4, 4, 8) if setting.quick else (64, 56, 56, 64)
    title = "spatial dropout {}x{}x{}x{} float32 rate 0.2".format(*maps)
    yield Contest(title, COPY, partial(_elementwise, setting, maps, "float32", 0.2, (1, 2)))
    size = 64 if setting.quick else 2048
    title = f"weights dropped: {BATCH}x{size} @ {size}x{size} float32 rate 0.5"
    yield Contest(title, NONE, partial(_weights, setting, size, 0.5))
    for name, derive in KEYS.items():
        title = f"dropout {small[0]}x{small[1]} float32 rate 0.1, key from {name}"
        yield Contest(title, COPY, partial(_keyed, setting, small, 0.1, derive))


def forms(name: str, forward: Forward, x: jax.Array, kept: int | None = None) -> Programs:
    """Programs of a contender: the forward pass, and forward and backward from a given gradient."""
    key = jax.random.key(0)
    result = jax.eval_shape(forward, key, x)
    given = jax.random.normal(jax.random.key(3), result.shape, result.dtype)

    def both(key: jax.Array, x: jax.Array, given: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, backward = jax.vjp(partial(forward, key), x)
        return y, *backward(given)

    once = timing.compiled(forward, key, x)
    once.kept_bytes = kept
    return {(name, FORWARD): once, (name, BOTH): timing.compiled(both, key, x, given)}


def double(key: jax.Array, x: jax.Array) -> jax.Array:
    """The floor: a copy that reads and writes every element once."""
    return x * 2


def _folded(drop: Drop, *options: Any) -> Forward:
    """Forward pass under a key derived by `fold_in`."""
    return lambda key, x: drop(jax.random.fold_in(key, 1), x, *options)


def _elementwise(setting: Setting, shape: tuple, dtype: str, rate: float, dims: tuple) -> Programs:
    x = jax.random.normal(jax.random.key(1), shape, dtype)
    programs = forms(COPY, double, x)
    drops = dict(setting.drops)
    if not dims:
        drops["jaxdrop bits=32"] = lambda key, x, rate, dims: jaxdrop.dropout(key, x, rate, bits=32)
        if dtype == "float32" and rate == 0.1:
            drops["jaxdrop alpha"] = lambda key, x, rate, dims: jaxdrop.alpha_dropout(key, x, rate)
        if (dtype == "float32" or setting.on_gpu) and rate == 0.1:
            drops["jaxdrop gaussian"] = lambda key, x, rate, dims: jaxdrop.gaussian_dropout(key, x, rate)
        if setting.on_gpu:
            drops |= _on_gpu(setting.drops)
    for name, drop in drops.items():
        with contextlib.suppress(NotImplementedError):
            kept = timing.kept_bytes(lambda x, drop=drop: drop(jax.random.key(0), x, rate, dims), x)
            programs |= forms(name, _folded(drop, rate, dims), x, kept)
    if setting.torch:
        torch = partial(_torch_elementwise, setting, np.asarray(x, np.float32), dtype, rate, dims)
        programs |= timing.attempted("torch", torch)
    return programs


def _on_gpu(drops: dict[str, Drop]) -> dict[str, Drop]:
    """Contenders on a GPU: Flax with the keys that are made for it, and Gaussian noise by `jax.random`."""

    def rbg(key: jax.Array, x: jax.Array, rate: float, dims: Any) -> Any:
        words = jnp.tile(jax.random.key_data(key), 2)
        return drops[FLAX](jax.random.wrap_key_data(words, impl="rbg"), x, rate, dims)

    def normal(key: jax.Array, x: jax.Array, rate: float, dims: Any) -> jax.Array:
        deviation = jnp.asarray((rate / (1 - rate)) ** 0.5, x.dtype)
        return x * (1 + deviation * jax.random.normal(key, x.shape, x.dtype))

    return ({"flax, rbg key": rbg} if FLAX in drops else {}) | {"jax normal": normal}


def _torch_elementwise(setting: Setting, x: np.ndarray, dtype: str, rate: float, dims: tuple) -> Programs:
    torch, device = setting.torch, setting.torch_device
    if dims:
        x = np.moveaxis(x, -1, 1)
    tensor = torch.tensor(np.ascontiguousarray(x), device=device).to(getattr(torch, dtype))
    functional = torch.nn.functional
    drop = partial(functional.dropout2d if dims else functional.dropout, p=rate, training=True)
    leaf = tensor.clone().requires_grad_()
    given = torch.randn(leaf.shape, device=device).to(leaf.dtype)
    saved = []

    def remember(kept: Any) -> Any:
        if kept.data_ptr() != leaf.data_ptr():
            saved.append(kept.nbytes)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda kept: kept):
        drop(leaf)

    def forward() -> None:
        with torch.no_grad():
            drop(tensor)

    def both() -> None:
        leaf.grad = None
        drop(leaf).backward(given)

    wait = setting.wait_for_torch
    once = Program(forward, wait, kept_bytes=sum(saved))
    found = {("torch", FORWARD): once, ("torch", BOTH): Program(both, wait)}
    if setting.on_gpu:
        # The backward pass of a copy is one more.
        found["torch clone", FORWARD] = Program(tensor.clone, wait)
        found["torch clone", BOTH] = Program(lambda: (tensor.clone(), given.clone()), wait)
    return found


def _in_place(setting: Setting, shape: tuple, rate: float) -> Programs:
    """Forward pass whose result replaces `x`, so that no memory page is new."""
    x = jax.random.normal(jax.random.key(1), shape)
    forwards = {COPY: double, **{name: _folded(drop, rate) for name, drop in setting.drops.items()}}
    programs = {(name, FORWARD): replacing(forward, x) for name, forward in forwards.items()}
    if setting.torch:
        tensor = setting.torch.tensor(np.asarray(x), device=setting.torch_device)
        drop = partial(setting.torch.nn.functional.dropout, tensor, rate, training=True, inplace=True)
        programs["torch", FORWARD] = Program(drop, setting.wait_for_torch)
    return programs


def replacing(forward: Forward, x: jax.Array) -> Program:
    """Program of a forward pass that overwrites its own copy of `x`, and its result in the next call."""
    key = jax.random.key(0)
    executable = jax.jit(forward, donate_argnums=1).lower(key, x).compile()
    held = [x.copy()]

    def call() -> None:
        held[0] = executable(key, held[0])

    return Program(call, lambda _: jax.block_until_ready(held[0]))


def _weights(setting: Setting, size: int, rate: float) -> Programs:
    """DropConnect: one mask of a layer's weights for the batch."""
    x, w = (jax.random.normal(jax.random.key(i), (rows, size)) for i, rows in ((1, BATCH), (2, size)))
    programs = {}
    for name, drop in setting.with_none().items():
        dropped = _folded(drop, rate)
        kept = timing.kept_bytes(lambda w, drop=drop: drop(jax.random.key(0), w, rate), w)
        programs |= forms(name, lambda key, w, dropped=dropped: x @ dropped(key, w), w, kept)
    return programs


def _from_stream(drop: Drop, name: str, key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Module of either library with keys from an NNX stream."""
    module = jaxdrop.nnx.Dropout if name == OURS else nnx.Dropout
    return module(rate, rngs=nnx.Rngs(dropout=key))(x)


def _vmapped(drop: Drop, name: str, key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    return jax.vmap(lambda key: drop(key, x, rate))(jax.random.split(key, 16))


def _copies(key: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.stack([x * (2 + i) for i in range(16)])


# From a dropout, its name, a key, inputs and a rate to outputs.
KEYS: dict[str, Drop] = {
    "split": lambda drop, name, key, x, rate: drop(jax.random.split(key, 3)[1], x, rate),
    "an NNX stream": _from_stream,
    "vmap over 16": _vmapped,
}


def _keyed(setting: Setting, shape: tuple, rate: float, derive: Drop) -> Programs:
    x = jax.random.normal(jax.random.key(1), shape)
    programs = forms(COPY, _copies if derive is _vmapped else double, x)
    for name in filter(setting.drops.get, (OURS, FLAX)):
        programs |= forms(name, partial(derive, setting.drops[name], name, rate=rate), x)
    return programs


def compiling(setting: Setting) -> Iterator[Contest]:
    """Contest of the time to trace and compile a gradient through many sites of one shape."""
    sites, shape = 2 if setting.quick else 50, (32, 64)
    title = f"compile: gradient through {sites} sites, {shape[0]}x{shape[1]}"
    yield Contest(title, NONE, partial(_compiled_sites, setting, sites, shape))


def _compiled_sites(setting: Setting, sites: int, shape: tuple) -> Programs:
    def bernoulli(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)

    drops: dict[str, Drop] = {NONE: lambda key, x, rate: x * 2, **setting.drops}
    drops |= {MODULE: linen_dropout, "jax bernoulli": bernoulli}
    return {
        (name, "compile"): Program(partial(compile_chain, drop, sites, shape)) for name, drop in drops.items()
    }


def linen_dropout(key: jax.Array, x: jax.Array, rate: float) -> Any:
    """Dropout of jaxdrop as a Linen module."""
    layer = jaxdrop.linen.Dropout(rate, deterministic=False)
    return layer.apply({}, x, rngs={"dropout": key})


def compile_chain(drop: Drop, sites: int, shape: tuple[int, int]) -> None:
    """Traces and compiles the gradient through a chain of layers `drop(tanh(x @ w))`, with empty caches."""

    def chain(weights: jax.Array, x: jax.Array, keys: jax.Array) -> jax.Array:
        for i in range(sites):
            x = drop(keys[i], jnp.tanh(x @ weights[i]), 0.1)
        return x.sum()

    weights = jax.ShapeDtypeStruct((sites, shape[1], shape[1]), np.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), sites))
    jax.clear_caches()
    jax.jit(jax.grad(chain)).lower(weights, jax.ShapeDtypeStruct(shape, np.float32), keys).compile()
