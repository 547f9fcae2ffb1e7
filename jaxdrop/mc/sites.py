"""Where a model draws: the sites that a predictor lists, and which of them are to draw."""

import difflib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks

# "all", "last" (the one that is called last), or patterns of paths as a shell has them.
Sites = str | Sequence[str]
# From a site, and the collection or stream that it draws from, to whether it is to draw.
Answer = Callable[["Site", str], bool]
_SOURCES = ("rng", "rngs", "dropout_rng", "key")
# Which sites are to draw: an `Answer`. What was traced under one answer is not used under another.
answer = jax.make_user_context(default_value=None)
_LEVELS = ("rate", "dropout_rate", "stddev")


class Site(NamedTuple):
    """A module that draws.

    Attributes:
      path: Where it is in the model, "encoder/Dropout_0".
      kind: What it is, "Dropout".
      rate: Its rate or standard deviation as text, of one that is learned the first; "" if it has none.
    """

    path: str
    kind: str
    rate: str


def site(path: str, module: Any, given: Mapping[str, Any]) -> Site | None:
    """The site of a module, called with some arguments; None if its rate is 0."""
    levels = [given.get(name) for name in _LEVELS] + [getattr(module, name, None) for name in _LEVELS]
    level = next((one for one in levels if one is not None), ())
    parts = level if isinstance(level, tuple | list) else (level,)
    if parts and all(_checks.is_scalar(part, 0) for part in parts):
        return None
    known = all(_checks.is_concrete(part) and np.ndim(part) == 0 for part in parts)
    rate = ", ".join(f"{float(part):g}" for part in parts) if known else "array"
    return Site(path, type(module).__name__, rate)


class Chosen(NamedTuple):
    """The answer of a predictor.

    Attributes:
      paths: Those that are to draw.
    """

    paths: frozenset[str]

    def __call__(self, site: Site, collection: str) -> bool:
        """Whether a site is to draw."""
        return site.path in self.paths


class Listing:
    """The answer that lists all sites and lets none draw."""

    def __init__(self):
        self._sites: dict[str, Site] = {}
        self._collections: set[str] = set()

    def __call__(self, site: Site, collection: str) -> bool:
        """Whether a site is to draw."""
        self._sites[site.path] = self._sites.pop(site.path, site)
        self._collections.add(collection)
        return False

    @property
    def sites(self) -> list[Site]:
        """The sites, each at the place of its last call."""
        return list(self._sites.values())

    @property
    def collections(self) -> tuple[str, ...]:
        """The names of what they draw their keys from."""
        return tuple(sorted(self._collections))


class Static(NamedTuple):
    """An argument without arrays; its text tells 2 from 2.0 and 0.0 from -0.0, which are equal."""

    name: str
    text: str
    value: Any


def split_static(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Static, ...]]:
    """What a model is called with: arguments with arrays, and the others as a hashable.

    Raises:
      ValueError: If one is something to draw from, for each sample would draw the same.
    """
    arrays = {}
    for name, value in arguments.items():
        kinds = [getattr(leaf, "dtype", None) for leaf in jax.tree.leaves(value)]
        keys = any(kind is not None and jnp.issubdtype(kind, jax.dtypes.prng_key) for kind in kinds)
        if keys or name in _SOURCES:
            raise ValueError(
                f"`{name}` must not be given, for every sample has a key of its own; wrap a model that "
                "wants to be called with one in a function `predict(key, x)`."
            )
        if any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(value)):
            arrays[name] = value
    others = sorted(arguments.keys() - arrays.keys())
    return arrays, tuple(Static(name, repr(arguments[name]), arguments[name]) for name in others)


def merge_static(arrays: dict[str, Any], others: tuple[Static, ...]) -> dict[str, Any]:
    """The arguments again."""
    return arrays | {static.name: static.value for static in others}


def choose(found: Sequence[Site], sites: Sites) -> tuple[Site, ...]:
    """Those that are to draw, of all in the order in which they are called.

    Raises:
      ValueError: If there are none, or a pattern fits none; the message lists what there is.
    """
    if not found:
        raise ValueError(
            "`model` must have at least one stochastic site, got none: no Dropout or other module "
            "that draws, with a rate other than 0."
        )
    if sites == "all":
        return tuple(found)
    if sites == "last":
        return (found[-1],)
    patterns = (sites,) if isinstance(sites, str) else tuple(sites)
    if not patterns:
        raise ValueError("`sites` must be 'all', 'last' or patterns of paths, got none.")
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(one.path, pattern) for one in found):
            near = difflib.get_close_matches(pattern, [one.path for one in found], n=5, cutoff=0.0)
            raise ValueError(
                f"`sites` must be 'all', 'last' or patterns that fit the path of a site, got {pattern!r}; "
                f"the nearest are {', '.join(near)}."
            )
    return tuple(one for one in found if any(fnmatch.fnmatchcase(one.path, p) for p in patterns))
