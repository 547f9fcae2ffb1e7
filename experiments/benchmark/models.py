"""Benchmarks of whole models: training steps with and without dropout, and Monte-Carlo samples."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

from experiments import timing
from experiments.benchmark import peers
from experiments.benchmark.peers import FLAX, NONE, OURS, Drop, Setting
from experiments.timing import Contest, Program, Programs
from jaxdrop import mc

RATES = (0.2, 0.5, 0.5, 0.5)
SIZES = (784, 1024, 1024, 1024, 10)
SAMPLES, BATCH = 100, 128
VMAP = "jitted vmap"


def dense_params(key: jax.Array, sizes: tuple[int, ...]) -> list[tuple[jax.Array, jax.Array]]:
    """Kernel and bias of each layer of `mlp`."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (a, b)) * (2 / a) ** 0.5, jnp.zeros(b))
        for k, (a, b) in zip(keys, pairwise(sizes), strict=True)
    ]


def mlp(drop: Drop, params: list, key: jax.Array, x: jax.Array) -> jax.Array:
    """MLP 784-1024-1024-1024-10 with ReLU; dropout .2 of the input, .5 of the hidden layers."""
    keys = jax.random.split(key, len(params))
    h = drop(keys[0], x, RATES[0])
    for (w, b), rate, key in zip(params[:-1], RATES[1:], keys[1:], strict=True):
        h = drop(key, jax.nn.relu(h @ w + b), rate)
    w, b = params[-1]
    return h @ w + b


def block(
    drop: Drop, params: dict, key: jax.Array, x: jax.Array, attend: Callable[..., jax.Array] | None = None
) -> jax.Array:
    """Pre-norm Transformer block: attention and GELU, each with dropout and a residual.

    The attention computes all weights, heads first; `attend(key, q, k, v)` of `[B, L, H, D]` replaces it.
    """
    width = x.shape[-1]
    keys = jax.random.split(key, 4)
    heads = params["qkv"].shape[1]

    def normed(x: jax.Array) -> jax.Array:
        return jax.nn.standardize(x, epsilon=1e-5)

    qkv = params["qkv"].reshape(width, heads, 3, -1)
    if attend is None:
        q, k, v = jnp.einsum("bld,dhcn->chbln", normed(x), qkv)
        weights = jax.nn.softmax(jnp.einsum("hbln,hbmn->hblm", q, k) * q.shape[-1] ** -0.5)
        weights = peers.for_attention(drop)(keys[0], weights, 0.1)
        attended = jnp.einsum("hblm,hbmn->blhn", weights, v)
    else:
        attended = attend(keys[0], *jnp.einsum("bld,dhcn->cblhn", normed(x), qkv))
    x = x + drop(keys[1], attended.reshape(x.shape) @ params["out"], 0.1)
    hidden = drop(keys[2], jax.nn.gelu(normed(x) @ params["up"]), 0.1)
    return x + drop(keys[3], hidden @ params["down"], 0.1)


def step(setting: Setting) -> Iterator[Contest]:
    """Contests of a training step of plain SGD, with and without dropout."""
    sizes, batch = ((16, 32, 32, 32, 10), 8) if setting.quick else (SIZES, BATCH)
    title = f"training step, MLP {'-'.join(map(str, sizes))}, batch {batch}, dropout .2/.5"
    yield Contest(title, NONE, partial(_mlp_step, setting, sizes, batch))
    shape, heads = ((2, 8, 16), 2) if setting.quick else ((4, 128, 512), 8)
    title = "training step, Transformer block, {}x{}x{}, dropout .1".format(*shape)
    yield Contest(title, NONE, partial(_block_step, setting, shape, heads))


def trained(loss: Callable, params: Any, *data: jax.Array) -> Program:
    """Program of one SGD step with the key `fold_in(key, step)`."""

    def update(params: Any, number: jax.Array, *data: jax.Array) -> tuple[Any, jax.Array]:
        key = jax.random.fold_in(jax.random.key(0), number)
        value, gradient = jax.value_and_grad(loss)(params, key, *data)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), value

    return timing.compiled(update, params, jnp.int32(7), *data)


