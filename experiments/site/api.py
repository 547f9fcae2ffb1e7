"""Pages of the API: every public name, from its docstring."""

import ast
import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx

import jaxdrop
from jaxdrop import _types

# Whose names are also those of `jaxdrop`, as which they are shown.
_FLAT = ("drops", "masks")
# Fields of every Flax module.
_FLAX = ("parent", "name")


def modules() -> dict[str, ModuleType]:
    """The public modules by name, in the order of the pages."""
    names = sorted(name for name in jaxdrop.__all__ if isinstance(getattr(jaxdrop, name), ModuleType))
    return {name: importlib.import_module(f"jaxdrop.{name}") for name in (*_FLAT, *names, "plots")}


def public() -> dict[str, list[str]]:
    """The public names as a user writes them, by module."""
    return {
        name: [
            f"jaxdrop.{public}" if name in _FLAT else f"jaxdrop.{name}.{public}" for public in module.__all__
        ]
        for name, module in modules().items()
    }


def page(name: str) -> str:
    """The page of a module, in reStructuredText."""
    module = modules()[name]
    title = f"jaxdrop: {name}" if name in _FLAT else f"jaxdrop.{name}"
    entries = list(zip(public()[name], (getattr(module, public) for public in module.__all__), strict=True))
    rows = [
        f"   * - :py:obj:`{full.rpartition('.')[2]} <{full}>`\n     - {_first(full, value)}"
        for full, value in entries
    ]
    parts = [title, "=" * len(title), "", inspect.getdoc(module) or "", ""]
    parts += ["Signatures have the names of :doc:`types <types>`, such as `Rate`.", ""]
    parts += [
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: auto",
        "",
        "   * - name",
        "     - summary",
    ]
    parts += [*rows, "", ".. currentmodule:: jaxdrop", ""]
    return "\n".join(parts) + "\n\n".join(_entry(full, value) for full, value in entries) + "\n"


def types() -> str:
    """The page of the types in signatures, in reStructuredText."""
    block = textwrap.indent(Path(inspect.getfile(_types)).read_text(), "   ")
    return f"Types in signatures\n===================\n\n.. code-block:: python\n\n{block}"


def _first(name: str, value: object) -> str:
    """The first line of a docstring, or the first sentence of the comment of a value."""
    if inspect.isclass(value) or inspect.isroutine(value):
        return (inspect.getdoc(value) or "").partition("\n")[0]
    return re.split(r"(?<=[.:]) ", comment(name))[0].rstrip(".:") + "."


def comment(name: str) -> str:
    """The comment above a value of a public module, where the value is set."""
    module, _, short = name.rpartition(".")
    stated = re.compile(rf"((?:^# .*\n)+){short}\b.* = ", re.MULTILINE)
    for own in sorted(key for key in sys.modules if f"{key}.".startswith(f"{module}.")):
        found = stated.search(inspect.getsource(sys.modules[own]))
        if found:
            return " ".join(line.removeprefix("# ") for line in found[1].splitlines())
    raise ValueError(f"`{name}` must have a comment above it.")


def _entry(name: str, value: object) -> str:
    if not inspect.isclass(value):
        return f".. auto{'function' if inspect.isroutine(value) else 'data'}:: {name}"
    own = [
        key
        for base in value.__mro__
        if base.__module__.startswith("jaxdrop")
        for key, member in vars(base).items()
        if (key == "__call__" or not key.startswith("_"))
        and inspect.isroutine(member)
        and inspect.getdoc(member)
    ]
    members = f"\n   :members: {', '.join(dict.fromkeys(own))}" if own else ""
    return f".. autoclass:: {name}{members}"


def _tree(value: object) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value)))).body[0]  # pyright: ignore[reportArgumentType]


def signature(value: object, method: bool = False) -> tuple[str, str | None]:
    """Arguments and result as the source has them: `Rate`, not what it stands for."""
    if getattr(value, "_is_protocol", False):
        return "", None
    if not inspect.isclass(value):
        tree = _tree(value)
        arguments = ast.unparse(tree.args)
        if method:
            arguments = arguments.partition(",")[2].strip()
        return f"({arguments})", ast.unparse(tree.returns).strip("'") if tree.returns else None
    if "__init__" in vars(value) and not dataclasses.is_dataclass(value):
        return signature(value.__init__, method=True)[0], None
    fields: dict[str, ast.AnnAssign] = {}
    for base in reversed(value.__mro__):
        if base.__module__.startswith("jaxdrop"):
            for node in _tree(base).body:
                if isinstance(node, ast.AnnAssign):
                    fields[ast.unparse(node.target)] = node
    shown = []
    for name, parameter in inspect.signature(value).parameters.items():
        if name in _FLAX:
            continue
        field, default = fields.get(name), parameter.default
        if field and field.value and default is not inspect.Parameter.empty:
            default = _Text(ast.unparse(field.value))
        annotation = _Text(ast.unparse(field.annotation)) if field else inspect.Parameter.empty
        shown.append(parameter.replace(annotation=annotation, default=default))
    return str(inspect.Signature(shown)), None


class _Text(str):
    """A type as text: shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _signed(
    app: Sphinx, what: str, name: str, value: object, options: object, arguments: str, result: str | None
) -> tuple[str, str | None]:
    """Sphinx's event: the signature of an object."""
    del app, name, options
    try:
        return signature(value, method=what == "method")
    except (OSError, TypeError):  # no source, such as of a NamedTuple's methods
        return arguments, result


def _read(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Sphinx's event: what stands otherwise in Markdown than in reStructuredText."""
    del app, what, name, value, options
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`[^`]+`)", line)
            parts[::2] = [
                re.sub(r'"[^"]*"', lambda quoted: quoted[0].replace("*", r"\*"), part) for part in parts[::2]
            ]
            lines[i] = re.sub(r"(`[^`]+`)(?=s\b)", r"\1\\ ", "".join(parts))


def _commented(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Sphinx's event: the comment of a value in place of the docstring of its type."""
    del app, value, options
    if what == "data":
        lines[:] = [comment(name), ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's hook of an extension."""
    app.connect("autodoc-process-signature", _signed)
    app.connect("autodoc-process-docstring", _read, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", _commented, priority=600)  # after it: a colon says no type
    return {"parallel_read_safe": True}
