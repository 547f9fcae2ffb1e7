"""The NNX side of a module: its mode, its streams of keys, its call."""

import dataclasses
import inspect
from typing import Any, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdrop import _checks
from jaxdrop._modules.base import Rated, Regularizer, document
from jaxdrop._types import ArrayLike, Key, PyTree, Rate

Rngs = nnx.Rngs | nnx.RngStream
# What a call takes its key from; None stands for the module's own stream.
Source = Rngs | ArrayLike | None

FIELDS = {
    "in_features": "Number of inputs.",
    "deterministic": "If true, no noise; `model.train()` and `model.eval()` set it.",
    "rng_collection": "Stream that the key is drawn from.",
    "rngs": "Streams, or one stream. Draws fork `rng_collection`, parameters use `params`.",
}
ARGUMENTS = {
    "deterministic": "If true, no noise. Overrides the module's own.",
    "rngs": "A key, a stream or streams. Overrides the module's own.",
    "rate": "Rate of this call, instead of the module's; may be traced.",
}


class ConstructorSignature:
    """The `__signature__` of a class: that of its constructor, which NNX's metaclass hides.

    Instances have none, so that `inspect.signature` of a module shows its call.
    """

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        _, *parameters = inspect.signature(owner.__init__).parameters.values()
        return inspect.Signature(parameters)


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Base(Regularizer, nnx.Module):
    """A regularizer as an NNX module.

    Every subclass is a dataclass, its fields keyword-only unless they say otherwise.
    """

    deterministic: bool | None = False
    rng_collection: str = "dropout"
    rngs: dataclasses.InitVar[Rngs | None] = None

    __signature__ = ConstructorSignature()

    def __init_subclass__(cls, **kwargs: Any):
        own = vars(cls).get("__doc__")
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(eq=False, repr=False, kw_only=True)(cls)
        document(cls, own, FIELDS, ARGUMENTS)

    def __post_init__(self: Any, rngs: Rngs | None):
        self.rngs = nnx.data(None if rngs is None else self._stream(rngs).fork())
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):
                setattr(self, field.name, tuple(getattr(self, field.name)))
        if isinstance(self, Rated):
            _checks.check_rate(self.rate)

    def __setattr__(self, name: str, value: PyTree) -> None:
        # NNX must be told that a traced array is data, that a tuple holds arrays, and that an array
        # takes the place of a number.
        parts = value if isinstance(value, tuple | list) else (value,)
        arrays = any(isinstance(part, jax.Array | np.ndarray) for part in parts)
        super().__setattr__(name, nnx.data(value) if arrays else value)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Sets the mode for `nnx.view`.

        Args:
          deterministic: If true, no noise. None: unchanged.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _is_off(self, deterministic: bool | None) -> bool:
        off = self.deterministic if deterministic is None else deterministic
        if off is None:
            raise ValueError("`deterministic` must be given to the constructor or the call, got None.")
        return off

    def _stream(self, rngs: Rngs) -> nnx.RngStream:
        if isinstance(rngs, nnx.Rngs):
            return rngs[self.rng_collection]
        if isinstance(rngs, nnx.RngStream):
            return rngs
        raise TypeError(
            f"`rngs` must be nnx.Rngs, an nnx.RngStream or, in a call, a key, got {type(rngs).__name__}."
        )

    def _key(self: Any, rngs: Source) -> Key:
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError("`rngs` must be given to the constructor or the call, got None.")
        return jnp.asarray(source) if isinstance(source, jax.Array | np.ndarray) else self._stream(source)()


class OneArray(Base):
    """A module that is called with one array."""

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Source = None,
        rate: Rate | None = None,
    ) -> PyTree:
        return self._apply((inputs,), self._rate(rate), deterministic, rngs)


class Shell(Rated, OneArray):
    """A regularizer of one array, with a rate."""


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Sized:
    """A module that is told the size of its inputs, as NNX does not see an input first."""

    in_features: int = dataclasses.field(kw_only=False)


def params_key(rngs: Rngs | None) -> jax.Array:
    """A key for the variables that a module owns."""
    if rngs is None:
        raise ValueError("`rngs` must be given to the constructor, got None.")
    if not isinstance(rngs, Rngs):
        raise TypeError(f"`rngs` must be nnx.Rngs or an nnx.RngStream, got {type(rngs).__name__}.")
    return rngs.params() if isinstance(rngs, nnx.Rngs) else rngs()
