"""Extra arguments of optax optimizers."""

import inspect
import re

import optax

from jaxdrop._types import PyTree


def accept_extra_args(optimizer: optax.GradientTransformation) -> optax.TransformUpdateExtraArgsFn:
    """The optimizer's `update`, which ignores extra arguments that it does not take."""
    # The signature says what it takes: the type does not, for instance of `optax.MultiSteps`.
    update = optimizer.update
    asked = inspect.signature(update).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in asked)
    names = {parameter.name for parameter in asked}

    def call(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: PyTree
    ) -> tuple[optax.Updates, optax.OptState]:
        given = {name: value for name, value in extra.items() if takes_all or name in names}
        while True:
            try:
                return update(updates, state, params, **given)
            except TypeError as error:
                # A chain hands all arguments to members such as `optax.contrib.sam`, which take some only.
                refused = re.search(r"got an unexpected keyword argument '(\w+)'", str(error))
                if refused is None or refused[1] not in given:
                    raise
                del given[refused[1]]

    return call
