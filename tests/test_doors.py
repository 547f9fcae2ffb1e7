"""The doors: what is public stands in `__all__`, and nothing else shows."""

import importlib
import inspect
import io
import pkgutil
import pydoc
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import jaxdrop

ROOT = Path(__file__).parents[1]


def walked() -> list[types.ModuleType]:
    """Every module of the package whose path has no underscore."""
    names = [module.name for module in pkgutil.walk_packages(jaxdrop.__path__, "jaxdrop.")]
    public = [name for name in names if not any(part.startswith("_") for part in name.split("."))]
    return [jaxdrop, *map(importlib.import_module, public)]


MODULES = walked()
# Those that a user imports: the package, its folders and files.
PUBLIC = [module for module in MODULES if module.__name__.count(".") <= 1]
each = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
public = pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)


@each
def test_all_lists_what_is_there(module: types.ModuleType):
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@each
def test_what_a_module_defines_is_listed_or_has_an_underscore(module: types.ModuleType):
    own = [
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    ]
    shown = [name for name in own if not name.startswith("_") and name not in module.__all__]
    assert not shown, f"underscore or list in {module.__name__}.__all__: {shown}"


@public
def test_dir_shows_the_own_names_alone(module: types.ModuleType):
    shown = [name for name in dir(module) if not name.startswith("__")]
    assert sorted(shown) == sorted(name for name in module.__all__ if not name.startswith("__"))


@public
def test_help_shows_every_public_name(module: types.ModuleType):
    text = io.StringIO()
    pydoc.Helper(output=text)(module)
    page = re.sub(".\b", "", text.getvalue())
    functions = [name for name in module.__all__ if inspect.isroutine(getattr(module, name))]
    assert all(re.search(rf"\b{name}\(", page) for name in functions)
    assert not re.search(r"^    (jnp|np|chex|partial|Any)\b", page, re.MULTILINE)


@public
def test_a_public_name_has_a_docstring(module: types.ModuleType):
    """A type's alias has none: what it is stands in a comment above it."""
    values = {name: getattr(module, name) for name in module.__all__}
    named = {
        name: value for name, value in values.items() if inspect.isclass(value) or inspect.isfunction(value)
    }
    assert not [name for name, value in named.items() if not inspect.getdoc(value)]


@pytest.mark.slow
def test_flax_is_loaded_at_the_first_touch_and_matplotlib_is_not():
    code = (
        "import sys, jaxdrop; tops = lambda: {name.split('.')[0] for name in sys.modules}; "
        "print(*tops() & {'flax', 'matplotlib'}, 'before'); jaxdrop.linen, jaxdrop.nnx; "
        "print(*tops() & {'flax'}, jaxdrop.linen.Dropout.__name__)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["before", "flax", "Dropout"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'jaxdrop' has no attribute 'dropuot'"):
        _ = jaxdrop.dropuot  # pyright: ignore[reportAttributeAccessIssue]


def test_the_version_is_that_of_the_metadata():
    (stated,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert jaxdrop.__version__ == stated
