"""Benchmark of attention with dropout by its length: time, and memory of the gradient."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

import jaxdrop
from experiments import plots, report
from experiments.benchmark.peers import FLAX, NONE, OURS, Setting
from experiments.timing import Contest, Program, Programs, attempted, compiled

DENSE = "jaxdrop, all weights"
KERNEL = "jaxdrop, GPU kernel"
CUDNN, TORCH, TORCH_NONE = "none, cuDNN", "torch", "torch, none"
RATE = 0.1
Attention = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def _dense(key: jax.Array, queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) * queries.shape[-1] ** -0.5
    weights = jaxdrop.attention_dropout(key, jax.nn.softmax(scores), RATE)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, values)


def _flax(key: jax.Array, queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    options = {"dropout_rng": key, "dropout_rate": RATE, "broadcast_dropout": False}
    return nn.dot_product_attention(queries, keys, values, **options)


CONTENDERS: dict[str, Attention] = {
    OURS: partial(jaxdrop.dot_product_attention, rate=RATE),
    DENSE: _dense,
    FLAX: _flax,
    NONE: lambda key, queries, keys, values: jax.nn.dot_product_attention(queries, keys, values),
}
# Where the device is a GPU. Its heads are not of every size.
ON_GPU: dict[str, Attention] = {
    KERNEL: partial(jaxdrop.dot_product_attention, rate=RATE, implementation="triton")
}
STYLES = {
    OURS: (plots.BLUE, "o"),
    DENSE: (plots.SKY, "P"),
    FLAX: (plots.ORANGE, "s"),
    NONE: (plots.GRAY, "x"),
    KERNEL: (plots.PURPLE, "v"),
    f"{DENSE}, checkpoint": (plots.GREEN, "^"),
    f"{FLAX}, checkpoint": (plots.VERMILION, "D"),
}


def attention(setting: Setting, fused: bool = False) -> Iterator[Contest | dict[str, Any]]:
    """Contests, one per length, whose floor is attention of all weights; and the memory by length.

    `fused` adds the kernels of cuDNN and torch where the type is theirs, bfloat16.
    """
    lengths, heads = ((16, 32), (2, 4)) if setting.quick else ((512, 1024, 2048, 4096), (8, 64))
    contenders = CONTENDERS | ON_GPU if setting.on_gpu and not setting.quick else CONTENDERS
    rows = [((1, length, *heads), "float32") for length in lengths]
    if setting.on_gpu and not setting.quick:
        rows += [((2, length, 16, 64), "bfloat16") for length in (4096, 8192)]
    for shape, dtype in rows:
        title = f"attention {'x'.join(map(str, shape))} {dtype} rate 0.1"
        yield Contest(title, DENSE, partial(_programs, setting if fused else None, contenders, shape, dtype))
    lengths = (32, 64) if setting.quick else (1024, 2048, 4096, 8192, 16384)
    yield memory(contenders, [(1, length, *heads) for length in lengths])


def by_cudnn(key: jax.Array, queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """Attention without dropout by the kernel of cuDNN."""
    return jax.nn.dot_product_attention(queries, keys, values, implementation="cudnn")


def _programs(
    fused: Setting | None, contenders: dict[str, Attention], shape: tuple[int, ...], dtype: str
) -> Programs:
    *data, cotangent = (jax.random.normal(jax.random.key(i), shape, dtype) for i in range(4))
    programs, key = {}, jax.random.key(4)
    if fused and dtype == "bfloat16":
        contenders = contenders | {CUDNN: by_cudnn}
        if fused.torch:
            for name, rate in ((TORCH_NONE, 0.0), (TORCH, RATE)):
                programs |= attempted(name, partial(_torch, fused, shape, name, rate))
    for name, attend in contenders.items():
        programs[name, "fwd"] = compiled(attend, key, *data)
        programs[name, "fwd+bwd"] = compiled(partial(_gradient, attend), key, cotangent, *data)
    return programs


def _torch(setting: Setting, shape: tuple[int, ...], name: str, rate: float) -> Programs:
    """Programs of torch's fused attention."""
    torch, (batch, length, heads, width) = setting.torch, shape
    options = {"device": setting.torch_device, "dtype": torch.bfloat16}
    *data, cotangent = (torch.randn(batch, heads, length, width, **options) for _ in range(4))
    attend = partial(torch.nn.functional.scaled_dot_product_attention, dropout_p=rate)

    def forward() -> None:
        with torch.no_grad():
            attend(*data)

    leaves = [leaf.clone().requires_grad_() for leaf in data]

    def both() -> None:
        for leaf in leaves:
            leaf.grad = None
        attend(*leaves).backward(cotangent)

    wait = setting.wait_for_torch
    return {(name, "fwd"): Program(forward, wait), (name, "fwd+bwd"): Program(both, wait)}


def _gradient(attend: Attention, key: jax.Array, cotangent: jax.Array, *data: jax.Array) -> Any:
    return jax.vjp(partial(attend, key), *data)[1](cotangent)


def memory(contenders: dict[str, Attention], shapes: list[tuple[int, ...]]) -> dict[str, Any]:
    """Temporary bytes of the compiled gradient, which is not run."""
    checkpointed = {f"{name}, checkpoint": jax.checkpoint(CONTENDERS[name]) for name in (DENSE, FLAX)}
    rows: dict[str, dict[str, int]] = {}
    for shape in shapes:
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, attend in (contenders | checkpointed).items():
            program = jax.jit(partial(_gradient, attend)).lower(jax.random.key(0), x, x, x, x).compile()
            sizes = program.memory_analysis()
            rows.setdefault(name, {})[str(shape[1])] = sizes.temp_size_in_bytes if sizes else 0
    title = "memory of the gradient, 1xTx{}x{} float32 rate 0.1".format(*shapes[0][2:])
    return {"title": title, "memory": rows}


def table(result: dict[str, Any]) -> report.Table:
    """Table of the memory, in MB."""
    rows = result["memory"]
    header = ["MB", *(f"T = {length}" for length in rows[OURS])]
    body = [[name, *(f"{size / 1e6:.3g}" for size in row.values())] for name, row in rows.items()]
    return report.Table(result["title"], header, body)


def plot(results: list[dict[str, Any]]) -> Figure:
    """Plots of time over that of all weights, and of memory, by length."""
    *contests, kept = results
    contests = [result for result in contests if "float32" in result["title"]]
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.6))
    lengths = [int(result["title"].split("x")[1]) for result in contests]
    for name, (color, marker) in STYLES.items():
        if name not in kept["memory"]:
            continue
        style = {"color": color, "marker": marker, "ms": 5, "lw": 1, "label": name}
        for panel, form in zip(panels, ("fwd", "fwd+bwd"), strict=False):
            times = [
                row["forms"][form]["times_floor"]
                for result in contests
                for row in result["rows"]
                if row["name"] == name
            ]
            if times:
                panel.plot(lengths, times, **style)
        sizes = kept["memory"][name]
        panels[2].plot([int(length) for length in sizes], [size / 1e6 for size in sizes.values()], **style)
    for panel, title in zip(panels, ("forward", "forward and backward", "gradient"), strict=True):
        panel.set_title(title)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
        panel.set_xlabel("length")
    for panel in panels[:2]:
        panel.set_ylim(bottom=0)
        panel.set_ylabel("time relative to all weights")
    panels[2].set_yscale("log")
    panels[2].set_ylabel("temporary MB")
    plots.add_legend(figure, columns=3, fontsize=8)
    return figure
