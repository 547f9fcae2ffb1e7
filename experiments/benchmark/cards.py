"""Contests that only gpu-day runs: a Transformer step in bfloat16, samples as called, mixup's gather."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxdrop
from experiments import timing
from experiments.benchmark import attention, models, ops, peers
from experiments.benchmark.peers import FLAX, NONE, OURS, Drop, Setting
from experiments.timing import Contest, Program, Programs
from jaxdrop import mc, training

REDRAWN = "jaxdrop, attention redrawn"
BLOCKS = "jaxdrop, attention in blocks"
KERNEL = "jaxdrop, GPU kernel"
TRAINER = "jaxdrop, trainer"
RATE = 0.1


def transformer(setting: Setting) -> Iterator[Contest]:
    """Contest of a training step of four Transformer blocks in bfloat16."""
    shape, heads, depth = ((2, 8, 16), 2, 2) if setting.quick else ((8, 1024, 1024), 16, 4)
    title = f"training step, {depth} Transformer blocks, {'x'.join(map(str, shape))} bfloat16, dropout .1"
    yield Contest(title, NONE, partial(_steps, setting, shape, heads, depth))


def _redrawn(key: jax.Array, x: jax.Array, rate: float, dims: peers.Dims = ()) -> jax.Array:
    """Dropout whose mask of attention weights is drawn again for the backward pass."""
    return peers.ours(key, x, rate, dims)


def _loss(drop: Drop, attend: Callable | None, params: list, key: jax.Array, x: jax.Array) -> jax.Array:
    for i, own in enumerate(params):
        x = models.block(drop, own, jax.random.fold_in(key, i), x, attend)
    return jnp.mean(x.astype(jnp.float32) ** 2)


def _steps(setting: Setting, shape: tuple[int, int, int], heads: int, depth: int) -> Programs:
    keys = jax.random.split(jax.random.key(2), depth)
    params = [models.block_params(key, shape[-1], heads, "bfloat16") for key in keys]
    x = jax.random.normal(jax.random.key(1), shape, jnp.bfloat16)
    attend = partial(jaxdrop.dot_product_attention, rate=RATE)
    ways: dict[str, tuple[Drop, Callable | None]] = {
        **{name: (drop, None) for name, drop in setting.with_none().items()},
        REDRAWN: (_redrawn, None),
        BLOCKS: (peers.ours, attend),
    }
    if setting.on_gpu:
        ways[KERNEL] = (peers.ours, partial(attend, implementation="triton"))
        ways[attention.CUDNN] = (peers.no_drop, attention.by_cudnn)
    programs = {(name, "step"): models.trained(partial(_loss, *way), params, x) for name, way in ways.items()}
    programs[TRAINER, "step"] = _by_trainer(params, x)
    if setting.torch and not setting.quick:
        for name, rate in ((attention.TORCH_NONE, 0.0), (attention.TORCH, RATE)):
            build = partial(_torch, setting, shape, heads, depth, name, rate)
            programs |= timing.attempted(name, build)
    return programs


def _by_trainer(params: list, x: jax.Array) -> Program:
    """Program of the same step by `training.trainer`."""

    def loss(params: list, key: jax.Array, x: jax.Array) -> tuple[jax.Array, dict]:
        return _loss(peers.ours, None, params, key, x), {}

    pair = training.trainer(loss, optax.sgd(0.1))
    return timing.compiled(pair.step, pair.init(jax.random.key(0), params), x)


def _torch(
    setting: Setting, shape: tuple[int, int, int], heads: int, depth: int, name: str, rate: float
) -> Programs:
    """Program of the same step in torch, with its fused attention."""
    torch, (batch, length, width) = setting.torch, shape
    options = {"device": setting.torch_device, "dtype": torch.bfloat16}
    functional = torch.nn.functional
    drop = partial(functional.dropout, p=rate, training=rate > 0)
    sizes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    params = [
        [(torch.randn(size, **options) * size[0] ** -0.5).requires_grad_() for size in sizes]
        for _ in range(depth)
    ]
    optimizer = torch.optim.SGD([weights for own in params for weights in own], 0.1)
    x = torch.randn(shape, **options)

    def block(x: Any, qkv: Any, out: Any, up: Any, down: Any) -> Any:
        parts = functional.layer_norm(x, (width,)) @ qkv
        q, k, v = parts.reshape(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        x = x + drop(attended.transpose(1, 2).reshape(x.shape) @ out)
        return x + drop(drop(functional.gelu(functional.layer_norm(x, (width,)) @ up)) @ down)

    def call() -> None:
        optimizer.zero_grad()
        result = x
        for own in params:
            result = block(result, *own)
        (result.float() ** 2).mean().backward()
        optimizer.step()

    return {(name, "step"): Program(call, setting.wait_for_torch)}


def samples(setting: Setting) -> Iterator[Contest]:
    """Contests of T samples of the MLP in bfloat16, by calls of `mc` and inside `jit`."""
    sizes, batches, counts = (models.SIZES, (128, 1), (100, 1000))
    if setting.quick:
        sizes, batches, counts = (16, 32, 32, 32, 10), (8,), (8,)
    for batch in batches:
        for count in counts:
            title = f"{count} samples as called, MLP {'-'.join(map(str, sizes))} bfloat16, batch {batch}"
            yield Contest(title, models.VMAP, partial(_samples, setting, sizes, batch, count))


def _predict(drop: Drop, params: list, key: jax.Array, x: jax.Array) -> jax.Array:
    return jax.nn.softmax(models.mlp(drop, params, key, x).astype(jnp.float32))


def _samples(setting: Setting, sizes: tuple[int, ...], batch: int, count: int) -> Programs:
    params = jax.tree.map(jnp.bfloat16, models.dense_params(jax.random.key(2), sizes))
    x, key = jax.random.normal(jax.random.key(1), (batch, sizes[0]), jnp.bfloat16), jax.random.key(0)
    predict = jax.tree_util.Partial(partial(_predict, peers.ours), params)

    def vmapped(drop: Drop, key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))
        drawn = jax.vmap(lambda own: _predict(drop, params, own, x))(keys)
        return drawn.mean(0), drawn.var(0)

    def sample(key: jax.Array, x: jax.Array) -> jax.Array:
        return mc.sample(predict, key, x, num_samples=count)

    def sampled(key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        drawn = sample(key, x)
        return drawn.mean(0), drawn.var(0)

    def estimate(key: jax.Array, x: jax.Array) -> Any:
        return mc.estimate(predict, key, x, num_samples=count, reducers=mc.Moments())

    found = {
        models.VMAP: timing.compiled(partial(vmapped, peers.ours), key, x),
        "mc.sample": Program(lambda: sample(key, x)),
        "mc.sample in jit": timing.compiled(sampled, key, x),
        "mc.estimate": Program(lambda: estimate(key, x)),
        "mc.estimate in jit": timing.compiled(estimate, key, x),
    }
    if FLAX in setting.drops:
        found["flax, jitted vmap"] = timing.compiled(partial(vmapped, setting.drops[FLAX]), key, x)
    return {(name, "sample"): program for name, program in found.items()}


def gathers(setting: Setting) -> Iterator[Contest]:
    """Contest of mixup, which gathers examples forward and backward."""
    shape = (8, 16) if setting.quick else (4096, 4096)
    title = "mixup of examples, {}x{} float32".format(*shape)
    yield Contest(title, ops.COPY, partial(_gathers, shape))


def _gathers(shape: tuple[int, int]) -> Programs:
    x = jax.random.normal(jax.random.key(1), shape)
    labels = jax.nn.one_hot(jnp.arange(shape[0]) % 10, 10)

    def mixed(key: jax.Array, x: jax.Array, per_example: bool = False) -> jax.Array:
        return jaxdrop.mixup(key, x, labels, 0.2, per_example=per_example)[0]

    def indexed(key: jax.Array, x: jax.Array) -> jax.Array:
        return 0.7 * x + 0.3 * x[jax.random.permutation(key, shape[0])]

    contenders = {
        ops.COPY: ops.double,
        OURS: mixed,
        f"{OURS}, a weight per example": partial(mixed, per_example=True),
        "x[permutation]": indexed,
    }
    programs: Programs = {}
    for name, forward in contenders.items():
        programs |= ops.forms(name, forward, x)
    return programs
