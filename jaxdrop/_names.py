"""What the name of a leaf tells, in trees of Flax, Haiku, Equinox, Keras and transformers.

Paths are in Flax's notation, "Dense_0/kernel"; a dot separates names too, as in torch's.
"""

import re
from collections.abc import Sequence

import numpy as np

from jaxdrop._types import UnitAxis

# Whole names of leaves that are added to activations, scale them, or say how they are noisy.
_NOT_WEIGHTS = re.compile(
    r"(?:.*_)?(?:bias|scale|tokens?)|bias_\w|b|beta|offset|gamma|cls|class_embedding|negative_slope"
    r"|log_alpha|log_variance"
)
# The following are searched in names in snake case.
# Words of the name of a position embedding, or of the module that holds it as a table.
_POSITIONS = re.compile(
    r"(?:^|_)(?:abs|rel)?pos(?:ition(?:al|s)?)?(?:_?(?:emb|enc|bias)|$)"
    r"|(?:^|_)(?:emb|enc)\w*_pos(?:itions?)?(?:_?\d+)?$|^wpe$|attention_bias$"
)
# With a `weight`, an encoder of positions is a dense layer; with an `embedding`, a table.
_POSITION_ENCODERS = re.compile(r"pos(?:ition(?:al|s)?)?_?encoder")
# Words of the name of a normalization layer, whose `weight` is a scale.
_NORMS = re.compile(r"norm(?:s|ali[sz](?:ation|er))?(?:\d+d?)?(?:_|$)|(?:^|_)(?:ln|bn)(?:_|\d|$)")
# Names of an embedding layer, whose `weight` is a table; others, as `patch_embed`, may be a convolution.
_EMBEDDINGS = re.compile(
    r"(?:(?:word|tok|token|token_type)_)?emb(?:s|ed(?:ding)?s?)?(?:_tokens)?(?:_?\d+)?|wte"
)
_TABLES = ("embedding", "embeddings")
# The bias of a leaf of weights.
_BIASES = {"kernel": "bias", "w": "b", "weight": "bias"}
_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def is_weight(path: str) -> bool:
    """Whether the leaf multiplies activations, by its name and that of its module."""
    parent, name = _ends(path)
    if _NOT_WEIGHTS.fullmatch(name) or _POSITIONS.search(_snake(name)):
        return False
    words = _snake(parent)
    is_position = _POSITIONS.search(words) is not None
    if name == "weight":
        return not (_NORMS.search(words) or (is_position and not _POSITION_ENCODERS.search(words)))
    return not (name in _TABLES and is_position)


def units(path: str, unit_axis: UnitAxis, rank: int) -> Sequence[int]:
    """The axes of the units: those that are given, or else what the name tells.

    Raises:
      ValueError: If no axis is given, and layers with leaves of this name keep them in either order.
    """
    if unit_axis is not None:
        return (int(unit_axis),) if isinstance(unit_axis, int | np.integer) else unit_axis
    parent, name = _ends(path)
    if name in _TABLES or (name == "weight" and rank == 2 and _EMBEDDINGS.fullmatch(_snake(parent))):
        return (-2,)
    if name == "weight" or name.startswith("weight_"):
        raise ValueError(
            f"`unit_axis` must be given for {path}, since a leaf of this name may be "
            "[inputs, units] or, in Equinox and torch, [units, inputs], got None."
        )
    return (-1,)


def bias(path: str) -> str | None:
    """The path of the bias of a leaf of weights; None if its name is of no kernel."""
    _, name = _ends(path)
    return path.removesuffix(name) + _BIASES[name] if name in _BIASES else None


def is_table(path: str) -> bool:
    """Whether the leaf is an embedding table, by its name alone."""
    return _ends(path)[1] in _TABLES


def _ends(path: str) -> tuple[str, str]:
    """The last two names of a path."""
    *_, parent, name = ("", *re.split(r"[/.]", path))
    return parent, name


def _snake(name: str) -> str:
    """A name in snake case: LayerNorm_0 as layer_norm_0."""
    return _WORD_STARTS.sub("_", name).lower()
