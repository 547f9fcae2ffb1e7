"""Control of the modules in a call of an NNX model: what draws is recorded, what learns is at rest."""

import contextlib
import contextvars
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from types import FunctionType
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxdrop._modules import elements
from jaxdrop._types import Key
from jaxdrop.mc import _calls, _sites
from jaxdrop.nnx._shell import Base

# Settings of modules that learn from their batches, and their values at rest.
_AT_REST = {"use_running_average": True, "update_stats": False}
# Modules that list their attributes leave out those with Flax's prefix.
_PATH = "_pytree__path"
_RECORDED = "_jaxdrop_recorded"
_LIBRARIES = ("flax.", "jaxdrop.")
# Methods of streams, and functions of Flax, that make streams from a stream: no draws.
_MAKING_STREAMS = ("split", "fork", "broadcast", "_graph_updates_split_rngs", "_split_stream")
_ZEROS = (None, jax.nn.initializers.zeros)


@dataclasses.dataclass(eq=False)
class _InProgress:
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
    given: Mapping[str, Any]
    silent: bool = False
    contains: bool = False


_in_progress: contextvars.ContextVar[tuple[_InProgress, ...]] = contextvars.ContextVar("calls", default=())


@contextlib.contextmanager
def called(*calls: _InProgress) -> Iterator[None]:
    """Marks calls as in progress."""
    token = _in_progress.set((*_in_progress.get(), *calls))
    try:
        yield
    finally:
        _in_progress.reset(token)


@contextlib.contextmanager
def answering(answer: _sites.Answer, model: nnx.Module, given: Mapping[str, Any]) -> Iterator[None]:
    """A pass of a controlled model, under an answer."""
    with _sites.answer(answer), called(_InProgress("", model, given)):
        yield
    if answer.record is not None:
        for path, variable in _statistics(model):
            if not hasattr(type(variable), _RECORDED):
                owner = functools.reduce(lambda node, part: getattr(node, str(part), None), path[:-1], model)
                answer.record.written["/".join(map(str, path[:-1]))] = type(owner).__name__


def in_training(model: nnx.Module) -> nnx.Module:
    """A copy in training mode: of a model in evaluation mode in all its parts; another is taken as it is."""
    copy = nnx.clone(model)
    training = {**_calls.MODES, "use_running_average": False}
    modules = [node for _, node in nnx.iter_modules(copy) if not isinstance(node, elements.MCDropout)]
    modes = [(node, name, value) for node in modules for name, value in _flags(node, training).items()]
    if modes and all(value != training[name] for _, name, value in modes):
        if callable(copy.train):
            copy.train()
        if getattr(type(copy), "train", None) is nnx.Module.train:
            for node, name, _ in modes:
                vars(node)[name] = training[name]
    return copy


def controlled(model: nnx.Module, answer: _sites.Answer, lacking: Collection[str]) -> nnx.Module:
    """A copy of a model whose modules and streams obey the answer of a pass, and are recorded.

    Args:
      model: The model.
      answer: What its modules are to do.
      lacking: Paths of modules that get a stream.
    """
    copy = nnx.clone(model)
    statistics = [variable for _, variable in _statistics(copy)]
    for parts, node in list(nnx.iter_graph(copy)):
        if isinstance(node, nnx.Module) and not isinstance(node, nnx.List | nnx.Dict):
            path = "/".join(map(str, parts))
            vars(node)[_PATH] = path
            settings = _settings(answer, path)
            vars(node).update({name: settings[name] for name in _flags(node, settings)})
            if path in lacking:
                collection = getattr(node, "rng_collection", "dropout")
                node.rngs = nnx.data(_observed_stream(nnx.RngStream)(0, tag=collection))
            _convert(node, _observed(type(node)))
        elif isinstance(node, nnx.RngStream):
            _convert(node, _observed_stream(type(node)))
        elif isinstance(node, nnx.Rngs):
            _convert(node, _observed_streams(type(node)))
    for variable in statistics:
        _convert(variable, _observed_statistic(type(variable)))
    return copy


def _convert(node: object, kind: type) -> None:
    object.__setattr__(node, "__class__", kind)


def _flags(module: nnx.Module, names: Collection[str]) -> dict[str, bool]:
    """Those attributes of a module that are modes, by name."""
    values = {name: vars(module).get(name, getattr(type(module), name, None)) for name in names}
    return {name: bool(value) for name, value in values.items() if isinstance(value, bool | np.bool_)}


def _settings(answer: _sites.Answer, path: str) -> dict[str, bool]:
    """The modes of a module that are overridden."""
    on = False if path in answer.resting else dict(answer.forced).get(path)
    modes = {} if on is None else {name: value == on for name, value in _calls.MODES.items()}
    return _AT_REST | modes


