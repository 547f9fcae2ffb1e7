"""Benchmarks of one operation: dropout of activations, feature maps and weights, and its compilation."""

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
from experiments.benchmark import peers, timing
from experiments.benchmark.peers import FLAX, NONE, OURS, Drop, Setting
from experiments.benchmark.timing import Contest, Program

FORWARD, BOTH = "fwd", "fwd+bwd"
COPY = "copy"
BATCH = 128


def _key(seed: int) -> jax.Array:
    return jax.random.key(seed)


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
        rows += [(larger, "bfloat16", 0.1), (larger, "bfloat16", 0.5)]
    for shape, dtype, rate in rows[: 2 if setting.quick else None]:
        title = f"dropout {shape[0]}x{shape[1]} {dtype} rate {rate}"
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
        yield Contest(title, COPY, partial(_keyed, setting, small, 0.1, name, derive))


def forms(forward: Callable, key: jax.Array, x: jax.Array, kept: int | None) -> dict[str, Program]:
    """Programs of the forward pass, and of forward and backward from a given gradient."""
    result = jax.eval_shape(forward, key, x)
    given = jax.random.normal(_key(3), result.shape, result.dtype)

    def both(key: jax.Array, x: jax.Array, given: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, backward = jax.vjp(partial(forward, key), x)
        return y, *backward(given)

    programs = {FORWARD: timing.compiled(forward, key, x), BOTH: timing.compiled(both, key, x, given)}
    programs[FORWARD].kept_bytes = kept
    return programs


def _elementwise(setting: Setting, shape: tuple, dtype: str, rate: float, dims: tuple) -> dict:
    x = jax.random.normal(_key(1), shape, dtype)
    programs = {(COPY, form): p for form, p in forms(lambda key, x: x * 2, _key(0), x, None).items()}
    drops: dict[str, Drop] = dict(setting.drops)
    if not dims:
        drops["jaxdrop bits=32"] = lambda key, x, rate, dims: jaxdrop.dropout(key, x, rate, bits=32)
        if dtype == "float32" and rate == 0.1:
            drops["jaxdrop alpha"] = lambda key, x, rate, dims: jaxdrop.alpha_dropout(key, x, rate)
            drops["jaxdrop gaussian"] = lambda key, x, rate, dims: jaxdrop.gaussian_dropout(key, x, rate)
    for name, drop in drops.items():

        def forward(key: jax.Array, x: jax.Array, drop: Drop = drop) -> jax.Array:
            return drop(jax.random.fold_in(key, 1), x, rate, dims)

        try:
            kept = timing.kept_bytes(lambda x, drop=drop: drop(_key(0), x, rate, dims), x)
        except NotImplementedError:
            continue
        programs |= {(name, form): p for form, p in forms(forward, _key(0), x, kept).items()}
    if setting.torch:
        programs |= _torch_elementwise(setting, np.asarray(x, np.float32), dtype, rate, dims)
    return programs


def _torch_elementwise(setting: Setting, x: np.ndarray, dtype: str, rate: float, dims: tuple) -> dict:
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
    return {
        ("torch", FORWARD): Program(forward, wait, kept_bytes=sum(saved)),
        ("torch", BOTH): Program(both, wait),
    }


def _in_place(setting: Setting, shape: tuple, rate: float) -> dict:
    """Forward pass whose result replaces `x`, so that no memory page is new."""
    key, x = _key(0), jax.random.normal(_key(1), shape)

    def replacing(forward: Callable) -> Program:
        executable = jax.jit(forward, donate_argnums=1).lower(key, x).compile()
        held = [x.copy()]

        def call() -> None:
            held[0] = executable(key, held[0])

        return Program(call, lambda _: jax.block_until_ready(held[0]))

    programs = {(COPY, FORWARD): replacing(lambda key, x: x * 2)}
    for name, drop in setting.drops.items():

        def forward(key: jax.Array, x: jax.Array, drop: Drop = drop) -> jax.Array:
            return drop(jax.random.fold_in(key, 1), x, rate)

        programs[name, FORWARD] = replacing(forward)
    if setting.torch:
        tensor = setting.torch.tensor(np.asarray(x), device=setting.torch_device)
        drop = partial(setting.torch.nn.functional.dropout, tensor, rate, training=True, inplace=True)
        programs["torch", FORWARD] = Program(drop, setting.wait_for_torch)
    return programs


def _weights(setting: Setting, size: int, rate: float) -> dict:
    """DropConnect: one mask of a layer's weights for the batch."""
    x, w = jax.random.normal(_key(1), (BATCH, size)), jax.random.normal(_key(2), (size, size))
    programs = {}
    for name, drop in ({NONE: peers.no_drop} | setting.drops).items():

        def forward(key: jax.Array, w: jax.Array, drop: Drop = drop) -> jax.Array:
            return x @ drop(jax.random.fold_in(key, 1), w, rate)

        kept = timing.kept_bytes(lambda w, drop=drop: drop(_key(0), w, rate), w)
        programs |= {(name, form): p for form, p in forms(forward, _key(0), w, kept).items()}
    return programs


def _from_stream(drop_name: str, key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Module of either library with keys from an NNX stream."""
    module = jaxdrop.nnx.Dropout if drop_name == OURS else nnx.Dropout
    return module(rate, rngs=nnx.Rngs(dropout=key))(x)


KEYS = {
    "split": lambda drop, name, key, x, rate: drop(jax.random.split(key, 3)[1], x, rate),
    "an NNX stream": lambda drop, name, key, x, rate: _from_stream(name, key, x, rate),
    "vmap over 16": lambda drop, name, key, x, rate: jax.vmap(lambda key: drop(key, x, rate))(
        jax.random.split(key, 16)
    ),
}


def _keyed(setting: Setting, shape: tuple, rate: float, name: str, derive: Callable) -> dict:
    x = jax.random.normal(_key(1), shape)
    floor = (lambda key, x: jnp.stack([x * (2 + i) for i in range(16)])) if "vmap" in name else None
    programs = {}
    for form, program in forms(floor or (lambda key, x: x * 2), _key(0), x, None).items():
        programs[COPY, form] = program
    for contender in (OURS, FLAX):
        if contender not in setting.drops:
            continue
        drop = setting.drops[contender]

        def forward(key: jax.Array, x: jax.Array, drop: Drop = drop, own: str = contender) -> jax.Array:
            return derive(drop, own, key, x, rate)

        programs |= {(contender, form): p for form, p in forms(forward, _key(0), x, None).items()}
    return programs


def compiling(setting: Setting) -> Iterator[Contest]:
    """Contest of the time to trace and compile a gradient through many sites of one shape."""
    sites, shape = 2 if setting.quick else 50, (32, 64)
    title = f"compile: gradient through {sites} sites, {shape[0]}x{shape[1]}"
    yield Contest(title, NONE, partial(_compiled_sites, setting, sites, shape))


def _compiled_sites(setting: Setting, sites: int, shape: tuple) -> dict:
    def module(key: jax.Array, x: jax.Array, rate: float) -> Any:
        layer = jaxdrop.linen.Dropout(rate, deterministic=False)
        return layer.apply({}, x, rngs={"dropout": key})

    def bernoulli(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)

    drops: dict[str, Drop] = {NONE: lambda key, x, rate: x * 2, **setting.drops}
    drops |= {"jaxdrop.linen": module, "jax bernoulli": bernoulli}
    weights = jax.ShapeDtypeStruct((sites, shape[1], shape[1]), np.float32)
    keys = jax.eval_shape(lambda: jax.random.split(_key(0), sites))

    def compile_it(drop: Drop) -> None:
        def chain(weights: jax.Array, x: jax.Array, keys: jax.Array) -> jax.Array:
            for i in range(sites):
                x = drop(keys[i], jnp.tanh(x @ weights[i]), 0.1)
            return x.sum()

        jax.clear_caches()
        jax.jit(jax.grad(chain)).lower(weights, jax.ShapeDtypeStruct(shape, np.float32), keys).compile()

    return {(name, "compile"): Program(partial(compile_it, drop)) for name, drop in drops.items()}
