"""The table of functions is complete."""

import inspect

from experiments.benchmark import scores
from jaxdrop import uncertainty


def test_every_function_has_a_row_or_a_reason():
    functions = {name for name in uncertainty.__all__ if not inspect.isclass(getattr(uncertainty, name))}
    rows = {name.split(",")[0] for group in scores.GROUPS.values() for name in group}
    missing = functions - rows - set(scores.LEFT_OUT)
    assert not missing, f"add rows to GROUPS, or a reason to LEFT_OUT: {sorted(missing)}"
    assert rows <= functions
    assert set(scores.LEFT_OUT) <= functions - rows
