"""Interleaved timing of programs: one process, in turn, round after round, in random order."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from experiments import cli, report

# The threads that compile; None compiles at once.
_POOL: ThreadPoolExecutor | None = None


@dataclass
class Program:
    """Program to be timed, with its compile time and memory; `pending` is a compilation in another thread."""

    call: Callable[[], Any]
    # Waits for results: calls on a GPU return before they have run.
    wait: Callable[[Any], Any] = jax.block_until_ready
    compile_seconds: float | None = None
    kept_bytes: int | None = None
    moved_bytes: float | None = None
    temporary_bytes: int | None = None
    pending: Future | None = None

    def ready(self) -> None:
        """Waits for the compilation, and raises its error."""
        if self.pending is not None:
            self.pending.result()


# By contender and form.
Programs = dict[tuple[str, str], Program]


# How long a round repeats a short call.
SECONDS = 0.02
# Most calls that a GPU is given before the host waits.
MOST_IN_FLIGHT = 200


@dataclass
class Contest:
    """Programs that are timed together. The floor is the contender without dropout.

    Not every contender needs every form, but the floor does. `rounds` is the largest number of rounds.
    """

    title: str
    floor: str
    build: Callable[[], Programs]
    rounds: int | None = None


@contextlib.contextmanager
def in_threads(count: int) -> Iterator[None]:
    """Lets `compiled` return pending programs, compiled by `count` threads; `Program.ready` raises errors."""
    global _POOL
    with ThreadPoolExecutor(count) as _POOL:
        try:
            yield
        finally:
            _POOL.shutdown(cancel_futures=True)
            _POOL = None


def compiled(function: Callable, *args: Any) -> Program:
    """Compiles a JAX function for its arguments; records seconds and the bytes that XLA counts."""
    program, start = Program(_call_pending), time.perf_counter()
    try:
        lowered = jax.jit(function).lower(*args)
    except Exception as error:
        if _POOL is None:
            raise
        return _failed(error)
    tracing = time.perf_counter() - start

    def finish() -> None:
        start = time.perf_counter()
        executable = lowered.compile()
        program.compile_seconds = tracing + time.perf_counter() - start
        program.moved_bytes = (executable.cost_analysis() or {}).get("bytes accessed")
        sizes = executable.memory_analysis()
        program.temporary_bytes = sizes and sizes.temp_size_in_bytes
        program.call = lambda: executable(*args)

    if _POOL is None:
        finish()
    else:
        program.pending = _POOL.submit(finish)
    return program


def attempted(name: str, build: Callable[[], Programs]) -> Programs:
    """The programs that `build` makes; in `in_threads` its error becomes that of a program `name`."""
    try:
        return build()
    except Exception as error:
        if _POOL is None:
            raise
        return {(name, ""): _failed(error)}


def _failed(error: Exception) -> Program:
    pending: Future = Future()
    pending.set_exception(error)
    return Program(_call_pending, pending=pending)


def _call_pending() -> Any:
    raise RuntimeError("A program is called before it is ready.")


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
    take at most 4 GiB. On a GPU the calls of a round are in flight together and all results but the last are
    dropped at once: it runs them in order.
    """
    hold = report.device().platform == "cpu"
    order, names = np.random.default_rng(0), list(programs)
    repeats = {}
    for name, program in programs.items():
        program.ready()
        program.wait(program.call())
        start = time.perf_counter()
        result = program.call()
        program.wait(result)
        size = 1 + sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(result))
        room = 2**32 // size if hold else MOST_IN_FLIGHT
        repeats[name] = max(1, min(room, int(seconds / (time.perf_counter() - start))))
        del result
    times = {name: np.empty(rounds) for name in names}
    bar, task = cli.progress(title, rounds)
    with bar:
        for index in range(rounds):
            for name in (names[i] for i in order.permutation(len(names))):
                call, wait = programs[name].call, programs[name].wait
                start = time.perf_counter()
                if hold:
                    wait([call() for _ in range(repeats[name])])
                else:
                    for _ in range(repeats[name] - 1):
                        call()
                    wait(call())
                times[name][index] = (time.perf_counter() - start) / repeats[name] * 1e3
            bar.advance(task)
    return times
