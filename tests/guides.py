"""Runs the guides: the pages of a folder that say what they need, each as one program.

A guide's blocks of Python run one after another. A block of text right after one says what it prints: the
words are the same, and a number differs by at most two units of the last digit shown, as compilers round
differently.

    python -P tests/guides.py [FOLDER] [--write]

FOLDER is that of the installed package by default, so that this file also tests a wheel. It needs the
standard library, and the guides need the package and scikit-learn. With --write, the blocks of text become
what is printed.
"""

import argparse
import contextlib
import importlib.util
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "agg")

BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
SLACK = 2.01


def guides(folder: Path) -> list[Path]:
    """The pages in a folder that say what they need."""
    return sorted(page for page in folder.rglob("*.md") if "\n**Needs**: " in page.read_text())


def unit(number: str) -> float:
    """One unit of the last digit of a number as it is written."""
    mantissa, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def agree(stated: str, printed: str) -> bool:
    """Whether two texts have the same words, and numbers that differ by two units of the last digit."""
    words = [" ".join(NUMBER.sub("#", text).split()) for text in (stated, printed)]
    pairs = zip(NUMBER.findall(stated), NUMBER.findall(printed), strict=False)
    return words[0] == words[1] and all(abs(float(a) - float(b)) <= SLACK * unit(a) for a, b in pairs)


def run(page: Path, write: bool = False) -> list[str]:
    """Runs a guide, and returns what it prints and does not say."""
    page, faults = page.resolve(), []
    namespace: dict = {"__name__": page.stem}

    def replaced(block: re.Match) -> str:
        code, stated = block.groups()
        line = page.read_text()[: block.start()].count("\n") + 1
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile("\n" * line + code, str(page), "exec"), namespace)
        printed = "".join(f"{row.rstrip()}\n" for row in out.getvalue().splitlines())
        if (stated or "") == printed or (not write and agree(stated or "", printed)):
            return block.group()
        faults.append(f"{page.name}, line {line}, prints:\n{printed}")
        return f"```python\n{code}```\n\n```text\n{printed}```"

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        text = BLOCK.sub(replaced, page.read_text())
    if write:
        page.write_text(text)
    return faults


def main() -> int:
    """Runs all guides of a folder, and says which are wrong."""
    found = importlib.util.find_spec("jaxdrop")
    parser = argparse.ArgumentParser(description="Runs the guides of a folder.")
    parser.add_argument("folder", nargs="?", type=Path, default=found and Path(str(found.origin)).parent)
    parser.add_argument("--write", action="store_true", help="write what is printed into the guides")
    options = parser.parse_args()
    pages = guides(options.folder) if options.folder.is_dir() else [options.folder]
    faults = []
    for page in pages:
        began, spent = time.perf_counter(), time.process_time()
        faults += run(page, options.write)
        seconds = time.perf_counter() - began, time.process_time() - spent
        print(f"{page}: {seconds[0]:.1f} s, {seconds[1]:.1f} s of CPU", flush=True)
    print(*faults, sep="\n")
    return 0 if pages and not faults else 1


if __name__ == "__main__":
    sys.exit(main())
