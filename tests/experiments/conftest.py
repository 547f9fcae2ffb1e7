"""A bucket without a network: one of S3, whose objects are in memory."""

import fsspec
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem


class Objects(MemoryFileSystem):
    """The objects in memory, in the place of those of S3."""

    protocol = ("s3",)
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).removeprefix("s3:/"))


@pytest.fixture
def bucket():
    fsspec.register_implementation("s3", Objects, clobber=True)
    Objects.store.clear()
    Objects.pseudo_dirs[:] = [""]
    return epath.Path("s3://bucket")
