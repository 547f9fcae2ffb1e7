"""Extra arguments of optax optimizers."""

import inspect
from typing import Any, cast

import optax


def accept_extra_args(optimizer: optax.GradientTransformation) -> optax.TransformUpdateExtraArgsFn:
    """The optimizer's `update`, which ignores extra arguments that it does not take."""
    # The signature says what it takes: the type does not, for instance of `optax.MultiSteps`.
    update = optimizer.update
    asked = inspect.signature(update).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in asked):
        return cast(optax.TransformUpdateExtraArgsFn, update)
    names = {parameter.name for parameter in asked}

    def call(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        return update(updates, state, params, **{name: extra[name] for name in names & extra.keys()})

    return call
