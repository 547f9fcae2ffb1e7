"""Where in the source an equation comes from, and the names of draws."""

import os
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.extend.core as jex

import jaxdrop

_LIBRARIES = tuple(f"{Path(str(module.__file__)).parent}{os.sep}" for module in (jax, jaxdrop))


def place(equations: Sequence[jex.JaxprEqn]) -> str:
    """File and line of an equation that nested calls lead to, the outermost first; "" if unknown.

    The outermost equation tells it: a call that was traced before keeps the lines of its first trace.
    """
    for eqn in equations:
        traceback = eqn.source_info.traceback
        for frame in getattr(traceback, "frames", ()):
            if not frame.file_name.startswith(_LIBRARIES) and "<" not in frame.file_name:
                return f"{os.path.basename(frame.file_name)}:{frame.line_num}"
    return ""


def name(equations: Sequence[jex.JaxprEqn], kind: str, paths: Sequence[str]) -> str:
    """The path of the module that draws, if it is one of the given paths; else the kind and the line."""
    parts: list[str] = []
    for eqn in equations:
        inner = str(eqn.source_info.name_stack).split("/")
        parts = inner if inner[: len(parts)] == parts else [*parts, *inner]
    scope = "/".join(filter(None, parts))
    found = [path for path in paths if path and f"/{scope}/".find(f"/{path}/") >= 0]
    if found:
        return max(found, key=len)
    at = place(equations)
    return f"{kind} at {at}" if at else kind
