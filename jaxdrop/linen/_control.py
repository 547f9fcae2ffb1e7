"""Control of the modules in a call of a Linen model: what draws is recorded, what learns is at rest."""

import contextlib
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
from flax import nnx
from flax.core import Scope
from flax.errors import InvalidRngError

from jaxdrop._types import Key, PyTree
from jaxdrop.linen._shell import Base
from jaxdrop.mc import _calls, _sites

# Modules that draw and can be turned on and off by themselves, by `deterministic`.
_DRAWING = (nn.Dropout, nn.MultiHeadDotProductAttention, Base)
# Modules that learn from the batches they see, and the setting that stops them.
_LEARNING = {nn.BatchNorm: ("use_running_average", True), nn.SpectralNorm: ("update_stats", False)}
# Collections that hold statistics of batches, and those that a pass may begin.
_STATISTICS = re.compile("stats|statistics")
_MADE_IN_PASSING = ("cache", "intermediates", "perturbations")
# The function by which `nn.jit` asks for keys.
_FORK: Any = inspect.unwrap(nn.transforms.fork_rngs)
# The setting of a norm of somebody else's, if it has one.
_RESTING = "use_running_average"


@contextlib.contextmanager
def controlled(answer: _sites.Answer) -> Iterator[Callable[..., Any]]:
    """Controls all Linen modules that are called in this context.

    Yields:
      A wrapper for a function of a module, so that its own draws are seen.
    """
    calls: list[_InProgress] = []

    def seen(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
        @functools.wraps(function)
        def call(module: nn.Module, *args: PyTree, **kwargs: PyTree) -> PyTree:
            if answer.record is not None and module.scope is not None:
                _RecordedScope.convert(module.scope, answer.record, calls)
            calls.append(_InProgress(module, {}, by_interceptor=False))
            return function(module, *args, **kwargs)

        return call

    with _sites.answer(answer), nn.intercept_methods(partial(_intercept, answer, calls)):
        yield seen


class _InProgress(NamedTuple):
    """A call in progress: the module, the arguments by name, and whether an interceptor sees it."""

    module: nn.Module
    arguments: dict[str, Any]
    by_interceptor: bool = True


class _RecordedScope(Scope):
    """A scope that notes the keys that are asked for, and the statistics that are written."""

    record: _sites.Record
    calls: list[_InProgress]

    @classmethod
    def convert(cls, scope: Scope, record: _sites.Record, calls: list[_InProgress]) -> None:
        """Turns a scope into one that notes."""
        if type(scope) is Scope:
            scope.__class__ = cls
            scope.record, scope.calls = record, calls  # pyright: ignore[reportAttributeAccessIssue]

    def has_rng(self, name: str) -> bool:
        self.record.asked.add(name)
        return super().has_rng(name)

    def make_rng(self, name: str = "params") -> Key:
        try:
            key = super().make_rng(name)
        except InvalidRngError:
            self.record.missing.add(name)
            raise
        if is_fork():
            return key
        path = "/".join(self.path)
        own = [call for call in self.calls if "/".join(call.module.path) == path]
        given = {name: value for call in own for name, value in call.arguments.items() if value is not None}
        # In a method without an interceptor the module in progress is its caller.
        self.record.draw(path, name, (own or self.calls)[-1].module, given)
        return key

    def put_variable(self, col: str, name: str, value: PyTree) -> None:
        if _STATISTICS.search(col):
            self.record.written["/".join(self.path)] = type(self.calls[-1].module).__name__
        super().put_variable(col, name, value)

    def variable(self, col: str, name: str, *args: Any, **kwargs: Any) -> Any:
        if col not in _MADE_IN_PASSING and not self.has_variable(col, name):
            path = "/".join(self.path) or "the model itself"
            raise ValueError(f"`variables` must hold the collection {col!r} with {name!r} of {path}.")
        return super().variable(col, name, *args, **kwargs)

    def push(self, *args: Any, **kwargs: Any) -> Scope:
        return self._converted(super().push(*args, **kwargs))

    def rewound(self, *args: Any, **kwargs: Any) -> Scope:
        return self._converted(super().rewound(*args, **kwargs))

    def _converted(self, scope: Scope) -> Scope:
        self.convert(scope, self.record, self.calls)
        return scope


def is_fork() -> bool:
    """Whether `nn.jit` calls the caller's caller for a key: it does for each stream, needed or not."""
    fork, frame = _FORK.__code__, sys._getframe(2)
    for _ in range(3):
        if frame is None or frame.f_code is fork:
            break
        frame = frame.f_back
    return frame is not None and frame.f_code is fork


def _intercept(
    answer: _sites.Answer, calls: list[_InProgress], call: Callable, args: tuple, kwargs: dict, context: Any
) -> Any:
    """Records a call of a module, and overrides its mode, which is a field or an argument."""
    module, name = context.module, context.method_name
    if module.scope is None:
        return call(*args, **kwargs)
    if answer.record is not None:
        _RecordedScope.convert(module.scope, answer.record, calls)
        if isinstance(module, nnx.bridge.ToLinen):
            # It gives the streams that are there; any other that the NNX module asks for is this one.
            answer.record.asked.add("default")
    bound = _bound(context.orig_method, args, kwargs)
    if bound is None:
        return call(*args, **kwargs)
    with contextlib.ExitStack() as stack:
        if not any(one.by_interceptor for one in calls):
            _set_training(answer, module, bound, stack)
        for setting, value in _changes(answer, module, name, bound.arguments).items():
            # Flax wants a setting in one place.
            given = bound.arguments.pop(setting, None)
            if _sites.has(module, setting):
                stack.enter_context(with_fields(module, {setting: value}))
            elif given is not None or setting in bound.signature.parameters:
                bound.arguments[setting] = value
        if isinstance(module, nn.RNN) and name == "__call__":
            # No interceptor sees the call that makes a cell's initial carry.
            for setting, value in _changes(answer, module.cell, name, {}).items():
                stack.enter_context(with_fields(module.cell, {setting: value}))
            calls.append(_InProgress(module.cell, {}))
            stack.callback(calls.pop)
        calls.append(_InProgress(module, dict(bound.arguments)))
        stack.callback(calls.pop)
        return call(*bound.args, **bound.kwargs)


def _bound(method: partial, args: tuple, kwargs: dict) -> inspect.BoundArguments | None:
    """The arguments of the method that Flax calls; None for one that a transformation adds."""
    try:
        return inspect.signature(method).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return None


def _changes(answer: _sites.Answer, module: nn.Module, method: str, given: dict[str, Any]) -> dict[str, bool]:
    """The settings of a module to override, by name."""
    path = "/".join(module.path)
    learning = next((setting for kind, setting in _LEARNING.items() if isinstance(module, kind)), None)
    if learning:
        return dict([learning])
    if _RESTING in given or _sites.has(module, _RESTING):
        if answer.record is not None:
            answer.record.can_rest.add(path)
        return {_RESTING: True} if path in answer.resting else {}
    if not isinstance(module, _DRAWING) or (method.startswith("_") and method != "__call__"):
        return {}
    forced = dict(answer.forced).get(path)
    if forced is not None:
        return {"deterministic": not forced}
    if answer.record is not None and method == "__call__":
        mode = given.get("deterministic")
        mode = _sites.own(module, "deterministic") if mode is None else mode
        if mode is not None:
            answer.record.mode(path, module, given, not mode)
    return {}


def _set_training(
    answer: _sites.Answer, module: nn.Module, bound: inspect.BoundArguments, stack: contextlib.ExitStack
) -> None:
    """Finds the mode arguments and fields of the model; sets them as in training, if that is wanted."""
    parameters = bound.signature.parameters.values()
    rest = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), "")
    fields = {field.name: _sites.own(module, field.name) for field in dataclasses.fields(module)}
    if _calls.says_training({**bound.arguments, **bound.arguments.get(rest, {})}):
        return
    given = {p.name: p.default for p in parameters} | bound.arguments
    # None is false, as in `if train:`, unless a field says the mode.
    unsaid = [
        name for name, mode in _calls.MODES.items() if mode and name in given and fields.get(name) is None
    ]
    given |= {name: False for name in unsaid if given[name] is None}
    arguments = _calls.modes_to_change(given)
    others = _calls.modes_to_change(bound.arguments.get(rest, {}))
    settings = arguments | others
    if answer.in_training:
        bound.arguments |= arguments
        if others:
            bound.arguments[rest] = bound.arguments[rest] | others
    changes: dict[str, Any] = dict(_calls.modes_to_change(fields))
    settings |= changes
    for name, config in fields.items():
        if not isinstance(config, nn.Module):
            changed, inner = _calls.config_in_training(config)
            if inner:
                changes[name] = changed
                settings |= inner
    if answer.in_training:
        stack.enter_context(with_fields(module, changes))
    if answer.record is not None:
        answer.record.settings |= settings


@contextlib.contextmanager
def with_fields(module: nn.Module, fields: dict[str, Any]) -> Iterator[None]:
    """Overrides those fields that a module has, during a call. Flax's modules are frozen, hence `object`."""
    before = {name: _sites.own(module, name) for name in fields if _sites.has(module, name)}
    try:
        for name in before:
            object.__setattr__(module, name, fields[name])
        yield
    finally:
        for name, value in before.items():
            object.__setattr__(module, name, value)
