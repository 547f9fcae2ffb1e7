"""Monte-Carlo dropout of an NNX model, and dropout that stays active at evaluation."""

import dataclasses
import functools
import inspect
from collections import Counter
from collections.abc import Callable

import flax.linen
import jax
from flax import nnx

from jaxdrop._modules import elements
from jaxdrop._types import Bits, Key, PyTree
from jaxdrop.mc import _calls, _digests, _sites
from jaxdrop.nnx import _control, _record, _streams
from jaxdrop.nnx._record import Method
from jaxdrop.nnx._shell import Shell

__all__ = ["MCDropout", "Predictor", "stochastic"]

_AS_IT_IS = _sites.Answer()


class MCDropout(elements.MCDropout, Shell):
    """Examples:
    >>> import jax.numpy as jnp
    >>> layer = MCDropout(0.5, rngs=nnx.Rngs(0))
    >>> layer.eval()
    >>> layer(jnp.ones(6))
    Array([2., 2., 2., 2., 2., 0.], dtype=float32)
    """

    deterministic: bool | None = dataclasses.field(default=False, init=False)
    bits: Bits = None

    def _is_off(self, deterministic: bool | None) -> bool:
        """No mode turns it off, only a call by `stochastic` that does not choose it."""
        return bool(deterministic)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["state", "arrays"],
    meta_fields=["sites", "call"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """`predict(key, x)`, a pytree whose leaves are the model's variables.

    Attributes:
      state: Variables of the model, as they were when `stochastic` was called.
      arrays: Arguments of the call that are arrays, by name.
      sites: The stochastic sites, in the order of their last draws.
      call: The model without its variables, its method and its other arguments.
    """

    state: PyTree
    arrays: dict[str, PyTree]
    sites: tuple[_sites.Site, ...]
    call: "_Call"

    def __call__(self, key: Key, x: PyTree) -> PyTree:
        """Draws one sample: the outputs of the model, with noise at the chosen sites.

        Args:
          key: A PRNG key, used once.
          x: Inputs of the model.

        Returns:
          Outputs of the model.

        Raises:
          ValueError: If an array argument of the call has the leading axis of `x`.
        """
        _calls.check_not_per_example(x, self.arrays)
        return self.call(self.state, key, x, self.arrays)


def stochastic(
    model: nnx.Module,
    x: PyTree,
    *,
    sites: _sites.Sites = "all",
    method: Callable[..., PyTree] | str = "__call__",
    unpack: bool = False,
    **kwargs: PyTree,
) -> Predictor:
    """Makes `predict(key, x)` from a model: one sample of Monte-Carlo dropout, for `jaxdrop.mc`.

    The predictor runs the model in training mode, except that modules that learn from their
    batches, such as BatchNorm, use their learned statistics. Whatever the model writes is thrown
    away: the model itself is not changed, and later changes of it have no effect.

    A site is any module that asks a stream for a key. A model after `model.eval()` is put into
    training mode first; modes that differ within the model stay as they are, so a frozen part stays
    deterministic unless `sites` names it. Mode arguments may be those of training or of evaluation,
    if the draws are the same.

    Each sample restarts all streams of the model. A single stream restarts from the key; n streams
    from `jax.random.split(key, n)`, in the order of `nnx.iter_graph`. Modules without a stream that
    need one get one after those, then the arguments of the call that are named `rngs`, `rng` or
    `key`: an `nnx.Rngs`, or a key where that does not work. An optional one is passed if more is
    drawn with it.

    Args:
      model: An NNX module.
      x: Inputs of the model, or their `jax.ShapeDtypeStruct`s. Only their types are used, to find the
        sites.
      sites: Sites that stay random: "all"; "last", the one that draws last; or one or several
        shell-style patterns of paths ("encoder/*"). The others are deterministic.
      method: The method to call: its name, or a function of the model and its inputs.
      unpack: Whether `x` is a tuple of positional arguments, or a dictionary of keyword arguments.
      **kwargs: Arguments of the call that are the same for all inputs; no keys or streams.

    Returns:
      A `Predictor`, which is a pytree of the variables. Predictors of models of one structure share
      compiled programs.

    Raises:
      TypeError: If the model is not an `nnx.Module`.
      ValueError: If nothing is drawn, a pattern matches no site, a site that is not chosen cannot be
        turned off, a module computes statistics of its batch, mode arguments of evaluation change
        the draws, or an argument has the leading axis of `x`, is a key or streams.

    References:
      Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016.

    Examples:
      >>> import jax.numpy as jnp
      >>> rngs = nnx.Rngs(0)
      >>> net = nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
      >>> predict = stochastic(net, jnp.ones((3, 4)))
      >>> predict.sites
      (Site(path='layers/1', kind='Dropout', stream='default', rate='0.5'),)
      >>> from jaxdrop import mc
      >>> mc.sample(predict, jax.random.key(1), jnp.ones((3, 4)), num_samples=100).shape
      (100, 3, 8)
    """
    _check_model(model)
    method = _method(model, method)
    arrays, given = _calls.split_static(kwargs)
    _calls.check_inputs(x)
    _calls.check_not_per_example(x, arrays)
    settings, sources = _modes_and_sources(model, method, x, unpack, kwargs)
    _, static = _calls.split_static(kwargs | settings)
    finder = _Finder(_control.in_training(model), x, arrays)
    call = _Call(_calls.ByCode(method), bool(unpack), static)
    call, found = finder.with_sources(call, sources)
    training, program = found.record, found.program
    forced: _sites.Forced = frozenset()
    if settings:
        forced = frozenset((path, True) for path in training.sites if training.modes.get(path))
        call = dataclasses.replace(call, static=given, answer=_sites.Answer(forced))
        found = finder.trace(call)
        _sites.check_same_draws(training, found.record, settings)
        same = _digests.of_program(*program) == _digests.of_program(*found.program)
        # At evaluation statistics of the batch are at rest, as they should be.
        _sites.check_same_program(same or bool(training.written), settings)
    if found.record.written:
        resting = frozenset(found.record.written)
        rested = dataclasses.replace(call, answer=call.answer._replace(resting=resting))
        at_rest = finder.trace(rested)
        if at_rest.record.draws == found.record.draws:
            call, found = rested, at_rest
        _sites.check_statistics(found.record)
    chosen = _sites.choose(training, sites, forced)
    if chosen != forced:
        call = dataclasses.replace(call, answer=call.answer._replace(forced=chosen))
        found = finder.trace(call)
        _sites.check_chosen(training, found.record, chosen)
        _sites.check_statistics(found.record)
    return Predictor(found.state, arrays, tuple(found.record.sites.values()), found.call)


def _check_model(model: object) -> None:
    if isinstance(model, nnx.Module):
        return
    if isinstance(model, flax.linen.Module):
        raise TypeError("`model` must be an nnx.Module, got a Linen module; use `jaxdrop.linen.stochastic`.")
    kind = model.__name__ if isinstance(model, type) else type(model).__name__
    parts = model if isinstance(model, tuple | list) else (model,)
    if any(isinstance(part, nnx.GraphDef | nnx.State) for part in parts):
        raise TypeError(
            f"`model` must be an nnx.Module, got {kind}; merge it first: `nnx.merge(graphdef, state)`."
        )
    raise TypeError(f"`model` must be an instance of nnx.Module, got {kind}.")


def _method(model: nnx.Module, method: Method | str) -> Method | str:
    """A method by its name, or a function of the model."""
    if isinstance(method, str) and not callable(getattr(model, method, None)):
        raise ValueError(f"`method` must be the name of a method of {type(model).__name__}, got {method!r}.")
    owner = getattr(method, "__self__", None)
    if isinstance(method, str) or not isinstance(owner, nnx.Module):
        return method
    if owner is not model:
        raise ValueError(
            "`method` must be a method of the model or a function of it, got one of another "
            f"{type(owner).__name__}."
        )
    return method.__name__


def _modes_and_sources(
    model: nnx.Module, method: Method | str, x: PyTree, unpack: bool, kwargs: dict[str, PyTree]
) -> tuple[dict[str, bool], dict[str, bool]]:
    """Mode arguments to change for training, and arguments that take keys: whether the call needs them."""
    positional, named = _calls.arguments(x, unpack, {}, ())
    function = getattr(model, method) if isinstance(method, str) else functools.partial(method, model)
    try:
        signature = inspect.signature(function)
        filled = signature.bind_partial(*positional, **named).arguments
    except (TypeError, ValueError):
        return {} if _calls.says_training(kwargs) else _calls.modes_to_change(kwargs), {}
    free = [p for p in signature.parameters.values() if p.name not in filled]
    sources = {p.name: p.default is p.empty for p in free if p.name in _calls.SOURCES}
    if _calls.says_training(kwargs):
        return {}, sources
    return _calls.modes_to_change({p.name: p.default for p in free} | kwargs), sources


@dataclasses.dataclass(frozen=True)
class _Call:
    """The call of a model; hashable.

    Attributes:
      method: The method, by its name or as a function of the model.
      unpack: Whether the inputs are several arguments.
      static: Arguments without arrays.
      sources: Arguments that get an `nnx.Rngs` of the sample's, or else a key, by name.
      lacking: Paths of modules that get a stream.
      answer: What the modules are to do.
      graphdef: The controlled model, without its variables.
    """

    method: _calls.ByCode
    unpack: bool
    static: tuple[_calls.Static, ...]
    sources: tuple[tuple[str, bool], ...] = ()
    lacking: frozenset[str] = frozenset()
    answer: _sites.Answer = _AS_IT_IS
    graphdef: nnx.GraphDef[nnx.Module] = None  # pyright: ignore[reportAssignmentType]  # found later

    def __call__(
        self,
        state: PyTree,
        key: Key,
        x: PyTree,
        arrays: dict[str, PyTree],
        record: _sites.Record | None = None,
    ) -> PyTree:
        """The outputs; all streams start from the key."""
        model = nnx.merge(self.graphdef, state, copy=True)
        streams = [(parts, node) for parts, node in nnx.iter_graph(model) if isinstance(node, nnx.RngStream)]
        streams.sort(key=lambda stream: "/".join(map(str, stream[0][:-1])) in self.lacking)
        keys = iter(_streams.restart([stream for _, stream in streams], key, len(self.sources)))
        positional, named = _calls.arguments(x, self.unpack, arrays, self.static)
        with _control.answering(self.answer._replace(record=record), model, named):
            for name, as_streams in self.sources:
                named[name] = nnx.Rngs(next(keys)) if as_streams else next(keys)
                _record.watch(named[name])
                if not as_streams:
                    _record.note_draw(name)
            function = self.method.function
            if isinstance(function, str):
                return getattr(model, function)(*positional, **named)
            return function(model, *positional, **named)


@dataclasses.dataclass(frozen=True)
class _Found:
    """A traced pass of a call: what it does, its controlled model and variables, its program and outputs."""

    record: _sites.Record
    call: _Call
    state: PyTree
    program: PyTree


@dataclasses.dataclass(frozen=True)
class _Finder:
    """Traces calls of a model."""

    model: nnx.Module
    x: PyTree
    arrays: dict[str, PyTree]

    def trace(self, call: _Call) -> _Found:
        """Traces a pass."""
        graphdef, state = nnx.split(_control.controlled(self.model, call.answer, call.lacking))
        call, record = dataclasses.replace(call, graphdef=graphdef), _sites.Record()
        run = jax.make_jaxpr(functools.partial(call, record=record), return_shape=True)
        return _Found(record, call, state, run(state, jax.random.key(0), self.x, self.arrays))

    def with_sources(self, call: _Call, sources: dict[str, bool]) -> tuple[_Call, _Found]:
        """Finds the arguments that take keys, and the modules that lack a stream.

        Args:
          call: The call, in training mode.
          sources: Arguments that may take keys: whether the call needs them.
        """
        found = failed = None
        if not any(sources.values()):
            try:
                found = self.trace(call)
            except Exception as error:
                if not sources:
                    raise
                failed = error
        for as_streams in (True, False) if sources else ():
            option = dataclasses.replace(call, sources=tuple((name, as_streams) for name in sources))
            try:
                other = self.trace(option)
            except Exception as error:
                failed = failed or error
                continue
            if found is None or found.record.missing or _counts(found.record) != _counts(other.record):
                call, found = option, other
            break
        if found is None:
            raise failed or AssertionError
        if found.record.missing:
            call = dataclasses.replace(call, lacking=frozenset(found.record.missing))
            try:
                found = self.trace(call)
            except Exception as error:
                paths = ", ".join(path or "the model itself" for path in sorted(call.lacking))
                raise ValueError(f"`model` must be made with `rngs` for {paths}, got none.") from error
        return call, found


def _counts(record: _sites.Record) -> Counter[str]:
    """How many keys each module asks for."""
    counts: Counter[str] = Counter()
    for draw, count in record.draws.items():
        counts[draw.path] += count
    return counts
