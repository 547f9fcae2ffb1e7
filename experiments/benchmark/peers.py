"""Dropouts of other libraries behind one signature; those not installed are left out.

A `Drop` is called as `drop(key, x, rate, broadcast_dims)`. Torch has no keys; the suites call it directly.
"""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

import jaxdrop
from experiments import report

Drop = Callable[..., Any]
Dims = tuple[int, ...]
PACKAGES = ("equinox", "dm-haiku", "keras", "torch")
OURS, FLAX, NONE = "jaxdrop", "flax", "none"


def ours(key: jax.Array, x: jax.Array, rate: float, dims: Dims = ()) -> Any:
    """Dropout of jaxdrop."""
    return jaxdrop.dropout(key, x, rate, broadcast_dims=dims)


def for_attention(drop: Drop) -> Drop:
    """The same library's dropout of attention weights; jaxdrop has a function for them."""
    return jaxdrop.attention_dropout if drop is ours else drop


def _flax() -> Drop:
    linen = importlib.import_module("flax.linen")

    def drop(key: jax.Array, x: jax.Array, rate: float, dims: Dims = ()) -> Any:
        return linen.Dropout(rate, dims, deterministic=False).apply({}, x, rngs={"dropout": key})

    return drop


def _equinox() -> Drop:
    equinox = importlib.import_module("equinox")

    def drop(key: jax.Array, x: jax.Array, rate: float, dims: Dims = ()) -> Any:
        if dims:
            raise NotImplementedError("equinox.nn.Dropout shares no decisions along axes.")
        return equinox.nn.Dropout(rate)(x, key=key)

    return drop


def _haiku() -> Drop:
    haiku = importlib.import_module("haiku")

    def drop(key: jax.Array, x: jax.Array, rate: float, dims: Dims = ()) -> Any:
        return haiku.dropout(key, rate, x, broadcast_dims=dims)

    return drop


def _keras() -> Drop:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = importlib.import_module("keras")
    if keras.backend.backend() != "jax":
        raise ImportError("Keras is set to another backend.")

    def drop(key: jax.Array, x: jax.Array, rate: float, dims: Dims = ()) -> Any:
        shape = tuple(1 if axis in dims else size for axis, size in enumerate(x.shape))
        return keras.random.dropout(x, rate, noise_shape=shape, seed=key)

    return drop


_LOADERS = {FLAX: _flax, "equinox": _equinox, "haiku": _haiku, "keras": _keras}


@dataclass
class Setting:
    """Contenders, and whether sizes are small; `torch` is the module, or None."""

    drops: dict[str, Drop]
    torch: Any
    quick: bool

    def with_none(self) -> dict[str, Drop]:
        """The contenders, and no dropout before them."""
        return {NONE: no_drop, **self.drops}

    @property
    def on_gpu(self) -> bool:
        """Whether the device that JAX uses is a GPU."""
        return report.device().platform == "gpu"

    @property
    def torch_device(self) -> str:
        """Name in torch of the device that JAX uses."""
        return "cuda" if self.on_gpu else "cpu"

    def wait_for_torch(self, results: Any) -> None:
        """Waits for torch's GPU; on a CPU torch is synchronous."""
        if self.on_gpu:
            self.torch.cuda.synchronize()


def no_drop(key: jax.Array, x: jax.Array, rate: float, dims: Dims = ()) -> jax.Array:
    """Identity: no dropout."""
    return x


def load(quick: bool) -> tuple[Setting, list[str]]:
    """Contenders that are installed, and the names of those that are not."""
    drops: dict[str, Drop] = {OURS: ours}
    missing = []
    for name, loader in _LOADERS.items():
        try:
            drops[name] = loader()
        except ImportError:
            missing.append(name)
    try:
        torch = importlib.import_module("torch")
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    except ImportError:
        torch = None
        missing.append("torch")
    setting = Setting(drops, torch, quick)
    if torch is not None and setting.on_gpu and not torch.cuda.is_available():
        setting.torch = None
        missing.append("torch for this GPU")
    return setting, missing
