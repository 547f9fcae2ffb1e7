"""What the name of a leaf tells, in trees of Flax, Haiku, Equinox, Keras and transformers.

Paths are in Flax's notation, "Dense_0/kernel"; a dot separates names too, as in torch's.
"""

import re
from collections.abc import Sequence

from jaxdrop._types import UnitAxis

# Whole names of leaves that are added to activations, scale them, or say how they are noisy.
_NOT_WEIGHTS = re.compile(
    r"(?:.*_)?(?:bias|scale|tokens?)|bias_\w|b|beta|offset|gamma|cls|class_embedding|negative_slope"
    r"|log_alpha|log_variance"
)
# Parts of the name of a position embedding, or of the module that holds it as a table.
_POSITIONS = re.compile(
    r"pos(?:ition(?:al|s)?)?(?:_?(?:emb|enc|bias)|$)|(?:emb|enc)\w*_pos(?:ition|$)|^wpe$|attention_bias$",
    re.IGNORECASE,
)
# Parts of the name of a normalization layer, whose `weight` is a scale.
_NORMS = re.compile(r"norm|(?:^|_)(?:ln|bn)(?:_|\d|$)", re.IGNORECASE)
# Parts of the name of an embedding layer, whose `weight` is a table.
_EMBEDDINGS = re.compile(r"emb|^wte$", re.IGNORECASE)
_TABLES = ("embedding", "embeddings")


def is_weight(path: str) -> bool:
    """Whether the leaf multiplies activations, by its name and that of its module."""
    parent, name = _ends(path)
    if _NOT_WEIGHTS.fullmatch(name) or _POSITIONS.search(name):
        return False
    is_named_by_parent = name == "weight" or name in _TABLES
    return not (
        (is_named_by_parent and _POSITIONS.search(parent)) or (name == "weight" and _NORMS.search(parent))
    )


def units(path: str, unit_axis: UnitAxis) -> Sequence[int]:
    """The axes of the units: those that are given, or else what the name tells.

    Raises:
      ValueError: If no axis is given, and layers with leaves of this name keep them in either order.
    """
    if unit_axis is not None:
        return (unit_axis,) if isinstance(unit_axis, int) else unit_axis
    parent, name = _ends(path)
    if name in _TABLES or (name == "weight" and _EMBEDDINGS.search(parent)):
        return (-2,)
    if name == "weight" or name.startswith("weight_"):
        raise ValueError(
            f"`unit_axis` must be given for {path}, since a leaf of this name may be "
            "[inputs, units] or, in Equinox and torch, [units, inputs], got None."
        )
    return (-1,)


def _ends(path: str) -> tuple[str, str]:
    """The last two names of a path."""
    *_, parent, name = ("", *re.split(r"[/.]", path))
    return parent, name
