"""Where a report comes from: versions, device, key and times."""

import datetime
import importlib.metadata
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import Key

_PACKAGES = ("jaxdrop", "jax", "jaxlib", "flax", "numpy")


def facts(key: Key, batch_size: int) -> dict[str, str]:
    """What a report depends on: versions, the device, the words of the key, the size of a batch."""
    typed = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
    words = " ".join(map(str, np.asarray(jax.random.key_data(typed)).ravel().tolist()))
    device = jax.devices()[0]
    return {
        **{f"version of {name}": _version(name) for name in _PACKAGES},
        "device": f"{device.device_kind} ({device.platform})",
        "key": f"{jax.random.key_impl(typed)} {words}",
        "examples per batch": str(batch_size),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def times(began: float, sampled: float) -> dict[str, str]:
    """The date and the durations, from readings of `time.perf_counter`."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "date": f"{now:%Y-%m-%d %H:%M} UTC",
        "seconds of sampling": f"{sampled - began:.1f}",
        "seconds of scoring": f"{time.perf_counter() - sampled:.1f}",
    }
