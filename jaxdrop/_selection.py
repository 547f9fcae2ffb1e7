"""Which leaves of a tree of parameters are concerned, and each one's share of a strength.

One rule for penalties, decays, constraints and weight dropout, for Linen's and NNX's trees alike.
"""

import difflib
import fnmatch
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Numeric, Where

Share = Numeric | None
_NOT_WEIGHTS = frozenset({"bias", "scale", "log_alpha", "log_variance"})
_NAMED = 5


def weight_mask(params: Any, where: Where = None) -> Any:
    """Marks the leaves that penalties and decays concern; fits optax's `mask=` as it is.

    Args:
      params: A tree of arrays, such as Flax's `params` or an NNX state.
      where: One of four; for a rule of one's own in optax,
        `mask=functools.partial(weight_mask, where=rule)`.
        None: the weights, `is_weight`.
        A predicate on a leaf's path ("Dense_0/kernel") and the leaf itself.
        A list of (pattern, share) pairs: the first pattern that fits a path counts, and what fits
        none is not concerned. In a pattern `*` stands for any run of characters, `?` for one and
        `[ab]` for one of some, as in a shell. A share is what a leaf's strength is multiplied by,
        0 and False leave it alone; where there is no strength it must be 0, 1 or a boolean.
        A tree of booleans with the paths of `params`, of plain dicts for instance.

    Returns:
      A tree of booleans of the structure of `params`.

    Raises:
      ValueError: If `where` is a tree of another structure than `params`, a pattern fits no leaf
        or only such as an earlier one takes, or a share is neither 0 nor 1.

    Examples:
      >>> weight_mask({"kernel": np.zeros((3, 2)), "bias": np.zeros(2)})
      {'bias': False, 'kernel': True}
    """
    found = _shares(params, where)
    for share in found:
        if not (share is None or _checks.is_scalar(share, 1)):
            raise ValueError(
                f"`where` must have shares of 0 or 1 where there is no strength to share, got {share}."
            )
    return jax.tree.structure(params).unflatten([share is not None for share in found])


def is_weight(path: str, leaf: ArrayLike) -> bool:
    """The default rule: of rank 2 at least, and not named "bias", "scale", "log_alpha" or "log_variance".

    It leaves alone biases, the scales of normalization layers, and what the variational layers have
    learned of the noise of their weights.

    Examples:
      >>> is_weight("Dense_0/kernel", np.zeros((3, 2))), is_weight("Dense_0/bias", np.zeros(2))
      (True, False)
    """
    return np.ndim(leaf) >= 2 and path.rpartition("/")[2] not in _NOT_WEIGHTS


def strength_shares(params: Any, where: Where) -> list[Share]:
    """Of each leaf, in the order of `jax.tree.leaves`, its share of the strength; None if not concerned.

    Raises:
      ValueError: As `weight_mask`, but for any share of 0 or more, and if no leaf is concerned.
    """
    found = _shares(params, where)
    _check_some(found, params, where)
    return found


def unit_shares(params: Any, where: Where) -> list[Share]:
    """As `strength_shares`, but each share must be 0 or 1: there is no strength."""
    return [1.0 if use else None for use in jax.tree.leaves(selected(params, where))]


def selected(params: Any, where: Where) -> Any:
    """`weight_mask`, of which one leaf at least must be true.

    Raises:
      ValueError: As `weight_mask`, and if no leaf is concerned.
    """
    mask = weight_mask(params, where)
    _check_some([use or None for use in jax.tree.leaves(mask)], params, where)
    return mask


def _check_some(found: list[Share], params: Any, where: Where) -> None:
    if all(share is None for share in found):
        rule = (
            " (by default those of rank 2 or more that are no bias, scale or variance)"
            if where is None
            else ""
        )
        names = ", ".join(paths(params)) or "no leaves"
        raise ValueError(f"`where` must concern at least one leaf{rule}, got none of {names}.")


def paths(tree: Any) -> list[str]:
    """The paths of the leaves as Flax users write them, "Dense_0/kernel"."""
    return [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _name(path: tuple) -> str:
    """A path without the attribute in which NNX wraps a value."""
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _shares(params: Any, where: Where) -> list[Share]:
    rule = is_weight if where is None else where
    if callable(rule):
        named = zip(paths(params), jax.tree.leaves(params), strict=True)
        return [1.0 if rule(path, leaf) else None for path, leaf in named]
    if _is_pairs(rule):
        return _by_pattern(paths(params), rule)
    if paths(rule) != paths(params):
        raise ValueError(
            f"`where` must have the structure of the parameters, {jax.tree.structure(params)}, "
            f"got {jax.tree.structure(rule)}."
        )
    if any(np.ndim(use) for use in jax.tree.leaves(rule)):
        raise ValueError("`where` must hold one boolean for each leaf of the parameters, got arrays.")
    return [1.0 if use else None for use in jax.tree.leaves(rule)]


def _is_pairs(rule: Any) -> bool:
    """Whether it is a list of (pattern, share); no tree of booleans has strings for leaves."""
    pairs = isinstance(rule, list | tuple) and len(rule) > 0
    return pairs and all(isinstance(p, list | tuple) and len(p) == 2 and isinstance(p[0], str) for p in rule)


def _by_pattern(names: list[str], pairs: Sequence[tuple[str, Numeric]]) -> list[Share]:
    found: dict[str, Share] = {}
    for pattern, share in pairs:
        share = float(share) if isinstance(share, bool) else share
        share = _checks.check_nonnegative(_checks.check_scalar(share, "where"), f"where: {pattern}")
        fitting = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not fitting:
            raise ValueError(
                f"`where` must have patterns that fit a path, got {pattern!r}; {_near(pattern, names)}."
            )
        fresh = [name for name in fitting if name not in found]
        if not fresh:
            raise ValueError(
                f"`where` must have patterns that add a leaf, got {pattern!r}, which fits only "
                f"{', '.join(fitting[:_NAMED])}: an earlier pattern takes that."
            )
        found |= dict.fromkeys(fresh, None if _checks.is_scalar(share, 0) else share)
    return [found.get(name) for name in names]


def _near(pattern: str, names: list[str]) -> str:
    close = difflib.get_close_matches(pattern, names, n=_NAMED, cutoff=0.0)
    return f"the nearest are {', '.join(close)}" if close else "there are no leaves"
