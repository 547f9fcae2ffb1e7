"""Dropout, locked dropout with DropConnect, and zoneout in an LSTM that predicts characters.

One layer with one of three kinds of noise: a fresh mask at every step on inputs and outputs (Zaremba et
al., 2014); one mask for all steps there, and DropConnect on the recurrent weights, one mask per
sequence (Gal and Ghahramani, 2016; Merity et al., 2018); or states that keep their previous value (Krueger
et al., 2017), replaced by the mean in evaluation. The score is bits per character.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdrop
from experiments import batches, cli, data, study
from jaxdrop import training

LEARNING_RATE = 5e-3


class Config(NamedTuple):
    """Configuration of a run."""

    text: str
    seed: int
    seeds: int
    embedding: int = 32
    width: int = 128
    length: int = 32
    batch_size: int = 64
    train_size: int = 20_000
    valid_windows: int = 512
    steps: int = 300


QUICK = {
    "embedding": 8,
    "width": 16,
    "length": 8,
    "batch_size": 16,
    "train_size": 2_000,
    "valid_windows": 32,
    "steps": 20,
}

Hyper = study.Hyper
# Cell and hidden state of the LSTM.
State = tuple[jax.Array, jax.Array]


class Noise(NamedTuple):
    """Noise of an LSTM.

    Attributes:
      settings: The settings to choose from.
      outer: Noise of the embeddings and the outputs, `[B, T, C]`.
      weights: Noise of the recurrent weights, once per sequence.
      state: Noise of the states, from the new and the old ones.
      mean_state: The mean of `state`, used in evaluation.
    """

    settings: list[study.Setting]
    outer: Callable[[jax.Array, jax.Array, Hyper], jax.Array] = lambda key, x, hyper: x
    weights: Callable[[jax.Array, jax.Array, Hyper], jax.Array] = lambda key, kernel, hyper: kernel
    state: Callable[[jax.Array, State, State, Hyper], State] | None = None
    mean_state: Callable[[State, State, Hyper], State] = lambda new, old, hyper: new


def zone(key: jax.Array, new: State, old: State, hyper: Hyper) -> State:
    """Zoneout of the cell and of the hidden state, each at its rate."""
    cell_key, hidden_key = jax.random.split(key)
    return (
        jaxdrop.zoneout(cell_key, new[0], old[0], hyper["cell"]),
        jaxdrop.zoneout(hidden_key, new[1], old[1], hyper["hidden"]),
    )


def zone_mean(new: State, old: State, hyper: Hyper) -> State:
    """Mean of `zone`."""
    return (
        jaxdrop.zoneout_mean(new[0], old[0], hyper["cell"]),
        jaxdrop.zoneout_mean(new[1], old[1], hyper["hidden"]),
    )


METHODS = {
    "none": Noise([{}]),
    "dropout": Noise(
        [{"rate": p} for p in (0.1, 0.25, 0.5)],
        outer=lambda key, x, hyper: jaxdrop.dropout(key, x, hyper["rate"]),
    ),
    "locked + DropConnect": Noise(
        [{"rate": p, "weights": p} for p in (0.1, 0.25, 0.5)],
        outer=lambda key, x, hyper: jaxdrop.locked_dropout(key, x, hyper["rate"]),
        weights=lambda key, kernel, hyper: jaxdrop.dropconnect(key, kernel, hyper["weights"]),
    ),
    "zoneout": Noise(
        [{"cell": c, "hidden": h} for c, h in ((0.1, 0.05), (0.3, 0.05), (0.5, 0.05))],
        state=zone,
        mean_state=zone_mean,
    ),
}


def init(rng: np.random.Generator, symbols: int, config: Config) -> dict[str, np.ndarray]:
    """LeCun's normal weights, and a forget gate that starts open."""
    width, embedding = config.width, config.embedding
    shapes = {"input": (embedding, 4 * width), "recurrent": (width, 4 * width), "output": (width, symbols)}
    params = {name: rng.normal(0, shape[0] ** -0.5, shape) for name, shape in shapes.items()}
    params["bias"] = np.repeat([0.0, 1.0, 0.0, 0.0], width)
    params["output_bias"] = np.zeros(symbols)
    params["embedding"] = rng.normal(0, 1, (symbols, embedding))
    return params


def cell(kernel: jax.Array, state: State, gates: jax.Array) -> State:
    """One step of an LSTM; `gates` is the input's share of the gates."""
    entry, forget, output, update = jnp.split(gates + state[1] @ kernel, 4, -1)
    memory = jax.nn.sigmoid(forget) * state[0] + jax.nn.sigmoid(entry) * jnp.tanh(update)
    return memory, jax.nn.sigmoid(output) * jnp.tanh(memory)


