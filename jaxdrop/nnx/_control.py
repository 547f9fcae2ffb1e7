"""Control of the modules in a call of an NNX model: what draws is recorded, what learns is at rest."""

import contextlib
import functools
import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdrop._modules import elements
from jaxdrop._types import PyTree
from jaxdrop.linen._control import controlled as controlled_linen
from jaxdrop.mc import _calls, _sites
from jaxdrop.nnx import _record
from jaxdrop.nnx._record import InProgress, Method
from jaxdrop.nnx._shell import Base

# Settings of modules that learn from their batches, and their values at rest.
_AT_REST = {"use_running_average": True, "update_stats": False}
# Modes that `model.train()` and `model.eval()` set: true at evaluation.
_SET_BY_FLAX = {"deterministic", "use_running_average"}
# Modules that list their attributes leave out those with Flax's prefix.
_PATH = "_pytree__path"
# Modules that draw, whether they have a stream of their own or not.
_DRAWING = (nnx.Dropout, nnx.MultiHeadAttention, Base)
_LIBRARIES = ("flax.", "jaxdrop.")
_PYTHON = ("builtins", "typing", "abc", "collections.abc")
_ZEROS = (None, jax.nn.initializers.zeros)


@contextlib.contextmanager
def answering(answer: _sites.Answer, model: nnx.Module, given: Mapping[str, object]) -> Iterator[None]:
    """A pass of a controlled model, under an answer."""
    with _sites.answer(answer), _record.called(InProgress("", model, given)):
        yield
        if answer.record is not None:
            _record.note_new_statistics(model)


def in_training(model: nnx.Module) -> nnx.Module:
    """A copy in training mode, if the model is in evaluation mode; one that is partly so is taken as it is.

    Whether it is, the modes tell that `model.eval()` sets. Other modes follow if they all are those of
    evaluation. A mode that is not set, where Flax would raise, is that of training.
    """
    copy = nnx.clone(model)
    modules = [node for _, node in nnx.iter_modules(copy) if not isinstance(node, elements.MCDropout)]
    of_flax, others = (
        [(node, name, value) for node in modules for name, value in _flags(node, names).items()]
        for names in (_SET_BY_FLAX, _calls.MODES.keys() - _SET_BY_FLAX)
    )
    if all(value for *_, value in of_flax):
        if callable(copy.train):
            copy.train()
        follow = getattr(type(copy), "train", None) is nnx.Module.train
        if follow and all(_calls.modes_to_change({name: value}) for _, name, value in others):
            for node, name, value in others:
                vars(node)[name] = not value
    for _, node in nnx.iter_modules(copy):
        if isinstance(node, _DRAWING) and node.deterministic is None:
            node.deterministic = False
    return copy


def controlled(model: nnx.Module, answer: _sites.Answer, lacking: Collection[str]) -> nnx.Module:
    """A copy of a model whose modules and streams obey the answer of a pass, and are recorded.

    Args:
      model: The model.
      answer: What its modules are to do.
      lacking: Paths of modules that get a stream.
    """
    copy = nnx.clone(model)
    for _, statistic in _record.statistics(copy):
        _record.watch(statistic)
    for parts, node in list(nnx.iter_graph(copy)):
        if isinstance(node, nnx.Module) and not isinstance(node, nnx.List | nnx.Dict):
            path = "/".join(map(str, parts))
            vars(node)[_PATH] = path
            settings = _settings(answer, path)
            vars(node).update({name: settings[name] for name in _flags(node, settings)})
            if path in lacking:
                collection = getattr(node, "rng_collection", "dropout")
                stream = nnx.RngStream(0, tag=collection)
                _record.watch(stream)
                setattr(node, "rngs", nnx.data(stream))  # noqa: B010  # no module declares it
            _record.convert(node, _observed(type(node)))
        elif isinstance(node, nnx.RngStream):
            _record.watch(node)
    for _, node in nnx.iter_graph(copy):
        if isinstance(node, nnx.Rngs):
            _record.watch(node)
    return copy


def _flags(module: nnx.Module, names: Collection[str]) -> dict[str, bool]:
    """Those attributes of a module that are modes, by name."""
    values = {name: vars(module).get(name, getattr(type(module), name, None)) for name in names}
    return {name: bool(value) for name, value in values.items() if isinstance(value, bool | np.bool_)}


