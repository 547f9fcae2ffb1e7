"""Floors of the experiments: shared rooms import only from lower floors, experiments never each other."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "experiments"
# A file imports only from lower floors; an experiment stands above all rooms and may use its own files.
FLOORS = {
    "catalog": 0,
    "cli": 0,
    "conv_net": 0,
    "means": 0,
    "mlp": 0,
    "relu_net": 0,
    "__main__": 1,
    "batches": 1,
    "buckets": 1,
    "data": 1,
    "hosts": 1,
    "logs": 1,
    "plots": 1,
    "report": 1,
    "timing": 2,
    "loop": 2,
    "parts": 2,
    "splits": 2,
    "own": 3,
    "study": 3,
    "study_report": 4,
}
EXPERIMENT = 5
SOURCES = sorted(FOLDER.rglob("*.py"))


def unit(path: Path) -> str:
    """The shared room or the experiment that a file belongs to."""
    return path.relative_to(FOLDER).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return EXPERIMENT if (FOLDER / name).is_dir() else FLOORS[name]


def imported(path: Path) -> set[str]:
    """The rooms and experiments that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("experiments.")}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_floors(path: Path):
    for other in imported(path) - {unit(path)}:
        assert not (FOLDER / other).is_dir(), f"{unit(path)} must not import the experiment {other}"
        assert floor(other) < floor(unit(path)), f"{other} is not below {unit(path)}"


def test_every_room_has_a_floor():
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__init__"} == set(FLOORS)
