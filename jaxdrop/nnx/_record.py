"""Calls in progress, and what they do: the keys that modules ask for, the statistics that they write."""

import contextlib
import contextvars
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flax import nnx

from jaxdrop._types import Key, PyTree
from jaxdrop.mc import _sites

# Methods of streams, and functions of Flax, that make streams from a stream: no draws.
_MAKING_STREAMS = ("split", "fork", "broadcast", "_graph_updates_split_rngs", "_split_stream")
# A function whose arguments and outputs are those of a model.
Method = Callable[..., PyTree]
_RECORDED = "_jaxdrop_recorded"


@dataclasses.dataclass(eq=False)
class InProgress:
    """A call in progress.

    Attributes:
      path: Path of the module.
      module: The module.
      given: Arguments of the call, by name.
      silent: Whether keys that it asks for are not used.
      contains: Whether it calls another module with a mode.
    """

    path: str
    module: nnx.Module
    given: Mapping[str, object]
    silent: bool = False
    contains: bool = False


in_progress: contextvars.ContextVar[tuple[InProgress, ...]] = contextvars.ContextVar("calls", default=())


@contextlib.contextmanager
def called(call: InProgress) -> Iterator[None]:
    """Marks a call as in progress."""
    token = in_progress.set((*in_progress.get(), call))
    try:
        yield
    finally:
        in_progress.reset(token)


def note_draw(stream: str) -> None:
    """Notes that the module in progress asks for a key."""
    answer, calls = _sites.answer.value, in_progress.get()
    if answer is not None and answer.record is not None and calls and not any(call.silent for call in calls):
        answer.record.draw(calls[-1].path, stream, calls[-1].module, calls[-1].given)


def convert(node: object, kind: type) -> None:
    """Makes an object an instance of a subclass, past NNX's hook for attributes."""
    object.__setattr__(node, "__class__", kind)


def subclass(kind: type, methods: Mapping[str, object], before: tuple = (), after: tuple = ()) -> Any:
    """A class of the same name below another; further bases stand before or after that."""
    return type(kind)(kind.__name__, (*before, kind, *after), {"__module__": kind.__module__, **methods})


def watch(node: object) -> None:
    """Lets streams record their draws, and statistics of batches their changes."""
    if isinstance(node, nnx.RngStream):
        convert(node, _watched_stream(type(node)))
    elif isinstance(node, nnx.Rngs):
        convert(node, _watched_streams(type(node)))
        for _, stream in node.items():
            convert(stream, _watched_stream(nnx.RngStream))
    elif isinstance(node, nnx.BatchStat):
        convert(node, _watched_statistic(type(node)))


def statistics(model: nnx.Module) -> list[tuple[tuple, nnx.BatchStat]]:
    """Statistics of batches by path, but for those of Linen modules, which Flax finds by their class."""
    nodes = list(nnx.iter_graph(model))
    linen = [path for path, node in nodes if isinstance(node, nnx.bridge.ToNNX | nnx.bridge.Module)]
    return [
        (path, node)
        for path, node in nodes
        if isinstance(node, nnx.BatchStat) and not any(path[: len(outer)] == outer for outer in linen)
    ]


def note_new_statistics(model: nnx.Module) -> None:
    """Notes statistics that were replaced by new variables."""
    answer = _sites.answer.value
    for path, node in statistics(model):
        if not hasattr(type(node), _RECORDED):
            owner = functools.reduce(lambda node, part: getattr(node, str(part), None), path[:-1], model)
            answer.record.written["/".join(map(str, path[:-1]))] = type(owner).__name__


@functools.cache
def _watched_stream(kind: type[nnx.RngStream]) -> type[nnx.RngStream]:
    def call(self: nnx.RngStream) -> Key:
        caller = sys._getframe(1)
        of_flax = str(caller.f_globals.get("__name__")).startswith("flax.")
        if not (of_flax and caller.f_code.co_name in _MAKING_STREAMS):
            note_draw(self.tag)
        return kind.__call__(self)

    return subclass(kind, {"__call__": call})


@functools.cache
def _watched_streams(kind: type[nnx.Rngs]) -> type[nnx.Rngs]:
    def watching(name: str) -> Callable[..., nnx.Rngs]:
        @functools.wraps(getattr(kind, name))
        def make(self: nnx.Rngs, *args: PyTree, **kwargs: PyTree) -> nnx.Rngs:
            rngs = getattr(kind, name)(self, *args, **kwargs)
            watch(rngs)
            return rngs

        return make

    return subclass(kind, {name: watching(name) for name in ("split", "fork", "broadcast")})


@functools.cache
def _watched_statistic(kind: type[nnx.BatchStat]) -> type[nnx.BatchStat]:
    def set_value(self: nnx.BatchStat, *args: PyTree, **kwargs: PyTree) -> None:
        answer, calls = _sites.answer.value, in_progress.get()
        if answer is not None and answer.record is not None and calls:
            answer.record.written[calls[-1].path] = type(calls[-1].module).__name__
        kind.set_value(self, *args, **kwargs)

    return subclass(kind, {"set_value": set_value, _RECORDED: True})


class Lent(nnx.RngStream):
    """A stream lent to a module without one, which is noted if it draws."""

    def __call__(self) -> Key:
        _sites.answer.value.record.missing.add(in_progress.get()[-1].path)
        note_draw(self.tag)
        return super().__call__()


class KeyOnce(nnx.RngStream):
    """A key as a stream."""

    def __call__(self) -> Key:
        note_draw(self.tag)
        return self.key[...]
