"""Stochastic sites of a model: the modules that draw, as a predictor lists and selects them."""

import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdrop import _checks, _selection

# "all", "last" (the one that draws last), or shell-style patterns of paths.
Sites = str | Sequence[str]
# Fields and arguments that hold the rate or the standard deviation of a module.
_LEVELS = (
    "rate",
    "dropout_rate",
    "stddev",
    "drop_rate",
    "drop_path_rate",
    "drop_path",
    "drop_prob",
    "dropout",
    "p",
)


class Site(NamedTuple):
    """A module that draws.

    Attributes:
      path: Its path in the model, such as "encoder/Dropout_0"; "" for the model itself.
      kind: The name of its class, such as "Dropout".
      stream: The stream (Linen: collection) that its keys come from, such as "dropout".
      rate: Its rate or standard deviation as text; a learned one at its initial value; "" for unknown.
    """

    path: str
    kind: str
    stream: str
    rate: str


class Draw(NamedTuple):
    """A kind of draw: the path of a module and the stream that its keys come from."""

    path: str
    stream: str


@dataclass(eq=False)
class Record:
    """What one traced pass of a model does.

    Attributes:
      sites: The modules that asked for a key, by path, in the order of their last draws.
      draws: How often each asked.
      modes: Whether each module that can be turned on and off by itself is on, by path.
      asked: Streams that were asked for, or whose existence was.
      missing: Streams that were asked for in vain.
      written: Kinds of the modules that wrote statistics of their batch, by path.
      can_rest: Paths of those of them that have a setting for it.
      settings: Mode arguments and fields of the model that are set as at evaluation, with their
        values in training.
    """

    sites: dict[str, Site] = field(default_factory=dict)
    draws: Counter[Draw] = field(default_factory=Counter)
    modes: dict[str, bool] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    written: dict[str, str] = field(default_factory=dict)
    can_rest: set[str] = field(default_factory=set)
    settings: dict[str, bool] = field(default_factory=dict)

    def draw(self, path: str, stream: str, module: object, given: Mapping[str, Any]) -> None:
        """Notes that a module asks for a key, in a call with the given arguments."""
        self.asked.add(stream)
        self.draws[Draw(path, stream)] += 1
        streams = sorted({draw.stream for draw in self.draws if draw.path == path})
        self.sites.pop(path, None)
        self.sites[path] = Site(path, type(module).__name__, ", ".join(streams), _rate_of(module, given))

    def mode(self, path: str, module: object, given: Mapping[str, Any], on: bool) -> None:
        """Notes whether a module that can be turned on and off is on: in any of its calls."""
        parts = _levels(module, given)
        if parts and all(_checks.is_scalar(part, 0) for part in parts):
            return
        self.modes[path] = on or self.modes.get(path, False)


# Modules that are turned on or off, by path; hashable.
Forced = frozenset[tuple[str, bool]]


class Answer(NamedTuple):
    """How the modules of a pass are controlled; hashable.

    JAX keeps it in the trace context, so each answer has its own traces.

    Attributes:
      forced: Modules that are turned on or off, by path; the others keep their mode.
      resting: Paths of further modules that learn from their batches, and are to be at rest.
      in_training: Whether the mode arguments and fields of the model are set as in training.
      record: What the pass does, if that is wanted.
    """

    forced: Forced = frozenset()
    resting: frozenset[str] = frozenset()
    in_training: bool = False
    record: Record | None = None


# The `Answer` of the call in progress.
answer = jax.make_user_context(default_value=None)


def has(module: object, name: str) -> bool:
    """Whether a module has an attribute that can be set; `__getattr__` is not asked, as it may set it up."""
    return name in vars(module) or not isinstance(getattr(type(module), name, property()), property)


def own(module: object, name: str) -> Any:
    """The attribute of a module or its class, or None."""
    return vars(module).get(name, getattr(type(module), name, None))


def _levels(module: object, given: Mapping[str, Any]) -> tuple[Any, ...]:
    """The rates of a module called with the given arguments; none if unknown."""
    levels = [given.get(name) for name in _LEVELS] + [own(module, name) for name in _LEVELS]
    # A variable of NNX, which has a shape, may hold the rate; a module may have the name of one.
    held = (one for one in levels if one is not None and (not callable(one) or hasattr(one, "shape")))
    level = next(held, ())
    return tuple(level) if isinstance(level, tuple | list) else (level,)


def _rate_of(module: object, given: Mapping[str, Any]) -> str:
    """The rate of a module called with the given arguments, as text; "" for unknown."""
    try:
        return text_of(_levels(module, given))
    except (TypeError, ValueError):
        return ""


def text_of(rates: Sequence[Any]) -> str:
    """Some rates as text; "array" if one is traced or no scalar."""
    known = all(_checks.is_concrete(rate) and np.ndim(rate) == 0 for rate in rates)
    return ", ".join(f"{float(rate):g}" for rate in rates) if known else "array"