def _mlp_loss(drop: Drop, params: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    scores = jax.nn.log_softmax(mlp(drop, params, key, x))
    return -jnp.take_along_axis(scores, y[:, None], 1).mean()


def _mlp_step(setting: Setting, sizes: tuple, batch: int) -> Programs:
    x, y = jax.random.normal(jax.random.key(1), (batch, sizes[0])), jnp.arange(batch) % sizes[-1]
    params = dense_params(jax.random.key(2), sizes)
    programs = {
        (name, "step"): trained(partial(_mlp_loss, drop), params, x, y)
        for name, drop in setting.with_none().items()
    }
    if setting.torch:
        for name, on in (("torch, none", False), ("torch", True)):
            build = partial(_torch_step, setting, sizes, batch, on)
            programs |= timing.attempted(name, lambda name=name, build=build: {(name, "step"): build()})
    return programs


def _torch_mlp(setting: Setting, sizes: tuple) -> Any:
    torch = setting.torch
    layers = [torch.nn.Dropout(RATES[0])]
    for a, b, rate in zip(sizes[:-2], sizes[1:-1], RATES[1:], strict=True):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU(), torch.nn.Dropout(rate)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(*sizes[-2:])).to(setting.torch_device)


def _torch_step(setting: Setting, sizes: tuple, batch: int, on: bool) -> Program:
    torch, device = setting.torch, setting.torch_device
    model = _torch_mlp(setting, sizes).train(on)
    x, y = torch.randn(batch, sizes[0], device=device), torch.arange(batch, device=device) % sizes[-1]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def call() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return Program(call, setting.wait_for_torch)


