"""Stochastic sites of a model: the modules that draw, as a predictor lists and selects them."""

import difflib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import PyTree

# "all", "last" (the one called last), or shell-style patterns of paths.
Sites = str | Sequence[str]
# From a site, and the collection or stream that it draws from, to whether it draws.
Answer = Callable[["Site", str], bool]
_SOURCES = ("rng", "rngs", "dropout_rng", "key")
# The current `Answer`. JAX keeps it in the trace context, so each answer has its own traces.
answer = jax.make_user_context(default_value=None)
_LEVELS = ("rate", "dropout_rate", "stddev")


class Site(NamedTuple):
    """A module that draws.

    Attributes:
      path: Its path in the model, such as "encoder/Dropout_0".
      kind: The name of its class, such as "Dropout".
      rate: Its rate or standard deviation as text; a learned one at its initial value; "" for none.
    """

    path: str
    kind: str
    rate: str


def site(path: str, module: object, given: Mapping[str, Any]) -> Site | None:
    """The site of a module called with the given arguments; None if its rate is 0."""
    levels = [given.get(name) for name in _LEVELS] + [getattr(module, name, None) for name in _LEVELS]
    level = next((one for one in levels if one is not None), ())
    parts = level if isinstance(level, tuple | list) else (level,)
    if parts and all(_checks.is_scalar(part, 0) for part in parts):
        return None
    known = all(_checks.is_concrete(part) and np.ndim(part) == 0 for part in parts)
    rate = ", ".join(f"{float(part):g}" for part in parts) if known else "array"
    return Site(path, type(module).__name__, rate)


class Chosen(NamedTuple):
    """The answer of a predictor: the chosen sites draw.

    Attributes:
      paths: The paths of the sites that draw.
    """

    paths: frozenset[str]

    def __call__(self, site: Site, collection: str) -> bool:
        """Whether a site draws."""
        return site.path in self.paths


class Listing:
    """The answer that lists all sites; none draws."""

    def __init__(self):
        self._sites: dict[str, Site] = {}
        self._collections: set[str] = set()

    def __call__(self, site: Site, collection: str) -> bool:
        """Whether a site draws: never."""
        self._sites[site.path] = self._sites.pop(site.path, site)
        self._collections.add(collection)
        return False

    @property
    def sites(self) -> list[Site]:
        """The sites, in the order of their last calls."""
        return list(self._sites.values())

    @property
    def collections(self) -> tuple[str, ...]:
        """The names of the collections or streams that they draw from."""
        return tuple(sorted(self._collections))


class Static(NamedTuple):
    """An argument without arrays. Its text tells 2 from 2.0 and 0.0 from -0.0, which are equal."""

    name: str
    text: str
    value: PyTree


def split_static(arguments: Mapping[str, PyTree]) -> tuple[dict[str, PyTree], tuple[Static, ...]]:
    """Splits the arguments of a model into those with arrays and the others, which are hashable.

    Raises:
      ValueError: If one is a source of randomness: each sample would draw the same noise.
    """
    arrays = {}
    for name, value in arguments.items():
        kinds = [getattr(leaf, "dtype", None) for leaf in jax.tree.leaves(value)]
        keys = any(kind is not None and jnp.issubdtype(kind, jax.dtypes.prng_key) for kind in kinds)
        if keys or name in _SOURCES:
            raise ValueError(
                f"`{name}` must not be given, for every sample has its own key; wrap a model that "
                "needs one in a function `predict(key, x)`."
            )
        if any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(value)):
            arrays[name] = value
    others = sorted(arguments.keys() - arrays.keys())
    return arrays, tuple(Static(name, repr(arguments[name]), arguments[name]) for name in others)


def merge_static(arrays: dict[str, PyTree], others: tuple[Static, ...]) -> dict[str, PyTree]:
    """The arguments that `split_static` split."""
    return arrays | {static.name: static.value for static in others}


def choose(found: Sequence[Site], sites: Sites) -> tuple[Site, ...]:
    """The selected sites, of all those found in the order of their calls.

    Raises:
      ValueError: If there are no sites, or a pattern matches none; the message lists the nearest paths.
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
                f"`sites` must be 'all', 'last' or patterns that match the path of a site, got {pattern!r}; "
                f"the nearest are {', '.join(near)}."
            )
    return tuple(one for one in found if any(fnmatch.fnmatchcase(one.path, p) for p in patterns))
