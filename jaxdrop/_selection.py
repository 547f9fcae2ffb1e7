"""Selection of leaves of a parameter tree, and their shares of a strength.

Penalties, decays, constraints and weight dropout share this rule, for Linen's and NNX's trees.
"""

import difflib
import fnmatch
import sys
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeGuard, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdrop import _checks, _names
from jaxdrop._types import ArrayLike, Numeric, PyTree, Where

Share = Numeric | None
# How many paths an error message names.
_NAMED = 5
_Value = TypeVar("_Value")


def weight_mask(params: PyTree, where: Where = None) -> PyTree:
    """Marks the leaves that penalties and decays act on; can be passed to optax's `mask=`.

    Args:
      params: Tree of arrays, such as Flax's `params` or an NNX state.
      where: Leaves to act on, in one of four forms. With optax, pass a form as
        `mask=functools.partial(weight_mask, where=form)`.
        None: the weights (see `is_weight`), without a `weight` of the shape of the `bias` beside it,
        which is the scale of a normalization layer.
        A predicate on a leaf's path ("Dense_0/kernel") and the leaf.
        A list of (pattern, share) pairs: the first pattern that matches a path applies; a leaf that
        matches none is not selected. Patterns are those of a shell: `*` matches any characters, `?`
        one, `[ab]` one of a set. A share multiplies the leaf's strength; 0 or False excludes the
        leaf. Without a strength a share must be 0, 1 or a boolean.
        A tree of booleans with the paths of `params`, for instance of plain dicts. Its class may be
        callable, as that of a module is.
        Patterns and trees may name leaves that optax's masks or a partition have taken out.
        Of an NNX model, or its state, only each `nnx.Param` is selected, except by a tree.

    Returns:
      Tree of booleans of the structure of `params`.

    Raises:
      ValueError: If `where` is a tree of another structure than `params`, a pattern matches no leaf
        or only leaves that an earlier pattern takes, or a share is neither 0 nor 1.

    Examples:
      >>> weight_mask({"kernel": np.zeros((3, 2)), "bias": np.zeros(2)})
      {'bias': False, 'kernel': True}
    """
    found = _shares(params, where)
    for share in found:
        if not (share is None or _checks.is_scalar(share, 1)):
            raise ValueError(f"`where` must have shares of 0 or 1 where there is no strength, got {share}.")
    return jax.tree.structure(params).unflatten([share is not None for share in found])


def is_weight(path: str, leaf: ArrayLike) -> bool:
    """Selects the weights: leaves that multiply activations, of rank 2 or more.

    The names of Flax, Haiku, Equinox, Keras and transformers tell what is not a weight, even where
    the leaves of many layers are stacked:

    - biases: `bias`, `b`, `offset`, `beta`, `bias_k`, `..._bias`
    - scales: `scale`, `gamma`, `..._scale`, `negative_slope`, `weight` in a module named `norm`, `ln_1`
      or `bn1`
    - tokens and position embeddings, which are data that is added or appended: `cls`, `cls_token`,
      `..._token`, `class_embedding`, `pos_embedding`, `position_embeddings/embedding`, `wpe/embedding`
    - noise parameters of variational layers: `log_alpha`, `log_variance`

    Embedding tables are weights. Leaves of other names count as weights: a predicate or patterns tell
    them apart.

    Examples:
      >>> is_weight("Dense_0/kernel", np.zeros((3, 2))), is_weight("Dense_0/bias", np.zeros(2))
      (True, False)
    """
    return np.ndim(leaf) >= 2 and _names.is_weight(path)


def strength_shares(params: PyTree, where: Where) -> list[Share]:
    """Each leaf's share of the strength, in the order of `jax.tree.leaves`; None if not selected.

    Raises:
      ValueError: If `where` does not fit (see `weight_mask`), a share is negative, or no leaf is
        selected.
    """
    found = _shares(params, where)
    _check_some(found, params, where)
    return found


def unit_shares(params: PyTree, where: Where) -> list[Share]:
    """`strength_shares` where there is no strength: each share must be 0 or 1."""
    return [1.0 if use else None for use in jax.tree.leaves(selected(params, where))]


def selected(params: PyTree, where: Where) -> PyTree:
    """`weight_mask` with at least one leaf selected.

    Raises:
      ValueError: If `where` does not fit (see `weight_mask`), or no leaf is selected.
    """
    mask = weight_mask(params, where)
    _check_some([use or None for use in jax.tree.leaves(mask)], params, where)
    return mask


