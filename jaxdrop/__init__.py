"""Dropout and its relatives for JAX: pure functions of explicit PRNG keys, and Monte-Carlo uncertainty.

`jaxdrop.linen` and `jaxdrop.nnx`, the Flax modules, load at first use: `import jaxdrop` imports no Flax.
So do `jaxdrop.plots` and `jaxdrop.report`, which need extras and are therefore not listed in `__all__`.
"""

import importlib
import importlib.metadata
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

from jaxdrop import (
    _exports,
    adapters,
    drops,
    losses,
    masks,
    mc,
    optim,
    penalties,
    schedules,
    training,
    uncertainty,
)
from jaxdrop.drops import *
from jaxdrop.masks import *

if TYPE_CHECKING:
    from jaxdrop import linen, nnx
    from jaxdrop import plots as plots
    from jaxdrop._report.reporting import report as report

__all__ = [
    "adapters",
    "linen",
    "losses",
    "mc",
    "nnx",
    "optim",
    "penalties",
    "schedules",
    "training",
    "uncertainty",
]
__all__ += drops.__all__
__all__ += masks.__all__

_exports.register()

try:
    __version__ = importlib.metadata.version("jaxdrop")
except importlib.metadata.PackageNotFoundError:  # A checkout that is not installed.
    __version__ = "unknown"


def __getattr__(name: str) -> ModuleType | FunctionType:
    """Imports `linen`, `nnx`, `plots` and `report` at first use."""
    if name in ("linen", "nnx", "plots"):
        return importlib.import_module(f"jaxdrop.{name}")
    if name == "report":
        return importlib.import_module("jaxdrop._report.reporting").report
    raise AttributeError(f"module 'jaxdrop' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return __all__
