"""What does dropout cost, against Flax's and against a copy of the same bytes?

The claim: on 2 CPU cores, 4096 x 4096 float32, rate 0.1, `jaxdrop.dropout` is at least 4 times as
fast as `flax.linen.Dropout` forward, and at least 3 times forward and backward, and keeps nothing
for the backward pass but 12 bytes.

    python -m experiments.benchmark

About a minute. All contenders are timed in turn, round after round, in one process, so
that a noisy machine is noisy to all of them; read the ratios. Each program derives its key from
the one it is given, as a training step does. What came out is in README.md, beside this file.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import typer

import jaxdrop
from experiments import cli, report

Drop = Callable[[jax.Array, jax.Array, float], jax.Array]


def _flax(key: jax.Array, x: jax.Array, rate: float) -> Any:
    return nn.Dropout(rate, deterministic=False).apply({}, x, rngs={"dropout": key})


CONTENDERS: dict[str, Drop] = {
    "copy (x * 2)": lambda key, x, rate: x * 2,
    "flax.linen.Dropout": _flax,
    "jaxdrop.dropout": jaxdrop.dropout,
    "jaxdrop.dropout, bits=32": lambda key, x, rate: jaxdrop.dropout(key, x, rate, bits=32),
    "jaxdrop.alpha_dropout": jaxdrop.alpha_dropout,
    "jaxdrop.gaussian_dropout": jaxdrop.gaussian_dropout,
}
FLAX, COPY = "flax.linen.Dropout", "copy (x * 2)"


def programs(drop: Drop, x: jax.Array, key: jax.Array, rate: float) -> tuple[dict[str, Callable], dict]:
    """Compiled forward, and forward and backward; and how long they took to compile."""

    def forward(key: jax.Array, x: jax.Array) -> jax.Array:
        return drop(jax.random.fold_in(key, 1), x, rate)

    def both(key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(lambda x: jnp.sum(forward(key, x) ** 2))(x)

    calls, seconds = {}, {}
    for name, function in (("forward", forward), ("forward + backward", both)):
        start = time.perf_counter()
        compiled = jax.jit(function).lower(key, x).compile()
        seconds[name] = time.perf_counter() - start
        calls[name] = lambda compiled=compiled: compiled(key, x)
    return calls, seconds


def kept_bytes(drop: Drop, x: jax.Array, key: jax.Array, rate: float) -> int:
    """What the forward pass keeps for the backward pass."""
    _, vjp = jax.vjp(lambda x: drop(key, x, rate), x)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(vjp))


def interleave(calls: dict[Any, Callable], rounds: int, seconds: float = 0.02) -> dict[Any, np.ndarray]:
    """Times of each call in milliseconds, `rounds` of them, all calls in turn in every round.

    The order is drawn anew for each round: what a call leaves in caches and in the allocator's
    hands is its successor's gain or loss.
    """
    order, names = np.random.default_rng(0), list(calls)
    repeats = {}
    for name, call in calls.items():
        jax.block_until_ready(call())
        start = time.perf_counter()
        jax.block_until_ready(call())
        repeats[name] = max(1, int(seconds / (time.perf_counter() - start)))
    times = {name: np.empty(rounds) for name in calls}
    bar, task = cli.progress("rounds", rounds)
    with bar:
        for index in range(rounds):
            for name in (names[i] for i in order.permutation(len(names))):
                call = calls[name]
                start = time.perf_counter()
                results = [call() for _ in range(repeats[name])]
                jax.block_until_ready(results)
                times[name][index] = (time.perf_counter() - start) / repeats[name] * 1e3
            bar.advance(task)
    return times


def measure(shape: tuple[int, int], dtype: str, rate: float, rounds: int) -> list[dict[str, Any]]:
    """A row for each contender: medians, quartiles, ratios, compile time and kept bytes."""
    key = jax.random.key(0)
    x = jax.random.normal(jax.random.key(1), shape, dtype)
    calls, compile_seconds = {}, {}
    for name, drop in CONTENDERS.items():
        forms, compile_seconds[name] = programs(drop, x, key, rate)
        calls |= {(name, form): call for form, call in forms.items()}
    times = interleave(calls, rounds)
    rows = []
    for name, drop in CONTENDERS.items():
        row: dict[str, Any] = {"name": name, "kept_bytes": kept_bytes(drop, x, key, rate)}
        for form in ("forward", "forward + backward"):
            mine = times[name, form]
            row[form] = {
                "median_ms": float(np.median(mine)),
                "quartiles_ms": np.percentile(mine, (25, 75)).tolist(),
                "speed_of_flax": float(np.median(times[FLAX, form]) / np.median(mine)),
                "times_copy": float(np.median(mine) / np.median(times[COPY, form])),
                "compile_s": compile_seconds[name][form],
            }
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the results of one shape."""
    header = ["", "fwd ms", "x Flax", "x copy", "fwd+bwd ms", "x Flax", "kept bytes"]
    body = []
    for row in rows:
        forward, both = row["forward"], row["forward + backward"]
        cells = [
            f"{forward['median_ms']:.3g}",
            f"{forward['speed_of_flax']:.1f}",
            f"{forward['times_copy']:.2f}",
        ]
        cells += [f"{both['median_ms']:.3g}", f"{both['speed_of_flax']:.1f}", f"{row['kept_bytes']:,}"]
        body.append([row["name"], *cells])
    return header, body


def main(
    out: cli.Out = Path("results"),
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; the medians are over these.")] = 21,
    rate: Annotated[float, typer.Option(help="The probability of dropping.")] = 0.1,
    quick: cli.Quick = False,
) -> None:
    """Time dropout against Flax's and against a copy, interleaved, and write OUT/benchmark/metrics.json.

    "x Flax" is how many times as fast as Flax's Dropout, "x copy" how many times as slow as a copy.
    """
    cli.check_count("rounds", rounds)
    if not 0 < rate < 1:
        raise cli.BadInputError(f"`rate` must lie strictly between 0 and 1, got {rate:g}.")
    shapes = [(4096, 4096), (128, 1024)]
    if quick:
        shapes, rounds = [(64, 128)], min(rounds, 3)
    results = []
    for shape in shapes:
        rows = measure(shape, "float32", rate, rounds)
        title = f"{shape[0]} x {shape[1]} float32, rate {rate:g}, medians of {rounds} interleaved rounds"
        report.print_table(title, *table(rows))
        results.append({"shape": shape, "dtype": "float32", "rate": rate, "rounds": rounds, "rows": rows})
    report.write_json(
        out / ("benchmark-quick" if quick else "benchmark") / "metrics.json",
        {"environment": report.environment(), "results": results},
    )


if __name__ == "__main__":
    cli.run(main)
