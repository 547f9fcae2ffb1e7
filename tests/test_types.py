"""The types: a user's checker finds mistakes in a call, and nothing in what is right."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from jaxdrop import _checks, _types

ROOT = Path(__file__).parents[1]
# Ten mistakes, a line each, among calls that are right.
PROGRAM = """
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdrop
from jaxdrop import mc, optim, penalties, training, uncertainty

key, x, data = jax.random.key(0), jnp.ones((2, 3)), np.ones((2, 3))
params = {"kernel": x}
jaxdrop.dropout(key, x, 0.1, broadcast_dims=(1,), bits=8)
jaxdrop.dropout(key, data, jnp.float32(0.1))
jaxdrop.dropout(key, x, np.full((2, 1), 0.1))
jaxdrop.dropout(key, x, "0.1")  # MISTAKE: a string as the rate
jaxdrop.dropout(data, key, 0.1)  # MISTAKE: key and data swapped
jaxdrop.dropout(key, x, 0.1, broadcast_dim=(1,))  # MISTAKE: a misspelled option
jaxdrop.dropout(key, x, 0.1, bits=12)  # MISTAKE: a number of bits that there is not
jaxdrop.keep_mask(key, (2, 3), 0.1)
jaxdrop.keep_mask(key, 3, 0.1)  # MISTAKE: a size as the shape
jaxdrop.drop_path(key, x, 0.1, mode="batch")
jaxdrop.drop_path(key, x, 0.1, mode="rows")  # MISTAKE: an unknown mode
jaxdrop.nnx.DropPath(0.1, mode="row", rngs=nnx.Rngs(0))
jaxdrop.nnx.DropPath(0.1, mod="row")  # MISTAKE: a misspelled field of an NNX module
jaxdrop.linen.SpatialDropout(0.1, channel_axis=1)
jaxdrop.linen.SpatialDropout("0.1")  # MISTAKE: a string as the rate of a Linen module
found = mc.estimate(jaxdrop.dropout_of_x, key, x, num_samples=2, reducers=mc.Moments())
found.value, found.standard_error
found.standard_eror  # MISTAKE: a misspelled field of a result
uncertainty.ece(x, jnp.zeros(2, int), mode="equal_mass")
uncertainty.ece(x, jnp.zeros(2, int), mode="quantiles")  # MISTAKE: an unknown mode of binning
optax.chain(optim.coupled_l2(1e-4), optax.sgd(1e-2), optim.max_norm(3.0))
penalties.l2(params, 1e-4, where=lambda path, leaf: path == "kernel")
training.grid(rate=[0.0, 0.5])
""".replace("jaxdrop.dropout_of_x", "lambda key, x: jaxdrop.dropout(key, x, 0.1)")
NEEDED = 8


def checker(name: str, file: Path) -> list[str]:
    if name == "pyright":
        return ["-m", "pyright", "--pythonpath", sys.executable, str(file)]
    return [
        "-m",
        "mypy",
        "--follow-imports=silent",
        "--ignore-missing-imports",
        f"--cache-dir={file.parent / 'cache'}",
        str(file),
    ]


def lines(output: str, file: Path) -> set[int]:
    """The lines of the file in which errors are reported."""
    return {int(n) for n in re.findall(rf"{file.name}:(\d+)(?::\d+)?:? (?:- )?error", output)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pyright", "mypy"])
def test_a_checker_finds_the_mistakes(name: str, tmp_path: Path):
    pytest.importorskip(name)
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    # As installed: the package alone on the path, not the experiments and tests.
    shutil.copytree(ROOT / "jaxdrop", tmp_path / "jaxdrop", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, *checker(name, file)]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    mistakes = {n for n, line in enumerate(PROGRAM.splitlines(), 1) if "# MISTAKE" in line}
    reported = lines(out.stdout, file)
    assert len(mistakes) == 10
    assert len(reported & mistakes) >= NEEDED, out.stdout + out.stderr
    assert not reported - mistakes, out.stdout


def test_few_values_are_of_any_type():
    """`Any` stands where a type cannot be said: trees, methods of Flax, what an optimizer takes."""
    count = sum(len(re.findall(r"\bAny\b", path.read_text())) for path in (ROOT / "jaxdrop").rglob("*.py"))
    assert count < 200


def test_the_bits_are_those_that_the_check_accepts():
    literal, none = get_args(_types.Bits)
    assert get_args(literal) == _checks.WIDTHS
    assert none is type(None)
