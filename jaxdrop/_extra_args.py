"""Extra arguments of optax optimizers."""

import inspect
import os
import re
from pathlib import Path

import optax

from jaxdrop._types import PyTree

_CALLERS = (str(Path(optax.__file__).parent) + os.sep, __file__)


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
        first = None
        while True:
            try:
                return update(updates, state, params, **given)
            except TypeError as error:
                if not _is_of_a_call(error):
                    raise
                # A chain hands all arguments to members such as `optax.contrib.sam`, which take some only.
                refused = re.search(r"got an unexpected keyword argument '(\w+)'", str(error))
                if refused is not None and refused[1] in given:
                    first = first or error
                    del given[refused[1]]
                elif first is None:
                    raise
                else:
                    raise TypeError(
                        "`optimizer` must be a chain whose members take the same extra arguments, "
                        f"got: {first}; {error}."
                    ) from error

    return call


def _is_of_a_call(error: TypeError) -> bool:
    """Whether an update was called wrongly, by optax or here; not an error in the update itself."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith(_CALLERS)
