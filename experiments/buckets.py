"""Checkpoints in a bucket: written and read in a local folder, and copied whole.

Orbax has its own way to few kinds of buckets. A copy serves all of them, on one host.
"""

import contextlib
import tempfile
from collections.abc import Iterator

import jax
from etils import epath

from experiments import cli


@contextlib.contextmanager
def local(folder: epath.Path) -> Iterator[epath.Path]:
    """Yields the folder itself, or for one in a bucket a temporary copy.

    Raises:
      BadInputError: If several hosts would need the copy.
    """
    if not cli.in_bucket(folder):
        yield folder.absolute()
        return
    if jax.process_count() > 1:
        raise cli.BadInputError(f"`out` must be on a disk that all hosts share, got {folder}.")
    with tempfile.TemporaryDirectory() as place:
        for file in files(folder):
            _copy(file, epath.Path(place) / file.relative_to(folder))
        yield epath.Path(place)


def upload(source: epath.Path, folder: epath.Path, last: str) -> None:
    """Makes a folder of a bucket like a local one, in which each folder has a file named `last`.

    That file is copied after the others of its folder, so that it tells a whole copy.
    """
    here = {inner.name for inner in source.iterdir()}
    for name in sorted(here):
        if not (folder / name / last).exists():
            for file in sorted(files(source / name), key=lambda file: file.name == last):
                _copy(file, folder / file.relative_to(source))
    for old in list(folder.iterdir()):
        if old.name not in here:
            old.rmtree()


def files(path: epath.Path) -> Iterator[epath.Path]:
    """Files in a folder and the folders in it, sorted."""
    for inner in sorted(path.iterdir()) if path.is_dir() else []:
        yield from files(inner) if inner.is_dir() else [inner]


def _copy(source: epath.Path, target: epath.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