def choose(found: Record, sites: Sites, forced: Forced = frozenset()) -> Forced:
    """The modules that must be turned on or off, so that the selected sites draw and no others.

    Args:
      found: A pass in training mode.
      sites: The selection.
      forced: Modules that the pass turned on or off.

    Raises:
      ValueError: If there are no sites, a pattern matches none (the message lists the nearest paths), or
        a site that cannot be turned off by itself is not selected.
    """
    # Modules that training never turns on can be named.
    idle = [path for path, on in found.modes.items() if not on and path not in found.sites]
    paths = [*found.sites, *(idle if sites not in ("all", "last") else ())]
    if not paths:
        off = f" Name {_listed(idle)} in `sites`, if it is off in training too." if idle else ""
        raise ValueError(
            "`model` must have at least one stochastic site, got none: no module asks for a key with these "
            f"arguments. Pass those of training, and a rate other than 0.{off}"
        )
    chosen = set(_selected(paths, sites))
    stuck = [path for path in found.sites if path not in chosen and path not in found.modes]
    if stuck:
        raise ValueError(
            f"`sites` must include {_listed(stuck)}, got {sites!r}: it draws by a function of a key, and "
            "cannot be turned off by itself."
        )
    switches = dict(forced)
    switches |= {path: False for path in found.sites if path not in chosen}
    switches |= {path: True for path in chosen if path not in found.sites}
    return frozenset(switches.items())


def _selected(paths: Sequence[str], sites: Sites) -> list[str]:
    """The paths that a selection selects."""
    if sites == "all":
        return list(paths)
    if sites == "last":
        return [paths[-1]]
    patterns = (sites,) if isinstance(sites, str) else tuple(sites)
    if not patterns:
        raise ValueError("`sites` must be 'all', 'last' or patterns of paths, got none.")
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(path, pattern) for path in paths):
            raise ValueError(
                f"`sites` must be 'all', 'last' or patterns that match the path of a site, got {pattern!r}; "
                f"{_selection.near(pattern, paths)}."
            )
    return [path for path in paths if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)]


def check_chosen(found: Record, chosen: Record, forced: Forced) -> None:
    """Checks that a pass under a choice draws as training, but for what the choice turned on or off.

    Raises:
      ValueError: If a module does not obey.
    """
    switches = dict(forced)
    wanted = {draw: count for draw, count in found.draws.items() if switches.get(draw.path, True)}
    # What was turned on beyond training must draw, however often.
    added = {path for path, on in switches.items() if on and path not in found.sites and path in found.modes}
    added -= {path for path in added if found.modes[path]}
    got = {draw: count for draw, count in chosen.draws.items() if draw.path not in added}
    wrong = {draw.path for draw in wanted.keys() | got.keys() if wanted.get(draw) != got.get(draw)}
    wrong |= {path for path in added if path not in chosen.sites}
    if wrong:
        raise ValueError(
            "`sites` must select modules that obey their `deterministic` and draw by themselves; "
            f"{_listed(sorted(wrong))} does not. Select 'all'."
        )


def check_same_draws(training: Record, given: Record, settings: Mapping[str, Any]) -> None:
    """Checks that a call with the arguments of evaluation draws as one with those of training.

    Raises:
      ValueError: If it does not, with the argument to change.
    """
    draws = training.draws.keys() | given.draws.keys()
    differ = {draw.path for draw in draws if training.draws[draw] != given.draws[draw]}
    if differ:
        sites = training.sites | given.sites
        names = _listed([path for path in sites if path in differ], training.sites | given.sites)
        change = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        raise ValueError(
            f"`stochastic` must be called with the arguments of training, {change}: with those given, "
            f"{names} draws otherwise than in training."
        )


def check_same_program(same: bool, settings: Mapping[str, Any]) -> None:
    """Checks that a call with the arguments of evaluation computes what one with those of training does.

    Raises:
      ValueError: If it does not, with the argument to change.
    """
    if not same:
        change = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        raise ValueError(
            f"`stochastic` must be called with the arguments of training, {change}: with those given, the "
            "model computes something else than in training."
        )


def check_statistics(found: Record) -> None:
    """Checks that no module computes statistics of its batch.

    Raises:
      ValueError: If one does.
    """
    if found.written:
        names = ", ".join(f"{path or 'the model itself'} ({kind})" for path, kind in found.written.items())
        raise ValueError(
            f"`model` must not use statistics of its batch, but {names} writes them in this mode. Give it a "
            "field or an argument `use_running_average`, or call `stochastic` with the arguments of "
            "evaluation."
        )


def _listed(paths: Sequence[str], sites: Mapping[str, Site] | None = None) -> str:
    """Some paths, as words."""
    kinds = {path: f" ({site.kind})" for path, site in (sites or {}).items()}
    some = ", ".join((path or "the model itself") + kinds.get(path, "") for path in paths[:8])
    return some if len(paths) <= 8 else f"{some} and {len(paths) - 8} more"