def apply(
    params: dict[str, jax.Array], tokens: jax.Array, noise: Noise, hyper: Hyper, key: jax.Array | None = None
) -> jax.Array:
    """Logits, `[B, T, symbols]`, each window from a zero state; with a key, with noise."""
    x, kernel = params["embedding"][tokens], params["recurrent"]
    keys = None if key is None else jax.random.split(key, 4)
    if keys is not None:
        x, kernel = noise.outer(keys[0], x, hyper), noise.weights(keys[1], kernel, hyper)
    gates = (x @ params["input"] + params["bias"]).swapaxes(0, 1)
    noisy = None if keys is None else noise.state
    step_keys = None if keys is None or noisy is None else jax.random.split(keys[2], len(gates))

    def step(state: State, inputs: tuple) -> tuple[State, jax.Array]:
        new = cell(kernel, state, inputs[0])
        if noisy is not None:
            new = noisy(inputs[1], new, state, hyper)
        elif key is None:
            new = noise.mean_state(new, state, hyper)
        return new, new[1]

    zeros = jnp.zeros((len(tokens), kernel.shape[0]))
    hidden = jax.lax.scan(step, (zeros, zeros), (gates, step_keys))[1].swapaxes(0, 1)
    if keys is not None:
        hidden = noise.outer(keys[3], hidden, hyper)
    return hidden @ params["output"] + params["output_bias"]


def bits(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """Mean cross-entropy in bits per character."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens).mean() / np.log(2)


def windows(codes: jax.Array, starts: jax.Array, length: int) -> jax.Array:
    """Windows of `length + 1` characters; the last is only predicted."""
    return codes[starts[:, None] + jnp.arange(length + 1)]


def program(name: str, symbols: int, config: Config) -> study.Program:
    """Program of one method: the network with one kind of noise."""
    noise = METHODS[name]

    def recipe(hyper: Hyper) -> tuple[training.LossFn, optax.GradientTransformation]:
        def loss_fn(params: Any, key: jax.Array, codes: jax.Array) -> tuple[jax.Array, tuple]:
            batch_key, noise_key = jax.random.split(key)
            last = config.train_size - config.length
            starts = hyper["train"][0] + batches.draw_batch(batch_key, config.batch_size, last)
            batch = windows(codes, starts, config.length)
            return bits(apply(params, batch[:, :-1], noise, hyper, noise_key), batch[:, 1:]), ()

        clip = optax.clip_by_global_norm(1.0)
        return loss_fn, optax.chain(
            clip, optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, config.steps))
        )

    def score(params: Any, hyper: Hyper, batch: jax.Array) -> jax.Array:
        return bits(apply(params, batch[:, :-1], noise, hyper), batch[:, 1:])

    return study.Program(
        [study.Method(name, noise.settings, "none")],
        init=lambda seed: init(np.random.default_rng((seed, 1)), symbols, config),
        recipe=recipe,
        score=score,
        steps=config.steps,
    )


def draw_rows(config: Config, size: int) -> dict[str, np.ndarray]:
    """Training stretch of each seed in the first nine tenths of the text, and the windows to score.

    The validation windows lie in the next twentieth and are the same for all seeds.
    """
    end, stop = size * 9 // 10, size * 19 // 20
    if config.train_size > end:
        raise cli.BadInputError(f"`train_size` must be at most {end}, got {config.train_size}.")
    first = [
        np.random.default_rng(config.seed + i).integers(0, end - config.train_size + 1)
        for i in range(config.seeds)
    ]
    train = np.array(first)[:, None]
    room = min(stop - end, config.train_size)
    valid, probe = end + spread(room, config), train + spread(room, config)
    return {"train": train, "probe": probe, "valid": np.tile(valid, (config.seeds, 1))}


def spread(size: int, config: Config) -> np.ndarray:
    """Starts of disjoint windows spread over `size` characters; fewer if they do not fit."""
    room = (size - 1) // config.length
    count = min(config.valid_windows, room)
    return config.length * (np.arange(count) * room // count)


def make(config: Config, text: data.Text) -> study.Study:
    """Study of the methods; the test part is the last twentieth of the text."""
    codes = jnp.asarray(text.codes)
    start = len(text.codes) * 19 // 20
    starts = np.arange(start, len(text.codes) - config.length, config.length)
    return study.Study(
        title=f"{text.name}, {config.train_size} training characters, LSTM of {config.width}",
        programs=[program(name, len(text.alphabet), config) for name in METHODS],
        rows=draw_rows(config, len(text.codes)),
        pool=codes,
        take=lambda codes, rows: windows(codes, rows, config.length),
        test=windows(codes, jnp.asarray(starts), config.length),
        score="bits per character",
        factor=1,
        digits=3,
        seed=config.seed,
        config=config._asdict(),
    )
