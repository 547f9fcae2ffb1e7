"""The README: its API block runs, its commands are the ones that CI runs, its links lead somewhere."""

import re
from pathlib import Path

import jax

import jaxdrop
import jaxdrop.linen
from tests.test_layout import FLOORS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_api_block_runs(compiled_in_haste):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    namespace: dict = {}
    with jax.debug_key_reuse(True):
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["losses"].shape == (12,)
    assert bool(namespace["loss"] > 0)


def test_the_api_block_shows_every_public_name():
    names = [name for name in vars(jaxdrop) if not name.startswith("_") and name not in FLOORS]
    penalties = ("l1", "l2", "l1_l2", "group_lasso", "orthogonal", "l2_sp", "activity", "kl_sparsity")
    names += [f"penalties.{name}" for name in (*penalties, "weight_mask")]
    names += [
        name for name in vars(jaxdrop.optim) if name[0].islower() and callable(getattr(jaxdrop.optim, name))
    ]
    names += [f"training.{name}" for name in ("trainer", "sweep", "grid")]
    names += [name for name in vars(jaxdrop.linen) if name[0].isupper()]
    missing = [name for name in names if not re.search(rf"\b{re.escape(name)}\b", README)]
    assert not missing
    assert len(names) > 70


def test_ci_runs_the_test_command_as_it_is_written():
    commands = [line for line in README.splitlines() if line.startswith("python -m venv")]
    assert [command.rpartition(" ")[2] for command in commands] == ["experiments.regularizers", "pytest"]
    script = (ROOT / ".ci" / "run").read_text()
    (pattern,) = re.findall(r"grep -E '([^']+)' \"\$root/README.md\"", script)
    assert [line for line in README.splitlines() if re.match(pattern, line)] == commands[1:]
    assert 'bash -c "$command"' in script


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links if "://" not in link)


def test_floors_are_those_of_the_test():
    for name, floor in FLOORS.items():
        row = next(line for line in README.splitlines() if re.search(rf"`{name}(\.py|/)`", line))
        assert row.startswith(f"| {floor} |")
