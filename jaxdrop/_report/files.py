"""Files that are written whole or not at all."""

import json
import os
from pathlib import Path

from jaxdrop._types import PyTree


def write(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")  # another process may write it, too
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def as_json(content: PyTree) -> bytes:
    """JSON, in which a number that is not finite is null."""
    plain = json.loads(json.dumps(content), parse_constant=lambda _: None)
    return (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode()
