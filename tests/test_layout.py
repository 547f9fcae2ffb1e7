"""The house: floors, mirrored tests, and what an import brings with it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxdrop"

# A file imports only from lower floors; within `drops`, the family may build on its own.
FLOORS = {
    "_types": 0,
    "_balanced": 0,
    "_indices": 0,
    "_keys": 0,
    "_quantiles": 0,
    "_visible": 0,
    "_checks": 1,
    "_bits": 1,
    "_carries": 1,
    "_meshes": 1,
    "_names": 1,
    "_order": 1,
    "_sums": 1,
    "_activity": 3,
    "_predictions": 2,
    "_draw": 2,
    "_folding": 2,
    "_parts": 2,
    "_selection": 2,
    "_unit_norms": 2,
    "_units": 3,
    "_extra_args": 1,
    "_strengths": 2,
    "masks": 3,
    "schedules": 2,
    "uncertainty": 3,
    "drops": 4,
    "losses": 5,
    "mc": 4,
    "penalties": 4,
    "training": 4,
    "_exports": 5,
    "adapters": 5,
    "plots": 5,
    "optim": 4,
    "_modules": 5,
    "_commands": 8,
    "_report": 6,
    "linen": 6,
    "__main__": 9,
    "nnx": 7,
}
SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The top-level module or folder that a file belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The units of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "jaxdrop":
                found |= {alias.name for alias in node.names}
            elif node.module and node.module.startswith("jaxdrop."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("jaxdrop.")}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_floors(path: Path):
    name = unit(path)
    if name == "__init__":
        eager = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
        assert not {alias.name for node in eager for alias in node.names} & {"linen", "nnx"}
        return
    assert name in FLOORS, f"give {name} its floor"
    for other in imported(path) - {name}:
        assert FLOORS[other] < FLOORS[name], f"{name} is on floor {FLOORS[name]}, {other} on {FLOORS[other]}"


@pytest.mark.parametrize("folder", ["jaxdrop", "experiments"])
def test_tests_mirror_the_sources(folder: str):
    prefix = Path() if folder == "jaxdrop" else Path(folder)
    missing = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        relative = path.relative_to(ROOT / folder)
        if relative.name in ("__init__.py", "_remat.py", "_draw.py"):  # held by the law suite
            continue
        if relative.parts[0] == "_modules":  # held by the tests of both APIs
            continue
        if relative == Path("__main__.py"):  # held by the tests of the commands
            continue
        if relative.name == "__main__.py":
            relative = relative.parent.with_suffix(".py")
        test = ROOT / "tests" / prefix / relative.parent / f"test_{relative.name.lstrip('_')}"
        if not test.exists():
            missing.append(str(test.relative_to(ROOT)))
    assert not missing


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_of_one_sitting(path: Path):
    assert len(path.read_text().splitlines()) <= 350


def test_the_top_level_holds_nothing_else():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    command = ["git", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    top = {name.split("/")[0] for name in listed}
    known = {"pyproject.toml", "jaxdrop", "experiments", "tests", "README.md", "LICENSE", ".gitignore", ".ci"}
    assert {"jaxdrop", "tests"} <= top <= known


@pytest.mark.slow
def test_importing_the_shells():
    code = "import jaxdrop.linen as a, jaxdrop.nnx as b; print(a.Dropout.__name__, b.Dropout.__name__)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["Dropout", "Dropout"]
