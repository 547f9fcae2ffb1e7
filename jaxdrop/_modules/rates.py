"""Rates of a model by pattern of path, as both Flax APIs set them."""

import fnmatch
from collections.abc import Callable, Mapping

import jax

from jaxdrop import _checks, _selection, drops
from jaxdrop._modules.base import Rated
from jaxdrop._modules.dense import ShakeoutDense
from jaxdrop._modules.recurrent import Cell
from jaxdrop._types import Bits, Key, PyTree, Rate
from jaxdrop.mc import _sites

Rates = Mapping[str, Rate | None]
# Our modules that drop at their rate; others learn it, or have none.
RATED = (Rated, Cell, ShakeoutDense)
# How many paths an error message names.
_NAMED = 5


class Patterns:
    """Rates by pattern: the longest pattern that matches a path applies."""

    def __init__(self, rates: Rates):
        if not isinstance(rates, Mapping):
            raise TypeError(
                "`rates` must be a dict from patterns of paths to rates, such as {'*': 0.1}, "
                f"got {type(rates).__name__}."
            )
        if not rates:
            raise ValueError("`rates` must have at least one pattern, got none.")
        for pattern, rate in rates.items():
            if not isinstance(pattern, str):
                raise TypeError(f"`rates` must have patterns of paths as keys, got {pattern!r}.")
            if rate is not None:
                name = f"rates[{pattern!r}]"
                _checks.check_scalar(_checks.check_rate(rate, name), name)
        self._rates = dict(rates)
        # From the path of each site that was asked for to the pattern that applies.
        self._chosen: dict[str, str | None] = {}

    @property
    def are_one(self) -> bool:
        """Whether all sites have one rate."""
        return list(self._rates) == ["*"]

    def rate(self, path: str) -> Rate | None:
        """The rate of a site; None if it keeps its rate.

        Raises:
          ValueError: If several patterns of one length match.
        """
        matching = [pattern for pattern in self._rates if fnmatch.fnmatchcase(path, pattern)]
        longest = [one for one in matching if len(one) == max(map(len, matching))]
        if len(longest) > 1:
            raise ValueError(
                "`rates` must have one longest pattern for each site, got "
                f"{' and '.join(map(repr, longest))} for {path!r}."
            )
        self._chosen[path] = longest[0] if longest else None
        return self._rates[longest[0]] if longest else None

    def check_all_apply(self) -> None:
        """Raises unless each pattern applies to a site that was asked for."""
        if not self._chosen:
            raise ValueError(
                "`rates` must be for a model with at least one site of a rate, got none: no Dropout, "
                "attention or other module that has a rate was called."
            )
        for pattern in self._rates.keys() - set(self._chosen.values()):
            taken = [path for path in self._chosen if fnmatch.fnmatchcase(path, pattern)]
            if taken:
                raise ValueError(
                    f"`rates` pattern {pattern!r} matches only sites already taken by a longer pattern: "
                    f"{', '.join(taken[:_NAMED])}."
                )
            raise ValueError(
                f"`rates` must have patterns that match the path of a site, got {pattern!r}; "
                f"{_selection.near(pattern, list(self._chosen))}."
            )


def attention_dropout(broadcast: bool) -> Callable[..., jax.Array]:
    """Dropout of attention weights `[..., H, Q, K]`, with one mask for the batch and heads if broadcast."""

    def drop(key: Key, weights: jax.Array, rate: Rate, *, bits: Bits = None) -> jax.Array:
        shared = range(weights.ndim - 2) if broadcast else ()
        return drops.attention_dropout(key, weights, rate, broadcast_dims=shared, bits=bits)

    return drop


def site(path: str, module: object, rate: PyTree) -> _sites.Site:
    """A site for a list, with its rate or rates as text."""
    text = _sites.text_of(rate if isinstance(rate, tuple | list) else (rate,))
    stream = _sites.own(module, "rng_collection") or "dropout"
    return _sites.Site(path, type(module).__name__, stream, text)
