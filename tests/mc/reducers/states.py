"""Samples given to a reducer in chunks of some sizes, as the sampler does."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp


def streamed(reducer: Any, samples: Any, chunks: list[int], targets: Any = None) -> tuple[dict, dict]:
    starts = [0, *itertools.accumulate(chunks)]
    state = None
    for start, stop in itertools.pairwise(starts):
        part = jax.tree.map(lambda leaf, rows=slice(start, stop): leaf[rows], samples)
        own = reducer.summarize(part, jnp.arange(start, stop), targets)
        state = own if state is None else reducer.merge(state, own)
    return jax.jit(lambda state: reducer.finish(state))(state)
