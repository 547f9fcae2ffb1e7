"""The page "Models of others": each block runs where its package is installed."""

import importlib.util
import re
from pathlib import Path

import jax
import pytest

PAGE = Path(__file__).parents[2] / "jaxdrop" / "mc" / "MODELS.md"
BLOCKS = re.findall(
    r"^## ([^\n]*)\n(?:(?!^## ).)*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE
)
PACKAGES = ("transformers", "haiku", "equinox", "penzai", "keras", "jraph")


def test_every_section_but_the_last_has_a_block():
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    assert [heading for heading, _ in BLOCKS] == headings[:-1]


@pytest.mark.parametrize(("heading", "block"), BLOCKS, ids=[heading for heading, _ in BLOCKS])
def test_a_block_of_the_page(heading: str, block: str, compiled_in_haste, monkeypatch):
    for package in PACKAGES:
        if re.search(rf"\b(import|from|as) .*\b{package}\b|\bfrom {package}\b|\b{package} as\b", block):
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"needs {package}")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    namespace: dict = {}
    with jax.numpy_rank_promotion("allow"):
        exec(compile(block, str(PAGE), "exec"), namespace)
    found = namespace["found"]
    errors = jax.tree.leaves(found.standard_error)
    assert int(found.num_samples) in (8, 64)
    assert all(bool((error >= 0).all()) for error in errors)
    assert any(bool((error > 0).any()) for error in errors), heading
