"""Benchmark of a grid of 64 runs: one program for all, or one run after another.

Every contender trains the same cells, 4 seeds x 4 dropout rates x 4 weight decays of an MLP, with the
same steps. Sequential runs come in three forms: a program per run, like a script with constant settings
started 64 times; one compiled step with the settings as arguments; and one compiled loop of all steps.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import batches, relu_net, timing
from experiments.benchmark import peers
from jaxdrop import penalties, training

ONE = "sweep, one program"
EACH = "run by run, a program each"
STEP, LOOP = "run by run, one compiled step", "run by run, one compiled loop"


def sweeps(setting: peers.Setting) -> Iterator[timing.Contest]:
    """Contest of a grid on examples of the size of the digits."""
    steps, values, sizes = (3, 2, (8, 4)) if setting.quick else (200, 4, (64, 64, 64, 10))
    title = f"{values**3} runs of {steps} steps, MLP {'-'.join(map(str, sizes))}, batch 50"
    # A GPU's compiler takes too long for a program each, and its host for many rounds of single steps.
    build = partial(programs, steps, values, sizes, each=not setting.on_gpu)
    yield timing.Contest(title, ONE, build, rounds=3 if setting.on_gpu else None)


def grid(values: int) -> dict[str, jax.Array]:
    """Grid of `values` seeds, rates and decays, in every combination."""
    rates, decays = np.linspace(0.0, 0.6, values), np.geomspace(1e-4, 1e-2, values)
    return dict(training.grid(seed=np.arange(values), rate=rates.tolist(), decay=decays.tolist()))


def recipe_for(count: int, batch: int = 50) -> training.Recipe:
    """Recipe with dropout and AdamW; rate and decay belong to a cell, traced or not."""

    def recipe(hyper: dict[str, Any]) -> tuple[training.LossFn, optax.GradientTransformation]:
        def apply(params: relu_net.Params, x: jax.Array, key: jax.Array) -> jax.Array:
            return relu_net.apply(params, x, (0.0, hyper["rate"]), key)[0]

        loss_fn = batches.cross_entropy(apply, lambda key: batches.draw_batch(key, batch, count))
        return loss_fn, optax.adamw(1e-3, weight_decay=hyper["decay"], mask=penalties.weight_mask)

    return recipe


def programs(
    steps: int, values: int, sizes: tuple[int, ...], each: bool = True
) -> dict[tuple[str, str], timing.Program]:
    """Compiled contenders; each returns the final parameters of all cells, in order."""
    rng, count = np.random.default_rng(0), 1000
    data = (
        jnp.asarray(rng.normal(size=(count, sizes[0])), jnp.float32),
        jnp.asarray(rng.integers(0, sizes[-1], count)),
    )
    recipe, hyper = recipe_for(count), grid(values)
    keys = jax.vmap(jax.random.key)(hyper["seed"])
    params = batches.stack([relu_net.init(np.random.default_rng(int(i)), sizes) for i in hyper["seed"]])
    pair = training.sweep(recipe)
    cells = [jax.tree.map(lambda leaf, i=i: leaf[i], (keys, params, hyper)) for i in range(values**3)]
    alone = [(training.trainer(*recipe(own)).init(key, first), own) for key, first, own in cells]
    all_at_once = timing.compiled(partial(_many, pair.step, steps), pair.init(keys, params, hyper), data)

    def step(state: Any, own: Any, data: Any) -> Any:
        return training.trainer(*recipe(own)).step(state, data)[0]

    def loop(state: Any, own: Any, data: Any) -> Any:
        return jax.lax.scan(lambda s, _: (step(s, own, data), None), state, length=steps)[0]

    found = {
        ONE: all_at_once,
        **({EACH: _each(recipe, alone, data, steps)} if each else {}),
        STEP: _compiled_once(step, alone, data, steps),
        LOOP: _compiled_once(loop, alone, data, 1),
    }
    return {(name, "steps"): program for name, program in found.items()}


def _many(step: Callable, steps: int, state: Any, data: Any) -> Any:
    return jax.lax.scan(lambda s, _: (step(s, data)[0], None), state, length=steps)[0].params


def _compiled_once(function: Callable, cells: list, data: Any, times: int) -> timing.Program:
    begin = time.perf_counter()
    executable = jax.jit(function).lower(*cells[0], data).compile()
    seconds = time.perf_counter() - begin
    return timing.Program(
        lambda: [_run(executable, state, times, own, data) for state, own in cells],
        compile_seconds=seconds,
    )


def _each(recipe: training.Recipe, cells: list, data: Any, times: int) -> timing.Program:
    """Programs with constant settings, one per cell."""
    executables, begin = [], time.perf_counter()
    for state, own in cells:
        pair = training.trainer(*recipe({name: float(value) for name, value in own.items()}))
        executables.append(jax.jit(lambda s, d, pair=pair: pair.step(s, d)[0]).lower(state, data).compile())
    seconds = time.perf_counter() - begin
    runs = list(zip(executables, cells, strict=True))
    return timing.Program(
        lambda: [_run(e, state, times, data) for e, (state, _) in runs], compile_seconds=seconds
    )


def _run(executable: Callable, state: Any, times: int, *args: Any) -> Any:
    for _ in range(times):
        state = executable(state, *args)
    return state.params