def _check_some(found: list[Share], params: PyTree, where: Where) -> None:
    if all(share is None for share in found):
        rule = (
            " (by default those of rank 2 or more that are not a bias, scale, token or position embedding)"
            if where is None
            else ""
        )
        names = ", ".join(paths(params)) or "no leaves"
        raise ValueError(f"`where` must select at least one leaf{rule}, got none of {names}.")


def check_floating(leaf: PyTree, path: str, name: str = "params") -> jax.Array:
    """A selected leaf, which must be an array of a floating-point dtype."""
    array = _checks.check_array(leaf, name, "a tree of floating-point arrays")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        place = f" at {path}" if path else ""
        raise TypeError(
            f"`{name}` must be a floating-point array, got {array.dtype}{place}: exclude it with `where`."
        )
    return array


def selected_floating(params: PyTree, where: Where) -> PyTree:
    """`selected`, of leaves that are floating-point arrays.

    Raises:
      TypeError: If a selected leaf is not.
    """
    mask = selected(params, where)
    for path, leaf, use in zip(paths(params), jax.tree.leaves(params), jax.tree.leaves(mask), strict=True):
        if use:
            check_floating(leaf, path)
    return mask


def once(params: PyTree, found: list[Share]) -> list[Share]:
    """Shares for a sum over leaves: an NNX variable at several paths counts at the first selected."""
    seen: set[tuple[int, int]] = set()
    counted: list[Share] = []
    for owner, share in zip(_owners(params), found, strict=True):
        counted.append(None if owner.variable in seen else share)
        if share is not None and owner.variable is not None:
            seen.add(owner.variable)
    return counted


def places(params: PyTree, mask: PyTree) -> list[int | None]:
    """Numbers of the distinct selected leaves, in order; None if not selected.

    An NNX variable at several paths is one leaf, selected if one of the paths is.
    """
    owned = [owner.variable or (i,) for i, owner in enumerate(_owners(params))]
    chosen = (owner for owner, use in zip(owned, jax.tree.leaves(mask), strict=True) if use)
    numbers = {owner: i for i, owner in enumerate(dict.fromkeys(chosen))}
    return [numbers.get(owner) for owner in owned]


def paths(tree: PyTree) -> list[str]:
    """The paths of the leaves in Flax's notation, "Dense_0/kernel"."""
    return [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _name(path: tuple) -> str:
    """The path without the attribute in which NNX wraps a value."""
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _shares(params: PyTree, where: Where) -> list[Share]:
    rule = _default(params) if where is None else where
    if _is_predicate(rule):
        named = zip(paths(params), jax.tree.leaves(params), _may_be_selected(params), strict=True)
        return [1.0 if may and rule(path, leaf) else None for path, leaf, may in named]
    if _is_pairs(rule):
        named = list(zip(paths(params), _may_be_selected(params), strict=True))
        pairs = [(pattern, _check_share(share, pattern)) for pattern, share in rule]
        shares = by_pattern([path for path, may in named if may], pairs, absent(params), "where")
        return [shares.get(path) if may else None for path, may in named]
    uses = leaves_like(rule, params, "where")
    if any(np.ndim(use) for use in uses):
        raise ValueError("`where` must hold one boolean for each leaf of the parameters, got arrays.")
    return [1.0 if use else None for use in uses]


def _default(params: PyTree) -> Callable[[str, ArrayLike], bool]:
    """The rule for weights. A norm's scale may be named as a kernel, but has the shape of its bias."""
    shapes = {path: np.shape(leaf) for path, leaf in zip(paths(params), jax.tree.leaves(params), strict=True)}

    def rule(path: str, leaf: ArrayLike) -> bool:
        beside = path.removesuffix("weight") + "bias"
        is_scale = path.endswith("weight") and shapes.get(beside) == np.shape(leaf)
        return is_weight(path, leaf) and not is_scale

    return rule


def leaves_like(tree: PyTree, params: PyTree, name: str) -> list[ArrayLike]:
    """The leaves of a tree with the paths of the parameters, in the order of the parameters.

    The classes may differ: a checkpoint's dict has the paths of an NNX state.

    Raises:
      ValueError: If the paths differ.
    """
    gone = tuple(f"{path}/" for path in absent(params))
    named = zip(paths(tree), jax.tree.leaves(tree), strict=True)
    found = {path: leaf for path, leaf in named if not f"{path}/".startswith(gone)}
    wanted = paths(params)
    if found.keys() != set(wanted):
        raise ValueError(
            f"`{name}` must have the structure of the parameters, {jax.tree.structure(params)}, "
            f"got {jax.tree.structure(tree)}."
        )
    return [found[path] for path in wanted]


def absent(params: PyTree) -> list[str]:
    """Paths whose leaves optax's masks or a partition have taken out, or all leaves below."""
    kinds = (optax.MaskedNode, type(None))
    nodes = jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda node: isinstance(node, kinds))
    return [_name(path) for path, node in nodes if isinstance(node, kinds)]


