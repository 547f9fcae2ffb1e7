"""How many samples a program computes at once."""

from functools import cache
from typing import NamedTuple

import jax

from jaxdrop import _checks
from jaxdrop.mc import _designs

# Bytes that one chunk may work on: on a CPU it should fit the cache.
CPU_BYTES = 4 * 2**20
# On other devices it may use one part in so many of the memory.
_MEMORY_SHARE = 8
# The largest chunk that is chosen automatically.
_MOST = 1024


class Sizes(NamedTuple):
    """What the size of the chunks depends on.

    Attributes:
      most: The number of samples computed without a look between them.
      chunk_size: The user's choice.
      sample_bytes: The bytes that one sample works on.
      balanced: The number of samples in a balanced set.
      shards: The number of devices over which samples are divided.
    """

    most: int
    chunk_size: int | None
    sample_bytes: int
    balanced: int | None
    shards: int

    def chunk(self, passed_over: int = 0) -> int:
        """The number of samples in a chunk.

        Args:
          passed_over: The bytes that each chunk passes over besides its samples, such as the state of an
            estimate. A chunk works on at least as many, or it would spend most of its time on these.
        """
        if self.chunk_size is not None:
            chunk = min(_checks.check_count(self.chunk_size, "chunk_size"), self.most)
        else:
            chunk = max(budget() // self.sample_bytes, -(-passed_over // self.sample_bytes), 1)
            # Chunks of equal size, so that the last one draws few samples in vain.
            chunk = -(-self.most // -(-self.most // min(chunk, _MOST)))
        if self.balanced is not None:
            chunk = _designs.fitted_chunk(chunk, self.balanced)
        return -(-chunk // self.shards) * self.shards


@cache
def budget() -> int:
    """Bytes that one chunk may work on: a constant, which takes some devices long to tell."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if not stats or "bytes_limit" not in stats:
        return CPU_BYTES
    return stats["bytes_limit"] // _MEMORY_SHARE