def _settings(answer: _sites.Answer, path: str) -> dict[str, bool]:
    """The modes of a module that are overridden."""
    on = False if path in answer.resting else dict(answer.forced).get(path)
    modes = {} if on is None else {name: value == on for name, value in _calls.MODES.items()}
    return _AT_REST | modes


# With the memory layout of modules, so that a module can become an instance of a class below.
_LAYOUT: Any = nnx.Pytree.__base__


class _Quiet(_LAYOUT):
    """Classes below this one skip the hooks of the model's classes, which may register their subclasses."""

    def __init_subclass__(cls: Any) -> None:
        hook: Any = nnx.Pytree.__init_subclass__
        hook.__func__(cls, pytree=cls._pytree__is_pytree)


@functools.cache
def _observed(kind: type[nnx.Module]) -> type[nnx.Module]:
    """A subclass whose calls obey the answer of the pass, and are recorded.

    A module that calls the `super()` of a library is controlled there, whatever its own arguments.
    """
    library = next(base for base in kind.__mro__ if _is_of_library(base))
    methods = {name: _observing(method) for name, method in _methods(kind, library is kind)}
    if library is kind:
        return _record.subclass(kind, methods)
    lower = () if library in nnx.Module.__mro__ else (_observed(library),)
    return _record.subclass(kind, methods, (_Quiet,), lower)


def _is_of_library(kind: type) -> bool:
    """Whether a class and all of its bases are."""
    return all(base.__module__.startswith((*_LIBRARIES, *_PYTHON)) for base in kind.__mro__)


def _methods(kind: type[nnx.Module], of_library: bool) -> Iterator[tuple[str, Method]]:
    """The methods of a class: those of a library, or those of other people's classes."""
    hidden = {*dir(nnx.Module), "set_view"} - {"__call__"}
    for name in sorted({name for base in kind.__mro__ for name in vars(base)} - hidden):
        base = next(base for base in kind.__mro__ if name in vars(base))
        method: Method = vars(base)[name]
        descriptor = type(method)
        binds = callable(method) and hasattr(descriptor, "__get__")
        binds = binds and not issubclass(descriptor, type | staticmethod | classmethod)
        public = name == "__call__" or not name.startswith("_" if of_library else "__")
        mine = base.__module__.startswith(_LIBRARIES) == of_library and base is not nnx.bridge.Module
        if binds and public and mine:
            yield name, method


def _observing(method: Method) -> Method:
    """A method under control."""
    signature = inspect.signature(method)
    of_library = str(getattr(method, "__module__", "")).startswith(_LIBRARIES)

    @functools.wraps(method)
    def call(self: nnx.Module, *args: PyTree, **kwargs: PyTree) -> PyTree:
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
        # Attention of `with_rates` changes its rate during the call.
        rates = {name: vars(self)[name] for name in ("rate", "dropout_rate") if name in vars(self)}
        given = rates | {name: value for name, value in bound.arguments.items() if value is not None}
        progress = InProgress(path, self, given, silent=_asks_in_vain(method, self, bound))
        on = _is_on(self, bound)
        for outer in _record.in_progress.get() if on is not None else ():
            outer.contains |= outer.path != path
        # The scope names the draws of the module in the traced program.
        with _record.called(progress), jax.named_scope(path or type(self).__name__):
            if isinstance(self, nnx.bridge.ToNNX) and method.__name__ == "__call__":
                outputs = _call_linen(
                    functools.partial(method, *bound.args, **bound.kwargs), progress, answer
                )
            else:
                outputs = method(*bound.args, **bound.kwargs)
        if answer.record is not None and on is not None:
            # Of a module around others with modes it is not known which draws are its own.
            if progress.contains and not of_library:
                answer.record.modes.pop(path, None)
            elif _may_draw(self, path, answer.record):
                answer.record.mode(path, self, progress.given, on)
        return outputs

    return call


def _may_draw(module: nnx.Module, path: str, record: _sites.Record) -> bool:
    """Whether a module draws, or would if its mode were that of training."""
    streams = any(isinstance(value, nnx.RngStream | nnx.Rngs) for value in vars(module).values())
    return path in record.sites or streams or isinstance(module, _DRAWING)


