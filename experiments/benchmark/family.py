"""Benchmark of every member of the family against plain dropout of the same size."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp

import jaxdrop
from experiments.benchmark.ops import Forward, double, forms
from experiments.benchmark.peers import Setting
from experiments.timing import Contest, Programs

PLAIN = "dropout"


def family(setting: Setting) -> Iterator[Contest]:
    """Contests, one per shape of data; the floor is plain dropout with as many random decisions."""
    for title, shape, dims, members in _groups(setting.quick):
        yield Contest(title, PLAIN, partial(_against_plain, shape, dims, members))


def _groups(quick: bool) -> Iterator[tuple[str, tuple, tuple, dict[str, Forward]]]:
    """Title, shape, axes that share a decision, and members."""
    matrix = (16, 32) if quick else (4096, 2048)
    yield "one decision per element, {}x{}, rate 0.1".format(*matrix), matrix, (), _elements(matrix)
    maps = (2, 8, 8, 16) if quick else (64, 32, 32, 128)
    title = "{}x{}x{}x{}, rate 0.1".format(*maps)
    yield f"one decision per channel, {title}", maps, (1, 2), _channels()
    yield f"one decision per example, {title}", maps, (1, 2, 3), _examples()
    yield f"blocks of 7x7 against one decision per element, {title}", maps, (), _blocks(5 if quick else 7)


def _elements(shape: tuple) -> dict[str, Forward]:
    other = jax.random.normal(jax.random.key(2), shape)
    eye = jnp.zeros((shape[-1], 8))
    edges = jnp.arange(shape[0] * shape[1], dtype=jnp.int32)
    ends = {"senders": edges // 50, "receivers": (edges * 7919) % (edges.size // 50)}

    def flat(key: jax.Array, x: jax.Array, **options) -> jax.Array:
        return jaxdrop.drop_edge(key, x.reshape(-1), 0.1, **options).reshape(x.shape)

    def tokens(key: jax.Array, x: jax.Array) -> jax.Array:
        words = jax.lax.bitcast_convert_type(x, jnp.int32)
        return jax.lax.bitcast_convert_type(jaxdrop.word_dropout(key, words, 0.1, replacement=0), x.dtype)

    return {
        "alpha_dropout": partial(jaxdrop.alpha_dropout, rate=0.1),
        "attention_dropout": partial(jaxdrop.attention_dropout, rate=0.1),
        "drop_key": partial(jaxdrop.drop_key, rate=0.1),
        "dropconnect": partial(jaxdrop.dropconnect, rate=0.1),
        "mixout": lambda key, x: jaxdrop.mixout(key, x, other, 0.1),
        "targeted_dropout, fraction 1": lambda key, x: jaxdrop.targeted_dropout(key, x, 0.1, fraction=1.0),
        "targeted_dropout, fraction .5": lambda key, x: jaxdrop.targeted_dropout(key, x, 0.1, fraction=0.5),
        "word_dropout": tokens,
        "zoneout": lambda key, x: jaxdrop.zoneout(key, x, other, 0.1),
        "standout": lambda key, x: jaxdrop.standout(key, x, other, beta=2.0),
        "shakeout to 8": lambda key, x: jaxdrop.shakeout(key, x, eye, 0.1, constant=0.1),
        "drop_edge": flat,
        "drop_edge, undirected": partial(flat, undirected=True, **ends),
        "gaussian_dropout": partial(jaxdrop.gaussian_dropout, rate=0.1),
        "concrete_dropout": lambda key, x: jaxdrop.concrete_dropout(key, x, jnp.float32(-2.0))[0],
        "concrete_dropout, its logit traced": lambda key, x: jaxdrop.concrete_dropout(
            key, x, -2.0 + 0 * x[0, 0]
        )[0],
    }


def _channels() -> dict[str, Forward]:
    masks = jaxdrop.masksembles_masks(jax.random.key(3), 128, 4, 2.0)
    return {
        "spatial_dropout": lambda key, x: jaxdrop.spatial_dropout(key, x, 0.1),
        "feature_alpha_dropout": lambda key, x: jaxdrop.feature_alpha_dropout(key, x, 0.1),
        "masksembles": lambda key, x: jaxdrop.masksembles(x, masks) if x.shape[-1] == 128 else x,
    }


def _examples() -> dict[str, Forward]:
    return {
        "drop_path": lambda key, x: jaxdrop.drop_path(key, x, 0.1),
        "drop_layer": lambda key, x: jaxdrop.drop_layer(key, x, 0.1, layer=lambda x: 2 * x),
        "subset_depth": lambda key, x: jaxdrop.subset_depth(key, x, 0.1, branch=lambda x: 2 * x),
        "cutout 8x8": lambda key, x: jaxdrop.cutout(key, x, 1.0, size=8),
        "patch_dropout": lambda key, x: jaxdrop.patch_dropout(key, x.reshape(len(x), -1, x.shape[-1]), 0.1),
    }


def _blocks(side: int) -> dict[str, Forward]:
    return {"drop_block": lambda key, x: jaxdrop.drop_block(key, x, 0.1, block_size=side)}


def _against_plain(shape: tuple, dims: tuple, members: dict[str, Forward]) -> Programs:
    x = jax.random.normal(jax.random.key(1), shape)
    plain = partial(jaxdrop.dropout, rate=0.1, broadcast_dims=dims)
    programs = {}
    for name, forward in {"copy": double, PLAIN: plain, **members}.items():
        programs |= forms(name, forward, x)
    return programs