def _statistics(model: nnx.Module) -> list[tuple[tuple, nnx.Variable]]:
    """Statistics of batches, but for those of Linen modules, which Flax finds by their class."""
    nodes = list(nnx.iter_graph(model))
    linen = [parts for parts, node in nodes if isinstance(node, nnx.bridge.ToNNX | nnx.bridge.Module)]
    return [
        (parts, node)
        for parts, node in nodes
        if isinstance(node, nnx.BatchStat) and not any(parts[: len(outer)] == outer for outer in linen)
    ]


# The base has the memory layout of modules, so that a module can become an instance of a class below.
class _Quiet(nnx.Pytree.__base__):
    """Classes below this one skip the hooks of the model's classes, which may register their subclasses."""

    def __init_subclass__(cls: Any) -> None:
        hook: Any = nnx.Pytree.__init_subclass__
        hook.__func__(cls, pytree=cls._pytree__is_pytree)


@functools.cache
def _observed(kind: type[nnx.Module]) -> type[nnx.Module]:
    """A subclass whose calls obey the answer of the pass, and are recorded.

    A module that calls the `super()` of a library is controlled there, whatever its own arguments.
    """
    library = next(base for base in kind.__mro__ if base.__module__.startswith(_LIBRARIES))
    methods = {name: _observing(method) for name, method in _methods(kind, library is kind)}
    if library is kind:
        return type(kind)(kind.__name__, (kind,), methods)
    lower = () if library in nnx.Module.__mro__ else (_observed(library),)
    return type(kind)(kind.__name__, (_Quiet, kind, *lower), methods | {"__module__": kind.__module__})


def _methods(kind: type[nnx.Module], of_library: bool) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The methods of a class: those of a library, or those of other people's classes."""
    hidden = {*dir(nnx.Module), "set_view"} - {"__call__"}
    for name in sorted({name for base in kind.__mro__ for name in vars(base)} - hidden):
        base = next(base for base in kind.__mro__ if name in vars(base))
        method = vars(base)[name]
        binds = isinstance(method, FunctionType) or (callable(method) and hasattr(type(method), "__get__"))
        binds = binds and not isinstance(method, type | staticmethod | classmethod)
        public = name == "__call__" or not name.startswith("_" if of_library else "__")
        mine = base.__module__.startswith(_LIBRARIES) == of_library and base is not nnx.bridge.Module
        if binds and public and mine:
            yield name, method


