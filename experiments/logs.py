"""Live curves of a training: event files for TensorBoard, by tensorboardX.

A training has its own folder with one event file. A training that starts or resumes writes the file anew from
its history, so that each point is there once, and TensorBoard drops what it had read.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from experiments import cli

# Values of an evaluation by name, such as "valid/dropout"; each has an axis of runs.
Curves = Mapping[str, np.ndarray]
_SECONDS_BETWEEN_WRITES = 5
_PREFIX = "events.out.tfevents."


class _Object:
    """File in a bucket; each flush writes the whole object, as objects cannot be appended to."""

    def __init__(self, path: str):
        self._path, self._content = epath.Path(path), io.BytesIO()

    def write(self, content: bytes) -> None:
        self._content.write(content)

    def flush(self) -> None:
        self._path.write_bytes(self._content.getvalue())

    close = flush


class _Bucket:
    """Maker of files in a bucket, in the form that tensorboardX asks for."""

    open = _Object

    @staticmethod
    def directory_check(path: str) -> None:
        """Buckets have no folders."""


def check() -> None:
    """Checks that tensorboardX is installed.

    Raises:
      BadInputError: If it is not.
    """
    _writers()


@contextlib.contextmanager
def writer(folder: epath.Path | None) -> Iterator[Callable[[int, Curves], None]]:
    """Yields `write(step, curves)`: mean and standard deviation of each curve over its runs.

    Args:
      folder: The folder of this training alone; its older event files are removed. None: nothing is written.
    """
    if folder is None:
        yield lambda step, curves: None
        return
    for old in list(folder.iterdir()) if folder.is_dir() else []:
        if old.name.startswith(_PREFIX):
            old.unlink()
    # By step 0 TensorBoard drops the points of the files that are gone.
    events = _writers().SummaryWriter(str(folder), purge_step=0, flush_secs=_SECONDS_BETWEEN_WRITES)

    def write(step: int, curves: Curves) -> None:
        for name, values in curves.items():
            part, method = re.sub(r"[^-/\w.]+", "_", name).split("/")
            events.add_scalar(f"{part}/{method}", float(np.mean(values)), step)
            if np.size(values) > 1:
                events.add_scalar(f"{part}_deviation/{method}", float(np.std(values, ddof=1)), step)

    try:
        yield write
    finally:
        events.close()


def _writers() -> Any:
    try:
        import tensorboardX
        from tensorboardX import record_writer
    except ImportError:
        raise cli.BadInputError(
            '`log_dir` must have tensorboardX installed, got none; run `pip install "jaxdrop[logs]"`.'
        ) from None
    for scheme in cli.SCHEMES:
        record_writer.register_writer_factory(scheme, _Bucket)
    return tensorboardX
