"""Stream of the random bits of masks, for a battery of statistical tests.

The claim: Threefry-2x32 with 20 rounds passes TestU01's BigCrush in whatever order its counters and
keys are run through (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011; 13 rounds
are the fewest that do). So should the draws behind masks, 16 bits per element, in the orders
in which a network uses them: along a row, across the rows, and across successive keys.

    python -m experiments.quality --order place | RNG_test stdin16 -tlmax 4GB
    python -m experiments.quality --order key | dieharder -a -g 200

`RNG_test` is PractRand's, `dieharder` a package of most Linux distributions. An endless stream:
the battery closes it. Results: README.md in this folder.
"""

import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Annotated, BinaryIO, Literal

import jax
import jax.numpy as jnp
import numpy as np
import typer

from experiments import cli
from jaxdrop import _bits

Order = Literal["place", "row", "key"]
# Keys, rows and columns of a chunk, by order; 16 MiB each.
SHAPES = {"place": (1, 2048, 4096), "row": (1, 4096, 2048), "key": (256, 8, 4096)}
# Order of the axes; the last runs fastest.
AXES = {"place": (0, 1, 2), "row": (0, 2, 1), "key": (1, 2, 0)}


@partial(jax.jit, static_argnames=("shape", "axes"))
def chunk(key: jax.Array, shape: tuple[int, int, int], axes: tuple[int, int, int]) -> jax.Array:
    """16-bit draws of `shape[0]` keys, each for an array of `shape[1:]`, in an order of axes."""
    keys = jax.random.key_data(jax.random.split(key, shape[0]))
    draws = jax.vmap(lambda words: _bits._element_draws(words, shape[1:], 16))(keys)
    return draws.astype(jnp.uint16).transpose(axes)


def stream(order: str, seed: int) -> Iterator[bytes]:
    """Endless chunks, each with its own keys."""
    key = jax.random.key(seed)
    for number in range(2**32):
        own = jax.random.fold_in(key, number)
        yield np.asarray(chunk(own, SHAPES[order], AXES[order])).astype("<u2").tobytes()


def write(out: BinaryIO, order: str, seed: int, limit: int | None) -> None:
    """Writes the stream up to the limit, or until the reader closes the pipe."""
    left = limit
    for part in stream(order, seed):
        piece = part if left is None else part[:left]
        try:
            out.write(piece)
            out.flush()
        except BrokenPipeError:
            # Otherwise Python would report the closed pipe again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if left is not None:
            left -= len(piece)
            if left == 0:
                return


def main(
    order: Annotated[Order, typer.Option(help="Fastest index: place (within a row), row, or key.")] = "place",
    limit: Annotated[
        int | None, typer.Option("--bytes", min=1, help="Number of bytes; endless by default.")
    ] = None,
    seed: cli.Seed = 0,
) -> None:
    """Write the random bits of masks to standard output: 16-bit draws, little-endian."""
    if sys.stdout.isatty():
        raise cli.BadInputError("`stdout` must be a pipe or a file, got a terminal.")
    write(sys.stdout.buffer, order, seed, limit)


if __name__ == "__main__":
    cli.run(main)