def _observing(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method under control."""
    signature = inspect.signature(method)
    of_library = getattr(method, "__module__", "").startswith(_LIBRARIES)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer, path = _sites.answer.value, vars(self).get(_PATH)
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:
            return method(self, *args, **kwargs)
        if answer is None or path is None:
            return method(self, *args, **kwargs)
        _override(bound, _settings(answer, path))
        if of_library and method.__name__ == "__call__":
            _provide(bound, self, answer.record)
        progress = _InProgress(path, self, dict(bound.arguments), silent=_asks_in_vain(method, self, bound))
        on = _is_on(self, bound)
        for outer in _in_progress.get() if on is not None else ():
            outer.contains |= outer.path != path
        with called(progress):
            if isinstance(self, nnx.bridge.ToNNX) and method.__name__ == "__call__":
                return _call_linen(functools.partial(method, *bound.args, **bound.kwargs), progress, answer)
            outputs = method(*bound.args, **bound.kwargs)
        if answer.record is not None and on is not None:
            # Of a module around others with modes it is not known which draws are its own.
            if progress.contains and not of_library:
                answer.record.modes.pop(path, None)
            elif _may_draw(self, progress, answer.record):
                answer.record.mode(path, self, on)
        return outputs

    return call


def _may_draw(module: nnx.Module, progress: _InProgress, record: _sites.Record) -> bool:
    """Whether a module draws, or would if its mode were that of training."""
    of_kind = isinstance(module, nnx.Dropout | Base) and _sites.rate_of(module, progress.given) != "0"
    streams = any(isinstance(value, nnx.RngStream | nnx.Rngs) for value in vars(module).values())
    return (
        progress.path in record.sites or of_kind or (streams and not isinstance(module, nnx.Dropout | Base))
    )


def _override(bound: inspect.BoundArguments, settings: Mapping[str, bool]) -> None:
    """Overrides the modes among the arguments of a call."""
    for parameter in bound.signature.parameters.values():
        given = bound.arguments.get(parameter.name)
        if parameter.kind is parameter.VAR_KEYWORD:
            if given:
                bound.arguments[parameter.name] = given | {
                    name: settings[name] for name in settings.keys() & given
                }
        elif parameter.name in settings and (given is None or isinstance(given, bool | np.bool_)):
            bound.arguments[parameter.name] = settings[parameter.name]


def _is_on(module: nnx.Module, bound: inspect.BoundArguments) -> bool | None:
    """Whether the modes of a call are those of training; None if it has none."""
    defaults = {p.name: p.default for p in bound.signature.parameters.values()}
    given = {
        name: value
        for name, value in (defaults | bound.arguments).items()
        if isinstance(value, bool | np.bool_)
    }
    modes = _flags(module, _calls.MODES) | {
        name: bool(value) for name, value in given.items() if name in _calls.MODES
    }
    return all(value == _calls.MODES[name] for name, value in modes.items()) if modes else None


def _asks_in_vain(method: Callable[..., Any], module: Any, bound: inspect.BoundArguments) -> bool:
    """Whether it is a call of Flax that asks for keys of a carry of zeros."""
    carry = (bound.arguments.get("carry_init"), getattr(module, "carry_init", None))
    of_flax = getattr(method, "__module__", "") == nnx.LSTMCell.__module__
    return of_flax and method.__name__ == "initialize_carry" and all(one in _ZEROS for one in carry)


def _provide(bound: inspect.BoundArguments, module: Any, record: _sites.Record | None) -> None:
    """Turns a key into a stream that is recorded; lends a stream while it is found out who lacks one."""
    given = bound.arguments.get("rngs")
    if "rngs" not in bound.signature.parameters or isinstance(module, nnx.bridge.ToNNX | nnx.RNN):
        return
    if isinstance(given, jax.Array):
        bound.arguments["rngs"] = _KeyOnce(given, tag="key")
    elif given is None and getattr(module, "rngs", None) is None and record is not None:
        bound.arguments["rngs"] = _Lent(0, tag=getattr(module, "rng_collection", "dropout"))


def note_draw(stream: str) -> None:
    """Notes that the innermost module asks for a key."""
    answer, calls = _sites.answer.value, _in_progress.get()
    if answer is not None and answer.record is not None and calls and not any(call.silent for call in calls):
        answer.record.draw(calls[-1].path, stream, calls[-1].module, calls[-1].given)


@functools.cache
def _observed_stream(kind: type[nnx.RngStream]) -> type[nnx.RngStream]:
    """A subclass whose draws are recorded."""

    def call(self: nnx.RngStream) -> Key:
        if sys._getframe(1).f_code.co_name not in _MAKING_STREAMS:
            note_draw(self.tag)
        return kind.__call__(self)

    return type(kind)(kind.__name__, (kind,), {"__call__": call})


@functools.cache
def _observed_streams(kind: type[nnx.Rngs]) -> type[nnx.Rngs]:
    """A subclass that makes streams whose draws are recorded."""

    def making(name: str) -> Callable[..., nnx.Rngs]:
        @functools.wraps(getattr(kind, name))
        def make(self: nnx.Rngs, *args: Any, **kwargs: Any) -> nnx.Rngs:
            return recorded(getattr(kind, name)(self, *args, **kwargs))

        return make

    return type(kind)(kind.__name__, (kind,), {name: making(name) for name in ("split", "fork", "broadcast")})


def recorded(rngs: nnx.Rngs) -> nnx.Rngs:
    """The streams, with their draws recorded."""
    _convert(rngs, _observed_streams(nnx.Rngs))
    for _, stream in rngs.items():
        _convert(stream, _observed_stream(nnx.RngStream))
    return rngs


class _Lent(nnx.RngStream):
    """A stream lent to a module without one, which is noted if it draws."""

    def __call__(self) -> Key:
        record = _sites.answer.value.record
        record.missing.add(_in_progress.get()[-1].path)
        note_draw(self.tag)
        return super().__call__()


class _KeyOnce(nnx.RngStream):
    """A key as a stream."""

    def __call__(self) -> Key:
        note_draw(self.tag)
        return self.key[...]


@functools.cache
def _observed_statistic(kind: type[nnx.Variable]) -> type[nnx.Variable]:
    """A subclass whose changes are recorded."""

    def set_value(self: nnx.Variable, *args: Any, **kwargs: Any) -> None:
        answer, calls = _sites.answer.value, _in_progress.get()
        if answer is not None and answer.record is not None and calls:
            answer.record.written[calls[-1].path] = type(calls[-1].module).__name__
        kind.set_value(self, *args, **kwargs)

    return type(kind)(kind.__name__, (kind,), {"set_value": set_value, _RECORDED: True})


def _call_linen(call: Callable[[], Any], progress: _InProgress, answer: _sites.Answer) -> Any:
    """Calls a wrapped Linen module."""
    return call()
