"""Dropout, attention dropout and DropKey in a Transformer that predicts characters over 2048 places.

Flax's own attention modules, with `jaxdrop.linen.attention_fn(block_size=)` for their attention: its
weights, T x T per head, are never stored. The score is bits per character. The memory of a training
step is that of its compiled program, beside the forms that store the weights.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdrop
from experiments import batches, data, report, study
from experiments.variants import text
from jaxdrop import training

LEARNING_RATE = 3e-3
# The temporary memory that the gradient of so many networks, which train at once, may take, in bytes.
BUDGET, NETWORKS = 10**9, 10
# The sites that a hyperparameter sets the rate of.
SITES = {"rate": "*/dropout", "attention": "*/attention"}


class Config(NamedTuple):
    """Configuration of a run."""

    text: str
    seed: int
    seeds: int
    symbols: int = 0
    width: int = 64
    layers: int = 2
    heads: int = 2
    length: int = 2048
    block_size: int = 128
    batch_size: int = 1
    train_size: int = 32_768
    valid_windows: int = 4
    steps: int = 150
    memory_lengths: tuple[int, ...] = (512, 1024, 2048, 4096)


QUICK = {
    "width": 8,
    "layers": 1,
    "length": 64,
    "block_size": 16,
    "train_size": 2_000,
    "valid_windows": 4,
    "steps": 10,
    "memory_lengths": (64,),
}

Hyper = study.Hyper
Attention = Callable[..., jax.Array]


RATES = (0.1, 0.3)
# The methods that train in one program share what attention does at its rate.
PROGRAMS: list[tuple[Callable[..., jax.Array], dict[str, list[study.Setting]]]] = [
    (
        jaxdrop.attention_dropout,
        {
            "none": [{}],
            "dropout": [{"rate": p} for p in RATES],
            "attention dropout": [{"attention": p} for p in RATES],
        },
    ),
    (jaxdrop.drop_key, {"DropKey": [{"attention": p} for p in RATES]}),
]
METHODS = [name for _, methods in PROGRAMS for name in methods]


class Layer(nn.Module):
    """Causal self-attention and an MLP, each after a layer normalization and beside a skip connection."""

    heads: int
    attention_fn: Attention
    attention_rate: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, deterministic: bool) -> jax.Array:
        """The next activations, `[B, T, C]`."""
        drop = nn.Dropout(0.0, deterministic=deterministic, name="dropout")
        attend = nn.MultiHeadDotProductAttention(
            self.heads,
            dropout_rate=self.attention_rate,
            deterministic=deterministic,
            broadcast_dropout=False,
            attention_fn=self.attention_fn,
            name="attention",
        )
        x = x + drop(attend(nn.LayerNorm()(x), mask=mask))
        hidden = nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
        return x + drop(nn.Dense(x.shape[-1])(hidden))


class Transformer(nn.Module):
    """Predicts the next of each character from those before it, at learned positions."""

    symbols: int
    width: int
    layers: int
    heads: int
    attention_fn: Attention
    attention_rate: float = 0.0

    @nn.compact
    def __call__(self, tokens: jax.Array, deterministic: bool = True) -> jax.Array:
        """Logits, `[B, T, symbols]`."""
        length = tokens.shape[-1]
        x = nn.Embed(self.symbols, self.width)(tokens) + nn.Embed(length, self.width)(jnp.arange(length))
        mask = nn.make_causal_mask(tokens[:1], dtype=bool)
        for i in range(self.layers):
            layer = Layer(self.heads, self.attention_fn, self.attention_rate, name=f"layer_{i}")
            x = layer(x, mask, deterministic)
        return nn.Dense(self.symbols)(nn.LayerNorm()(x))


def network(config: Config, attention_fn: Attention, attention_rate: float = 0.0) -> Transformer:
    """Network of a configuration."""
    sizes = (config.symbols, config.width, config.layers, config.heads)
    return Transformer(*sizes, attention_fn, attention_rate)


def in_blocks(regularizer: Callable[..., jax.Array], config: Config) -> Attention:
    """Attention in blocks of queries."""
    return jaxdrop.linen.attention_fn(regularizer, block_size=config.block_size)


def noisy(net: Transformer, params: Any, tokens: jax.Array, hyper: Hyper, key: jax.Array) -> jax.Array:
    """Logits with noise, `[B, T, symbols]`."""
    apply = jaxdrop.linen.with_rates(net.apply, {site: hyper[name] for name, site in SITES.items()})
    return jnp.asarray(apply({"params": params}, tokens, deterministic=False, rngs={"dropout": key}))


def program(
    regularizer: Callable[..., jax.Array],
    methods: dict[str, list[study.Setting]],
    init: Callable[[int], Any],
    config: Config,
) -> study.Program:
    """Program of the methods that share what attention does at its rate."""
    net = network(config, in_blocks(regularizer, config))

    def recipe(hyper: Hyper) -> tuple[training.LossFn, optax.GradientTransformation]:
        def loss_fn(params: Any, key: jax.Array, codes: jax.Array) -> tuple[jax.Array, tuple]:
            batch_key, noise_key = jax.random.split(key)
            last = config.train_size - config.length
            starts = hyper["train"][0] + batches.draw_batch(batch_key, config.batch_size, last)
            batch = text.windows(codes, starts, config.length)
            return text.bits(noisy(net, params, batch[:, :-1], hyper, noise_key), batch[:, 1:]), ()

        schedule = optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, config.steps // 10, config.steps)
        return loss_fn, optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def score(params: Any, hyper: Hyper, batch: jax.Array) -> jax.Array:
        def of_window(window: jax.Array) -> jax.Array:
            return text.bits(jnp.asarray(net.apply({"params": params}, window[None, :-1])), window[None, 1:])

        return jax.lax.map(of_window, batch).mean()

    return study.Program(
        [study.Method(name, settings, "none") for name, settings in methods.items()],
        init=init,
        recipe=recipe,
        score=score,
        steps=config.steps,
        absent=dict.fromkeys(SITES, 0.0),
    )


def forms(config: Config) -> dict[str, Attention]:
    """Attention with dropout of its weights, in blocks and of all weights."""
    return {
        "jaxdrop, blocks": in_blocks(jaxdrop.attention_dropout, config),
        "jaxdrop, all weights": jaxdrop.linen.attention_fn(),
        "Flax": nn.dot_product_attention,
    }


def memory(config: Config) -> dict[str, dict[str, int]]:
    """Temporary bytes of the gradient of `NETWORKS`, by form and length; nothing is run."""
    rows: dict[str, dict[str, int]] = {}
    keys = jax.random.split(jax.random.key(0), NETWORKS)
    for length in config.memory_lengths:
        inputs = jax.ShapeDtypeStruct((config.batch_size, length), np.int32)
        tokens = jax.ShapeDtypeStruct((config.batch_size, length + 1), np.int32)
        for name, attention_fn in forms(config).items():
            net = network(config, attention_fn, RATES[0])
            variables = jax.eval_shape(net.init, keys[0], inputs)
            stacked = jax.tree.map(lambda x: jax.ShapeDtypeStruct((NETWORKS, *x.shape), x.dtype), variables)
            grad = jax.jit(jax.vmap(jax.grad(partial(loss, net)), (0, 0, None)))
            sizes: Any = grad.lower(stacked, keys, tokens).compile().memory_analysis()
            rows.setdefault(name, {})[str(length)] = sizes.temp_size_in_bytes
    return rows


def loss(net: Transformer, variables: Any, key: jax.Array, tokens: jax.Array) -> jax.Array:
    """Bits per character of a network at its own rates, with noise."""
    logits = net.apply(variables, tokens[:, :-1], deterministic=False, rngs={"dropout": key})
    return text.bits(jnp.asarray(logits), tokens[:, 1:])


def memory_table(rows: dict[str, dict[str, int]], config: Config) -> report.Table:
    """Table of the memory, in MB, and the longest length that fits into the budget."""
    header = ["MB", *(f"T = {length}" for length in config.memory_lengths), f"fits {BUDGET / 1e9:g} GB"]
    body = []
    for name, row in rows.items():
        fitting = [int(length) for length, size in row.items() if size <= BUDGET]
        longest = f"T = {max(fitting)}" if fitting else "-"
        body.append([name, *(f"{size / 1e6:.3g}" for size in row.values()), longest])
    return report.Table(f"Temporary memory of the gradient of {NETWORKS} networks", header, body)


def conclude(made: study.Study) -> tuple[dict[str, Any], str]:
    """The memory of a study's networks, for metrics.json and as a table in Markdown."""
    config = Config(**made.config)
    rows = memory(config)
    shown = memory_table(rows, config)
    return {"memory": rows}, f"{shown.title}:\n\n{shown.markdown()}"


def make(config: Config, content: data.Text) -> study.Study:
    """Study of the methods; the test part is the last twentieth of the text."""
    config = config._replace(symbols=len(content.alphabet))
    tokens = jnp.zeros((1, config.length), jnp.int32)
    first = jax.jit(network(config, nn.dot_product_attention).init)
    codes, names = jnp.asarray(content.codes), ("length", "train_size", "valid_windows")
    windows = text.Config(*config[:3], **{name: getattr(config, name) for name in names})
    start = len(content.codes) * 19 // 20
    starts = np.arange(start, len(content.codes) - config.length, config.length)
    return study.Study(
        title=f"{content.name}, {config.train_size} training characters, Transformer over {config.length}",
        programs=[
            program(*one, lambda seed: first(jax.random.key(seed), tokens)["params"], config)
            for one in PROGRAMS
        ],
        rows=text.draw_rows(windows, len(content.codes)),
        pool=codes,
        take=lambda codes, rows: text.windows(codes, rows, config.length),
        test=text.windows(codes, jnp.asarray(starts), config.length),
        score="bits per character",
        factor=1,
        digits=3,
        seed=config.seed,
        config=config._asdict(),
        names={"attention": "rate"},
        across=study.one_by_one,
    )
