"""The page "Models of others": each block runs where its package is installed."""

import re
from pathlib import Path

import jax
import pytest

PAGE = Path(__file__).parents[2] / "jaxdrop" / "mc" / "MODELS.md"
BLOCKS = re.findall(
    r"^## ([^\n]*)\n(?:(?!^## ).)*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE
)
PACKAGES = ("transformers", "haiku", "equinox", "penzai", "keras", "jraph")


def test_every_library_has_a_block():
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    assert [heading for heading, _ in BLOCKS] == headings[:-2]


@pytest.mark.slow
@pytest.mark.parametrize(("heading", "block"), BLOCKS, ids=[heading for heading, _ in BLOCKS])
def test_a_block_of_the_page(heading: str, block: str, compiled_in_haste, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for package in PACKAGES:
        if re.search(rf"^(import|from) .*\b{package}\b", block, re.MULTILINE):
            pytest.importorskip(package)
    namespace: dict = {}
    with jax.numpy_rank_promotion("allow"):
        exec(compile(block, str(PAGE), "exec"), namespace)
    found = namespace["found"]
    errors = jax.tree.leaves(found.standard_error)
    assert int(found.num_samples) in (8, 64)
    assert all(bool((error >= 0).all()) for error in errors)
    assert any(bool((error > 0).any()) for error in errors), heading
