"""Monte-Carlo dropout of a Linen model, and dropout that stays active at evaluation."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax.core import DenyList
from flax.errors import InvalidRngError, ScopeCollectionNotFound, ScopeParamNotFoundError

from jaxdrop._modules import elements
from jaxdrop._types import ArrayLike, Bits, Key, PyTree, Rate
from jaxdrop.linen._control import controlled
from jaxdrop.linen._shell import Base
from jaxdrop.mc import _calls, _digests, _sites

__all__ = ["MCDropout", "Predictor", "stochastic"]


class MCDropout(elements.MCDropout, Base, kw_only=False):
    """Examples:
    >>> import jax.numpy as jnp
    >>> MCDropout(0.5).apply({}, jnp.ones(6), rngs={"dropout": jax.random.key(0)})
    Array([0., 2., 2., 0., 0., 2.], dtype=float32)
    """

    # In the order of `Dropout`'s fields.
    broadcast_dims: Sequence[int] = ()
    rng_collection: str = "dropout"
    bits: Bits = None
    # Not a field: only `stochastic` overrides it, for sites that are not chosen.
    deterministic = False

    def __call__(self, inputs: ArrayLike, rng: Key | None = None, *, rate: Rate | None = None) -> jax.Array:
        """Applies dropout in every mode.

        Args:
          inputs: Floating-point inputs.
          rng: A key; by default one of the collection `rng_collection`.
          rate: Rate of this call, instead of the module's; may be traced.

        Returns:
          Array of the shape and dtype of the inputs.
        """
        return self._apply((inputs,), self._rate(rate), None, rng)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["variables", "arrays"],
    meta_fields=["sites", "collections", "answer", "call"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """`predict(key, x)`, a pytree whose leaves are the model's variables.

    Attributes:
      variables: Variables for `model.apply`.
      arrays: Arguments of the call that are arrays, by name.
      sites: The stochastic sites, in the order of their last draws.
      collections: Collections that the model asks for keys; each is given the sample's key.
      answer: The modules whose mode is overridden.
      call: The model, its method and its other arguments.
    """

    variables: PyTree
    arrays: dict[str, PyTree]
    sites: tuple[_sites.Site, ...]
    collections: tuple[str, ...]
    answer: _sites.Answer
    call: "_Call"

    def __call__(self, key: Key, x: PyTree) -> PyTree:
        """Draws one sample: the outputs of the model, with noise at the chosen sites.

        Args:
          key: A PRNG key, used once.
          x: Inputs of the model.

        Returns:
          Outputs of the model.

        Raises:
          ValueError: If an argument that `stochastic` bound has the axis of examples of `x`.
        """
        _calls.check_not_per_example(x, self.arrays)
        return self.call(self.variables, x, self.arrays, dict.fromkeys(self.collections, key), self.answer)


def stochastic(
    model: nn.Module,
    variables: PyTree,
    x: PyTree,
    *,
    sites: _sites.Sites = "all",
    unpack: bool = False,
    method: Callable[..., Any] | str | None = None,
    **kwargs: Any,
) -> Predictor:
    """Makes `predict(key, x)` from a model: one sample of Monte-Carlo dropout, for `jaxdrop.mc`.

    The predictor is the model's training mode, with everything that learns at rest. Under the same
    key the sample equals `model.apply(variables, x, rngs={"dropout": key}, **training_arguments)`,
    except that BatchNorm and SpectralNorm use their learned statistics, and that what is written to a
    collection is thrown away. A model of several streams has the same key for each, as in
    `rngs={"dropout": key, "noise": key}`.

    A site is a module that asks for a key in that pass, whatever its class. What training never
    turns on (`deterministic=True` for good) stays off, unless a pattern in `sites` names it. Dropout and
    attention of Flax, their subclasses and the modules of `jaxdrop.linen` can be left out by
    `sites`. A module that draws by a function of a key can not.

    Call it with the arguments of training. With those of evaluation it works if the model computes the
    same with these modules turned on, and else is an error. A mode that is a word, or a field of a
    submodule, is not known as one. What learns in a collection without "stats" in its name is not at
    rest; its changes are thrown away. Blocks of one class under `nn.jit` share one trace: they are
    listed once, and are random together or not at all.

    Args:
      model: A Linen module.
      variables: Variables of the model: a dictionary of collections, such as `{"params": params}`.
      x: Inputs of the model, or their `jax.ShapeDtypeStruct`s. Only their types are used, to find the
        sites.
      sites: Sites that stay random: "all"; "last", the one that draws last; or one or several
        shell-style patterns of paths ("encoder/*"). The others are deterministic.
      unpack: If true, `x` is a tuple of positional arguments, or a dictionary of arguments by name.
      method: The method to call: its name, or a function of a module and the inputs. None: `__call__`.
      **kwargs: Arguments of the call, as in training (`train=True`, `deterministic=False`); no keys.
        An array has no axis of examples: that belongs in `x`.

    Returns:
      A `Predictor`, which is a pytree of the variables. Predictors of one model object share compiled
      programs.

    Raises:
      TypeError: If `model` is not a Linen module.
      ValueError: If no module asks for a key; a pattern matches no site; a site that cannot be turned
        off by itself is left out; the arguments are those of evaluation and the model computes something
        else with them; a module uses statistics of its batch; variables are missing; or an input is a key
        or has the axis of examples.

    References:
      Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016.

    Examples:
      >>> import jax.numpy as jnp
      >>> class Net(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, x, train):
      ...         x = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(8)(x)))
      ...         return nn.Dense(2)(x)
      >>> net, x = Net(), jnp.ones((3, 4))
      >>> variables = net.init(jax.random.key(0), x, train=False)
      >>> predict = stochastic(net, variables, x, train=True)
      >>> predict.sites
      (Site(path='Dropout_0', kind='Dropout', stream='dropout', rate='0.5'),)
      >>> from jaxdrop import mc
      >>> mc.sample(predict, jax.random.key(1), x, num_samples=100).shape
      (100, 3, 2)
    """
    arrays, static = _calls.split_static(kwargs)
    _check_model(model, variables)
    _calls.check_inputs(x)
    _calls.check_not_per_example(x, arrays)
    _calls.arguments(x, unpack, arrays, static)
    call = _Call(model, _calls.ByCode(method), unpack, static)
    training, given, forced = _in_training_mode(call, variables, x, arrays)
    switches = _sites.choose(training, sites, forced)
    answer = _sites.Answer(switches, given.resting)
    chosen = given if switches == forced else _trace(call, variables, x, arrays, answer)
    _sites.check_chosen(training, chosen.record, switches)
    _sites.check_statistics(chosen.record)
    listed = tuple(chosen.record.sites.values())
    return Predictor(variables, arrays, listed, chosen.collections, answer, call)


class _Call:
    """The call of a model. Models are compared by identity, as a module need not be hashable."""

    def __init__(
        self, model: nn.Module, method: _calls.ByCode, unpack: bool, kwargs: tuple[_calls.Static, ...]
    ):
        self.model, self.method, self.unpack, self.kwargs = model, method, unpack, kwargs
        self._identity = (id(model), method, unpack, kwargs)

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, _Call) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    def __call__(
        self,
        variables: PyTree,
        x: PyTree,
        arrays: dict[str, PyTree],
        rngs: dict[str, jax.Array],
        answer: _sites.Answer,
    ) -> PyTree:
        """The outputs under an answer; what the call writes to collections is thrown away."""
        given, named = _calls.arguments(x, self.unpack, arrays, self.kwargs)
        # A parameter that is missing is an error, not a new one.
        options: dict[str, Any] = {"rngs": rngs, "mutable": DenyList("params")}
        with controlled(answer) as seen:
            if self.method.function is not None:
                options["method"] = seen(self._function())
            outputs, _ = self.model.apply(variables, *given, **options, **named)
        return outputs

    def _function(self) -> Callable[..., PyTree]:
        """The method, as a function of the module."""
        method = self.method.function
        if isinstance(method, str):
            found = getattr(type(self.model), method, None)
            if not callable(found):
                kind = type(self.model).__name__
                raise ValueError(f"`method` must be the name of a method of {kind}, got {method!r}.")
            return found
        return getattr(method, "__func__", method)


class _Traced(NamedTuple):
    """A traced pass.

    Attributes:
      record: What it does.
      resting: Paths of modules that had to be put to rest.
      collections: Collections that it asks for keys.
      program: Its program, and the types of its outputs.
    """

    record: _sites.Record
    resting: frozenset[str]
    collections: tuple[str, ...]
    program: PyTree


def _in_training_mode(
    call: _Call, variables: PyTree, x: PyTree, arrays: dict[str, PyTree]
) -> tuple[_sites.Record, _Traced, _sites.Forced]:
    """What training draws; the call as it is, drawing the same; the modules to turn on or off for that."""
    given = _trace(call, variables, x, arrays, _sites.Answer())
    settings, modes = given.record.settings, given.record.modes
    if not settings:
        return given.record, given, frozenset()
    training = _trace(call, variables, x, arrays, _sites.Answer(in_training=True))
    on_in_training = training.record.modes.items()
    forced = frozenset((path, on) for path, on in on_in_training if modes.get(path) != on)
    if forced:
        given = _trace(call, variables, x, arrays, _sites.Answer(forced))
    _sites.check_same_draws(training.record, given.record, settings)
    same = _digests.of_program(*training.program) == _digests.of_program(*given.program)
    # At evaluation such statistics are at rest, as they should be.
    same |= bool(training.record.written)
    _sites.check_same_program(same, settings)
    return training.record, given, forced


def _trace(
    call: _Call, variables: PyTree, x: PyTree, arrays: dict[str, PyTree], answer: _sites.Answer
) -> _Traced:
    """Traces a pass until all collections that it asks for are there, and all that learns is at rest."""
    streams, resting = {"dropout"}, answer.resting
    while True:
        record = _sites.Record()
        current = answer._replace(resting=resting, record=record)
        run = partial(_run, call, tuple(sorted(streams)), current)
        try:
            program = jax.make_jaxpr(run, return_shape=True)(variables, x, arrays, jax.random.key(0))
        except InvalidRngError:
            if record.missing <= streams:
                raise
            streams |= record.missing
            continue
        except (ScopeCollectionNotFound, ScopeParamNotFoundError) as error:
            if isinstance(variables, Mapping) and "params" in variables:
                raise
            raise ValueError(
                "`variables` must be a dictionary of collections, such as {'params': params}, got the keys "
                f"{', '.join(map(str, variables))}."
            ) from error
        # To ask whether a collection "params" has keys is an old way to ask for initialization.
        more = record.asked - streams - {"params"}
        rest = {path for path in record.written if path in record.can_rest} - resting
        if not more and not rest:
            return _Traced(record, resting, tuple(sorted(record.asked & streams)), program)
        streams, resting = streams | more, resting | rest


def _run(
    call: _Call,
    streams: tuple[str, ...],
    answer: _sites.Answer,
    variables: PyTree,
    x: PyTree,
    arrays: dict[str, PyTree],
    key: Key,
) -> PyTree:
    """A pass with the same key for each collection."""
    return call(variables, x, arrays, dict.fromkeys(streams, key), answer)


def _check_model(model: object, variables: object) -> None:
    """Says what to pass instead of a model's method, a model of another library or parameters alone."""
    owner = getattr(model, "__self__", None)
    if isinstance(owner, nn.Module):
        raise TypeError(f"`model` must be the Linen module itself, got its method `{model.__name__}`.")  # pyright: ignore
    if isinstance(getattr(model, "module", None), nn.Module):
        raise TypeError(
            f"`model` must be a Linen module, got {type(model).__name__}: pass its `module`, and variables "
            "{'params': model.params}."
        )
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"`model` must be a Linen module, got {type(model).__name__}: for another model write a function "
            "`predict(key, x)`; for an NNX module use `jaxdrop.nnx.stochastic`."
        )
    if not isinstance(variables, Mapping):
        raise TypeError(
            "`variables` must be a dictionary of collections, such as {'params': params}, got "
            f"{type(variables).__name__}."
        )