def _override(bound: inspect.BoundArguments, settings: Mapping[str, bool]) -> None:
    """Overrides the modes among the arguments of a call."""
    for parameter in bound.signature.parameters.values():
        given = bound.arguments.get(parameter.name)
        if parameter.kind is parameter.VAR_KEYWORD:
            for name in settings.keys() & (given or {}).keys():
                bound.arguments[parameter.name] = bound.arguments[parameter.name] | {name: settings[name]}
        elif parameter.name in settings and (given is None or isinstance(given, bool | np.bool_)):
            bound.arguments[parameter.name] = settings[parameter.name]


def _is_on(module: nnx.Module, bound: inspect.BoundArguments) -> bool | None:
    """Whether the modes of a call are those of training; None if it has none."""
    defaults = {p.name: p.default for p in bound.signature.parameters.values()}
    given = {name: value for name, value in (defaults | bound.arguments).items() if name in _calls.MODES}
    told = {name: value for name, value in given.items() if isinstance(value, bool | np.bool_)}
    modes = _flags(module, _calls.MODES) | told
    return not _calls.modes_to_change(modes) if modes else None


def _asks_in_vain(method: Method, module: nnx.Module, bound: inspect.BoundArguments) -> bool:
    """Whether it is a call of Flax that asks for keys of a carry of zeros."""
    carry = (bound.arguments.get("carry_init"), getattr(module, "carry_init", None))
    of_flax = getattr(method, "__module__", "") == nnx.LSTMCell.__module__
    return of_flax and method.__name__ == "initialize_carry" and all(one in _ZEROS for one in carry)


def _provide(bound: inspect.BoundArguments, module: nnx.Module, record: _sites.Record | None) -> None:
    """Turns a key into a stream that is recorded; lends a stream while it is found out who lacks one."""
    given = bound.arguments.get("rngs")
    if "rngs" not in bound.signature.parameters or not isinstance(module, _DRAWING):
        return
    if isinstance(given, jax.Array | np.ndarray):
        bound.arguments["rngs"] = _record.KeyOnce(jnp.asarray(given), tag="key")
    elif given is None and getattr(module, "rngs", None) is None and record is not None:
        bound.arguments["rngs"] = _record.Lent(0, tag=getattr(module, "rng_collection", "dropout"))


def _call_linen(call: Method, progress: InProgress, answer: _sites.Answer) -> PyTree:
    """Calls a wrapped Linen module, whose modules obey the answer and are recorded in their turn."""
    # The wrapper asks for a key of each stream.
    progress.silent = True
    prefix, options = progress.path, {}
    forced = frozenset((_below(prefix, path), on) for path, on in answer.forced if _is_below(prefix, path))
    resting = frozenset(_below(prefix, path) for path in answer.resting if _is_below(prefix, path))
    record = answer.record and _sites.Record()
    if record is not None and progress.given.get("mutable") is None:
        options["mutable"] = ["batch_stats"]
    with (
        controlled_linen(_sites.Answer(forced, resting, record=record)),
        nn.intercept_methods(_refuse_statistics),
    ):
        outputs = call(**options)
    if record is not None and answer.record is not None:
        _join(answer.record, record, prefix)
    return outputs


def _is_below(prefix: str, path: str) -> bool:
    return not prefix or path == prefix or path.startswith(f"{prefix}/")


def _below(prefix: str, path: str) -> str:
    return path.removeprefix(prefix).removeprefix("/")


def _join(record: _sites.Record, inner: _sites.Record, prefix: str) -> None:
    """Adds what the modules below a path do."""

    def whole(path: str) -> str:
        return "/".join(filter(None, (prefix, path)))

    for draw, count in inner.draws.items():
        record.draws[_sites.Draw(whole(draw.path), draw.stream)] += count
    for path, site in inner.sites.items():
        record.sites.pop(whole(path), None)
        record.sites[whole(path)] = site._replace(path=whole(path))
    record.modes |= {
        whole(path): on or record.modes.get(whole(path), False) for path, on in inner.modes.items()
    }
    record.written |= {whole(path): kind for path, kind in inner.written.items()}


def _refuse_statistics(
    call: Method, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
) -> PyTree:
    """Refuses statistics of NNX modules in a Linen module: no copy of them can be put at rest."""
    if isinstance(context.module, nnx.bridge.ToLinen) and "batch_stats" in context.module.variables:
        raise ValueError(
            "`model` must not hold an NNX module with statistics of its batch in a Linen module, got "
            f"{context.module.nnx_class.__name__} in `ToLinen`."
        )
    return call(*args, **kwargs)
