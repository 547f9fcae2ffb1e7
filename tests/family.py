"""The family of regularizers as the law suite sees it: every function of `jaxdrop.drops`, or why not."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx


@dataclass(frozen=True)
class Member:
    """A regularizer as `pure(key, x, level)`, its shells, and the properties that its paper promises."""

    name: str
    pure: Callable
    # Its shells, where they take one array and a level, as `pure` does.
    linen: Callable | None = None
    nnx: Callable | None = None
    # The public function, where `pure` hands it more than these three.
    function: Callable | None = None
    # The variance of one element, given the input and the level, where the mean is kept.
    variance: Callable[[jax.Array, float], jax.Array] | None = None
    level: str = "rate"
    # What level zero and rate one give; None where there is no such thing.
    zero: Callable[[jax.Array], jax.Array] | None = lambda x: x
    one: Callable[[jax.Array], jax.Array] | None = jnp.zeros_like
    # Whether what is dropped is replaced, so that an infinity there is gone.
    selects: bool = True
    # Whether the moments hold for a standardized input only.
    standardized: bool = False
    # The elements that share one draw, for an input of shape [64, 32, 128].
    shared: int = 1
    # The forms that the level may take.
    traced: bool = True
    arrays: bool = True
    # Whether each element of the result is its own input, times a factor, plus an offset.
    elementwise: bool = True
    # Whether half precision is the single precision, rounded once.
    rounds_once: bool = True
    # What may be sharded with no talk between devices: "any" axis, the "batch" alone, or "none".
    shardable: str = "any"
    # Which of the first two sizes may be unknown when it is exported: those with a letter.
    exported: str | None = "b, l"
    # How many results there can be.
    outcomes: float = float("inf")
    # The member of which it is but another form: what its transformations promise is held there.
    form_of: str | None = None
    # Whether nothing is kept for the backward pass but the key's words and scalars.
    keeps_nothing: bool = True

    @property
    def is_rate(self) -> bool:
        return self.level == "rate"

    @property
    def public(self) -> Callable:
        return self.function or self.pure


def bernoulli(x: jax.Array, p: float) -> jax.Array:
    return x**2 * p / (1 - p)


def _logit(p: float) -> jax.Array:
    p = jax.lax.stop_gradient(jnp.asarray(p, jnp.float32))
    return jnp.log(p) - jnp.log1p(-p)


def _shakeout(key, x, rate):
    return jaxdrop.shakeout(key, x, jnp.eye(x.shape[-1], dtype=x.dtype), rate, constant=0.25)


def _drop_edge(key, x, rate):
    x = jnp.asarray(x)
    return jaxdrop.drop_edge(key, x.reshape(-1), rate).reshape(x.shape)


def _mixed(mix: Callable) -> Callable:
    """A function that mixes examples and labels, of the examples alone."""
    return lambda key, x, alpha: mix(key, x, jnp.ones((*jnp.shape(x)[:1], 2)), alpha)[0]


def _attention(key, x, rate, **options):
    """Attention in blocks of three queries, each of which sees its own value: whole rows of `x`."""
    x = jnp.asarray(x)
    queries, mask = jnp.zeros_like(x[..., None, :]), jnp.eye(x.shape[-2], dtype=bool)
    rate = rate[..., None] if jnp.ndim(rate) else rate
    options = {"mask": mask, "block_size": 3} | options
    values = x[..., None, :]
    return jaxdrop.dot_product_attention(key, queries, queries, values, rate, **options)[..., 0, :]


def _drop_node(key, x, rate):
    x = jnp.asarray(x)
    return jaxdrop.drop_node(key, x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), rate).reshape(x.shape)


def _shells(name: str) -> dict:
    return {"linen": getattr(jaxdrop.linen, name), "nnx": getattr(jaxdrop.nnx, name)}


# The members that are not `f(key, x, rate)` and no more, or that promise more than all do.
SPECIAL = (
    Member("dropout", jaxdrop.dropout, **_shells("Dropout"), variance=bernoulli),
    Member(
        "spatial_dropout",
        jaxdrop.spatial_dropout,
        **_shells("SpatialDropout"),
        variance=bernoulli,
        shared=32,
        form_of="dropout",
    ),
    Member(
        "gaussian_dropout",
        jaxdrop.gaussian_dropout,
        **_shells("GaussianDropout"),
        variance=bernoulli,
        selects=False,
    ),
    Member(
        "gaussian_noise",
        jaxdrop.gaussian_noise,
        **_shells("GaussianNoise"),
        variance=lambda x, stddev: jnp.full_like(x, stddev**2),
        level="stddev",
        selects=False,
    ),
    Member(
        "alpha_dropout",
        jaxdrop.alpha_dropout,
        **_shells("AlphaDropout"),
        variance=lambda x, _: jnp.ones_like(x),
        standardized=True,
    ),
    Member(
        "feature_alpha_dropout",
        jaxdrop.feature_alpha_dropout,
        variance=lambda x, _: jnp.ones_like(x),
        standardized=True,
        shared=32,
        form_of="alpha_dropout",
    ),
    Member("shake_drop", jaxdrop.shake_drop, one=None, selects=False, elementwise=False),
    Member("drop_path", jaxdrop.drop_path, variance=bernoulli, shared=32 * 128, form_of="dropout"),
    Member(
        "subset_depth",
        lambda key, x, rate: jaxdrop.subset_depth(key, x, rate, branch=lambda x: x),
        function=jaxdrop.subset_depth,
        zero=lambda x: 2 * x,
        one=None,
        selects=False,
        traced=False,
        arrays=False,
        rounds_once=False,
        shardable="none",
        exported=None,
        outcomes=70,
        keeps_nothing=False,
    ),
    Member(
        "drop_block",
        partial(jaxdrop.drop_block, block_size=3),
        shardable="batch",
        exported="b, 4",
    ),
    Member(
        "patch_dropout",
        partial(jaxdrop.patch_dropout, prefix_tokens=1),
        exported="b, 4",
        one=None,
        traced=False,
        arrays=False,
        elementwise=False,
        selects=False,
        shardable="batch",
        keeps_nothing=False,
    ),
    Member("cutout", partial(jaxdrop.cutout, size=2), one=None, exported="b, 4"),
    Member(
        "neftune",
        jaxdrop.neftune,
        variance=lambda x, alpha: jnp.full_like(x, alpha**2 / (3 * 32 * 128)),
        level="alpha",
        selects=False,
        form_of="gaussian_noise",
    ),
    Member("drop_head", jaxdrop.drop_head, variance=bernoulli, shared=128, form_of="dropout"),
    Member(
        "drop_layer",
        lambda key, x, rate: jaxdrop.drop_layer(key, x, rate, layer=lambda x: -x),
        function=jaxdrop.drop_layer,
        zero=lambda x: -x,
        one=lambda x: x,
        arrays=False,
        selects=False,
        outcomes=2,
    ),
    Member(
        "dropconnect",
        lambda key, x, rate: jaxdrop.dropconnect(key, {"kernel": x, "bias": 0.0}, rate)["kernel"],
        function=jaxdrop.dropconnect,
        variance=bernoulli,
        arrays=False,
    ),
    Member(
        "mixout",
        lambda key, x, rate: jaxdrop.mixout(key, x, jnp.full_like(x, 0.5), rate),
        function=jaxdrop.mixout,
        variance=lambda x, p: bernoulli(x - 0.5, p),
        one=lambda x: jnp.full_like(x, 0.5),
        arrays=False,
    ),
    Member("locked_dropout", jaxdrop.locked_dropout, variance=bernoulli, shared=32, form_of="dropout"),
    Member(
        "embedding_dropout", jaxdrop.embedding_dropout, variance=bernoulli, shared=32 * 128, form_of="dropout"
    ),
    Member(
        "zoneout",
        lambda key, x, rate: jaxdrop.zoneout(key, x, -jnp.asarray(x), rate),
        function=jaxdrop.zoneout,
        one=lambda x: -x,
        selects=False,
    ),
    Member("attention_dropout", jaxdrop.attention_dropout, variance=bernoulli, form_of="dropout"),
    Member(
        "drop_key",
        jaxdrop.drop_key,
        one=None,
        rounds_once=False,
        shardable="batch",
        keeps_nothing=False,  # whether a row has lost all its keys
    ),
    Member(
        "standout",
        lambda key, x, rate: jaxdrop.standout(key, x, jnp.broadcast_to(-_logit(rate), jnp.shape(x))),
        function=jaxdrop.standout,
        keeps_nothing=False,
    ),
    Member(
        "shakeout",
        _shakeout,
        function=jaxdrop.shakeout,
        variance=lambda x, p: bernoulli(1.25 * x, p),
        one=lambda x: -0.25 * x,
        selects=False,
        rounds_once=False,
        shardable="batch",
        keeps_nothing=False,
    ),
    Member("targeted_dropout", partial(jaxdrop.targeted_dropout, fraction=1.0), arrays=False, exported=None),
    Member(
        "mixup",
        _mixed(jaxdrop.mixup),
        function=jaxdrop.mixup,
        level="alpha",
        arrays=False,
        elementwise=False,
        selects=False,
        shardable="none",
        exported="b, 4",
        keeps_nothing=False,
    ),
    Member(
        "cutmix",
        _mixed(jaxdrop.cutmix),
        function=jaxdrop.cutmix,
        level="alpha",
        arrays=False,
        elementwise=False,
        selects=False,
        shardable="none",
        exported="b, 4",
        keeps_nothing=False,
        form_of="mixup",
    ),
    Member("drop_edge", _drop_edge, function=jaxdrop.drop_edge, arrays=False, shardable="batch"),
    Member("drop_message", jaxdrop.drop_message, variance=bernoulli, form_of="dropout"),
    Member(
        "dot_product_attention",
        _attention,
        function=jaxdrop.dot_product_attention,
        variance=bernoulli,
        shared=128,
        selects=False,
        rounds_once=False,
        shardable="batch",
        exported="b, 4",
        keeps_nothing=False,
    ),
    Member(
        "drop_node",
        _drop_node,
        function=jaxdrop.drop_node,
        variance=bernoulli,
        shared=128,
        arrays=False,
        form_of="dropout",
    ),
)

# Functions of `jaxdrop.drops` that the laws do not fit, with the reason.
EXCEPTIONS = {
    "block_mask": "draws a mask: takes a shape, not data",
    "concrete_dropout": "its logit is a learned parameter, and it returns a penalty too",
    "drop_key_mask": "draws a mask: takes a shape, not data",
    "manifold_mixup": "`mixup` before a random function of several",
    "masksembles": "its masks are fixed: it takes no key and no rate",
    "masksembles_masks": "draws fixed masks: takes sizes, not data",
    "shake_drop_mean": "the mean for evaluation: takes no key",
    "sparse_kernel": "prunes for evaluation: takes no key",
    "sparse_variational_dropout": "its variance is a learned parameter, and it returns a penalty too",
    "standout_mean": "the mean for evaluation: takes no key",
    "variational_dropout": "its alpha is a learned parameter, and it returns a penalty too",
    "word_dropout": "its data are token ids, which have no NaN, scale or gradient",
    "zoneout_mean": "the mean for evaluation: takes no key",
}


def complete(special: tuple[Member, ...], names: Collection[str]) -> tuple[Member, ...]:
    """The members, and each other function of `jaxdrop.drops` as a member that keeps every law."""
    known = {member.name for member in special} | EXCEPTIONS.keys()
    return (*special, *(Member(name, getattr(jaxdrop.drops, name)) for name in names if name not in known))


FAMILY = complete(SPECIAL, jaxdrop.drops.__all__)

# Functions that live in the file of another, whose mask, mean or kernel they give.
HELPERS = {
    "block_mask": "drop_block",
    "drop_key_mask": "drop_key",
    "masksembles_masks": "masksembles",
    "shake_drop_mean": "shake_drop",
    "sparse_kernel": "sparse_variational_dropout",
    "standout_mean": "standout",
    "zoneout_mean": "zoneout",
}

# The last positional argument where it is not `rate`: a deviation, a learned parameter, fixed masks.
LAST_ARGUMENTS = {
    "concrete_dropout": "logit",
    "cutmix": "alpha",
    "gaussian_noise": "stddev",
    "manifold_mixup": "alpha",
    "masksembles": "masks",
    "masksembles_masks": "scale",
    "mixup": "alpha",
    "neftune": "alpha",
    "sparse_kernel": "log_variance",
    "sparse_variational_dropout": "log_variance",
    "standout": "logits",
    "standout_mean": "logits",
    "variational_dropout": "log_alpha",
}
KEYLESS = {"masksembles", "shake_drop_mean", "sparse_kernel", "standout_mean", "zoneout_mean"}

# Flax modules whose name is not the function's in CamelCase, and functions that have none.
SHELLS = {
    "dropconnect": "DropConnect",
    "neftune": "NEFTune",
    "shakeout": "ShakeoutDense",
    "sparse_variational_dropout": "SparseVariationalDense",
    "variational_dropout": "VariationalDense",
}
NO_SHELL = {
    "cutmix": "mixes labels too: call it where the loss is",
    "dot_product_attention": "is called by Flax's own modules, through `attention_fn(block_size=)`",
    "manifold_mixup": "its layers are functions: call it inside a module",
    "mixout": "acts on all parameters of a model, before the model is applied",
    "mixup": "mixes labels too: call it where the loss is, or inside a module",
    "subset_depth": "its branch is a function: call it inside a module",
}

# The members, and plain dropout in each of its other modes, which keep every law as well (that of
# `broadcast_dims` is `locked_dropout`).
VARIANTS = (
    *FAMILY,
    Member(
        "dropout of 8 bits",
        partial(jaxdrop.dropout, bits=8),
        partial(jaxdrop.linen.Dropout, bits=8),
        partial(jaxdrop.nnx.Dropout, bits=8),
        variance=lambda x, p: bernoulli(x, 1 - round((1 - p) * 256) / 256),
    ),
    Member(
        "dropout of 32 bits",
        partial(jaxdrop.dropout, bits=32),
        partial(jaxdrop.linen.Dropout, bits=32),
        partial(jaxdrop.nnx.Dropout, bits=32),
        variance=bernoulli,
    ),
)
