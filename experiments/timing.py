"""Interleaved timing of programs: one process, in turn, round after round, in random order."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from experiments import cli


@dataclass
class Program:
    """Program ready to be timed, with its compile time and memory."""

    call: Callable[[], Any]
    # Waits for results: calls on a GPU return before they have run.
    wait: Callable[[Any], Any] = jax.block_until_ready
    compile_seconds: float | None = None
    kept_bytes: int | None = None
    moved_bytes: float | None = None


# By contender and form.
Programs = dict[tuple[str, str], Program]


# How long a round repeats a short call.
SECONDS = 0.02


@dataclass
class Contest:
    """Programs that are timed together. The floor is the contender without dropout.

    Not every contender needs every form, but the floor does. `rounds` is the largest number of rounds.
    """

    title: str
    floor: str
    build: Callable[[], Programs]
    rounds: int | None = None


def compiled(function: Callable, *args: Any) -> Program:
    """Compiles a JAX function for its arguments; records seconds and the bytes that XLA counts."""
    start = time.perf_counter()
    executable = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - start
    cost = executable.cost_analysis() or {}
    moved = cost.get("bytes accessed")
    return Program(lambda: executable(*args), compile_seconds=seconds, moved_bytes=moved)


def kept_bytes(function: Callable[[jax.Array], Any], x: jax.Array) -> int:
    """Bytes that the forward pass keeps for the backward pass, besides `x`."""
    _, vjp = jax.vjp(function, x)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(vjp) if leaf is not x)


def interleave(
    programs: Mapping[Any, Program], rounds: int, seconds: float = SECONDS, title: str = "rounds"
) -> dict[Any, np.ndarray]:
    """Milliseconds per call in each of `rounds`, with all calls in turn in every round.

    Noise of the machine then affects all. The order is random in each round, since a call changes caches
    and allocator for its successor. Short calls are repeated for about `seconds`, as long as the results
    take at most 4 GiB.
    """
    order, names = np.random.default_rng(0), list(programs)
    repeats = {}
    for name, program in programs.items():
        program.wait(program.call())
        start = time.perf_counter()
        result = program.call()
        program.wait(result)
        room = 2**32 // (1 + sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(result)))
        repeats[name] = max(1, min(room, int(seconds / (time.perf_counter() - start))))
        del result
    times = {name: np.empty(rounds) for name in names}
    bar, task = cli.progress(title, rounds)
    with bar:
        for index in range(rounds):
            for name in (names[i] for i in order.permutation(len(names))):
                call, wait = programs[name].call, programs[name].wait
                start = time.perf_counter()
                wait([call() for _ in range(repeats[name])])
                times[name][index] = (time.perf_counter() - start) / repeats[name] * 1e3
            bar.advance(task)
    return times