def _block_loss(drop: Drop, params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.mean(block(drop, params, key, x) ** 2)


def block_params(key: jax.Array, width: int, heads: int, dtype: str = "float32") -> dict[str, jax.Array]:
    """Parameters of `block`."""
    sizes = {
        "qkv": (width, heads, 3 * width // heads),
        "out": (width, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }
    keys = jax.random.split(key, len(sizes))
    return {
        name: jax.random.normal(k, size, dtype) * size[0] ** -0.5
        for k, (name, size) in zip(keys, sizes.items(), strict=True)
    }


def _block_step(setting: Setting, shape: tuple[int, int, int], heads: int) -> Programs:
    params = block_params(jax.random.key(2), shape[-1], heads)
    x = jax.random.normal(jax.random.key(1), shape)
    drops = setting.with_none().items()
    return {(name, "step"): trained(partial(_block_loss, drop), params, x) for name, drop in drops}


def samples(setting: Setting) -> Iterator[Contest]:
    """Contests of T samples of the MLP: mean and variance of the class probabilities."""
    sizes, batch, count = ((16, 32, 32, 32, 10), 8, 8) if setting.quick else (SIZES, BATCH, SAMPLES)
    for size in (batch, 1):
        title = f"{count} samples, MLP {'-'.join(map(str, sizes))}, batch {size}"
        yield Contest(title, NONE, partial(_samples, setting, sizes, size, count))
    yield Contest(f"calls of {count} samples of next to nothing", VMAP, partial(_calls, count))


def moments(predict: Callable, keys: jax.Array, chunk: int) -> tuple[jax.Array, jax.Array]:
    """Mean and variance over the keys, in vmapped chunks."""

    def add(sums: tuple, keys: jax.Array) -> tuple[tuple, None]:
        p = jax.vmap(predict)(keys)
        return (sums[0] + p.sum(0), sums[1] + (p**2).sum(0)), None

    zero = jnp.zeros_like(jax.eval_shape(predict, keys[0]))
    count = keys.shape[0]
    (first, second), _ = jax.lax.scan(add, (zero, zero), keys.reshape(count // chunk, chunk))
    return first / count, second / count - (first / count) ** 2


def _samples(setting: Setting, sizes: tuple, batch: int, count: int) -> Programs:
    params = dense_params(jax.random.key(2), sizes)
    x = jax.random.normal(jax.random.key(1), (batch, sizes[0]))
    programs = {}
    for name, drop in setting.with_none().items():
        for chunk in (4, count) if name in (NONE, OURS, FLAX) else (4,):

            def sample(key: jax.Array, x: jax.Array, drop: Drop = drop, chunk: int = chunk) -> tuple:
                def predict(key: jax.Array) -> jax.Array:
                    # Makes passes without dropout differ; XLA would merge them into one.
                    own = x + 1e-12 * jax.random.key_data(key)[0].astype(jnp.float32)
                    return jax.nn.softmax(mlp(drop, params, key, own))

                return moments(predict, jax.random.split(key, count), chunk)

            label = name if chunk == 4 else f"{name}, vmap {count}"
            programs[label, "sample"] = timing.compiled(sample, jax.random.key(0), x)
    programs[f"{OURS}, mc.estimate", "sample"] = _estimated(params, x, count)
    programs["loop of jitted calls", "sample"] = _looped(params, x, count)
    if setting.torch:
        programs["torch", "sample"] = _torch_samples(setting, sizes, batch, count)
    return programs


def _probabilities(params: list, key: jax.Array, x: jax.Array) -> jax.Array:
    return jax.nn.softmax(mlp(peers.ours, params, key, x))


def _estimated(params: list, x: jax.Array, count: int) -> Program:
    """Program of `jaxdrop.mc.estimate`, with standard errors."""
    predict, key = jax.tree_util.Partial(_probabilities, params), jax.random.key(0)
    return Program(lambda: mc.estimate(predict, key, x, num_samples=count, reducers=mc.Moments()))


def _next_to_nothing(weights: jax.Array, key: jax.Array, x: jax.Array) -> jax.Array:
    return weights * x + jax.random.key_data(key)[..., 0].astype(x.dtype)


def _calls(count: int) -> Programs:
    """Programs whose computation takes microseconds: what is left is what a call costs the host."""
    weights, x, key = jnp.ones(4), jnp.ones((1, 4)), jax.random.key(0)
    predict = jax.tree_util.Partial(_next_to_nothing, weights)

    @jax.jit
    def vmapped(weights: jax.Array, key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def draw(t: jax.Array) -> jax.Array:
            return _next_to_nothing(weights, jax.random.fold_in(key, t), x)

        samples = jax.vmap(draw)(jnp.arange(count))
        return samples.mean(0), samples.var(0)

    def estimate(reducer: mc.Reducer, num_samples: int | mc.Until = count) -> Program:
        return Program(lambda: mc.estimate(predict, key, x, num_samples=num_samples, reducers=reducer))

    calls = {
        VMAP: Program(lambda: vmapped(weights, key, x)),
        "mc.sample": Program(lambda: mc.sample(predict, key, x, num_samples=count)),
        "mc.estimate": estimate(mc.Moments()),
        "mc.estimate, Categorical": estimate(mc.Categorical()),
        "mc.estimate, Until": estimate(mc.Moments(), mc.Until(1e10, count)),
    }
    return {(name, "sample"): program for name, program in calls.items()}


def _looped(params: list, x: jax.Array, count: int) -> Program:
    """Program of a Python loop over one jitted prediction."""
    predict, key = jax.jit(_probabilities), jax.random.key(0)
    return Program(lambda: _sums(predict(params, own, x) for own in jax.random.split(key, count)))


def _torch_samples(setting: Setting, sizes: tuple, batch: int, count: int) -> Program:
    torch = setting.torch
    model = _torch_mlp(setting, sizes).train()
    x = torch.randn(batch, sizes[0], device=setting.torch_device)

    def call() -> tuple:
        with torch.no_grad():
            return _sums(torch.softmax(model(x), -1) for _ in range(count))

    return Program(call, setting.wait_for_torch)


def _sums(predictions: Iterable[Any]) -> tuple[Any, Any]:
    """Sums of the predictions and of their squares."""
    first = second = 0.0
    for p in predictions:
        first, second = first + p, second + p**2
    return first, second