def _may_fit(pattern: str, path: str) -> bool:
    """Whether a pattern matches a path that is absent, or may match one below it."""
    depth = path.count("/") + 1
    above = "/".join(pattern.split("/")[:depth])
    return any(fnmatch.fnmatchcase(path, part) for part in (pattern, above))


class _Owner(NamedTuple):
    """What holds a leaf in NNX.

    Attributes:
      variable: Identity of the variable and index of the leaf in it; None for a leaf outside variables.
      kind: "param", "other" for other variables and plain arrays of a module, or "none".
    """

    variable: tuple[int, int] | None
    kind: Literal["param", "other", "none"]


def _owners(tree: PyTree, *, inside: bool = False) -> list[_Owner]:
    """The owner of each leaf, in the order of `jax.tree.leaves`."""
    nnx = sys.modules.get("flax.nnx")  # not imported: without it there are no variables
    if nnx is None:
        return [_Owner(None, "none") for _ in jax.tree.leaves(tree)]
    modules = (nnx.Pytree, nnx.State)
    inside = inside or isinstance(tree, modules)

    def is_part(node: object) -> bool:
        return isinstance(node, nnx.Variable) or (node is not tree and isinstance(node, modules))

    found = []
    for node in jax.tree.leaves(tree, is_leaf=is_part):
        if isinstance(node, nnx.Variable):
            kind = "param" if isinstance(node, nnx.Param) else "other"
            found += [_Owner((id(node), i), kind) for i in range(len(jax.tree.leaves(node)))]
        elif is_part(node):
            found += _owners(node, inside=inside)
        else:
            found.append(_Owner(None, "other" if inside else "none"))
    return found


def _may_be_selected(params: PyTree) -> list[bool]:
    """Whether each leaf is a parameter: with an `nnx.Param` in the tree, other parts of models are not."""
    kinds = [owner.kind for owner in _owners(params)]
    return [kind != "other" or "param" not in kinds for kind in kinds]


def _is_predicate(rule: Where) -> TypeGuard[Callable[[str, PyTree], bool]]:
    """Whether to call the rule: modules are callable, but a module of booleans is a tree."""
    leaves = jax.tree.leaves(rule)
    is_tree = leaves and all(
        isinstance(use, bool) or getattr(use, "dtype", None) == np.bool_ for use in leaves
    )
    return callable(rule) and (not is_tree or isinstance(rule, jax.tree_util.Partial))


def _is_pairs(rule: Where) -> TypeGuard[Sequence[tuple[str, Numeric]]]:
    """Whether the rule is a list of (pattern, share); a tree of booleans has no string leaves."""
    if not isinstance(rule, list | tuple) or not rule:
        return False
    return all(isinstance(p, list | tuple) and len(p) == 2 and isinstance(p[0], str) for p in rule)


def _check_share(share: Numeric, pattern: str) -> Share:
    share = float(share) if isinstance(share, bool) else share
    share = _checks.check_nonnegative(_checks.check_scalar(share, "where"), f"where: {pattern}")
    return None if _checks.is_scalar(share, 0) else share


def by_pattern(
    names: Sequence[str], pairs: Sequence[tuple[str, _Value]], gone: Sequence[str], argument: str
) -> dict[str, _Value]:
    """Each path that a pattern matches, with the value of the first.

    Raises:
      ValueError: If a pattern matches no path, neither of `names` nor of those that are gone, or only
        paths that an earlier pattern takes.
    """
    found: dict[str, _Value] = {}
    for pattern, value in pairs:
        fitting = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        fresh = [name for name in fitting if name not in found]
        if not fresh and any(_may_fit(pattern, path) for path in gone):
            continue
        if not fitting:
            raise ValueError(
                f"`{argument}` must have patterns that match a path, got {pattern!r}; {near(pattern, names)}."
            )
        if not fresh:
            raise ValueError(
                f"`{argument}` must have patterns that add a leaf, got {pattern!r}, which matches only "
                f"leaves already taken by an earlier pattern: {', '.join(fitting[:_NAMED])}."
            )
        found |= dict.fromkeys(fresh, value)
    return found


def near(pattern: str, names: Sequence[str]) -> str:
    """The names nearest to a pattern, as words."""
    close = difflib.get_close_matches(pattern, names, n=_NAMED, cutoff=0.0)
    return f"the nearest are {', '.join(close)}" if close else "there are no leaves"
