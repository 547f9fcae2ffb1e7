"""Structured dropout: whole channels, blocks, residual branches or tokens."""
# ruff: noqa: D101 - docstrings without examples stand in `jaxdrop._modules`.

from jaxdrop._modules import structured
from jaxdrop.nnx._shell import Shell

__all__ = [
    "Cutout",
    "DropBlock",
    "DropPath",
    "FeatureAlphaDropout",
    "PatchDropout",
    "ShakeDrop",
    "SpatialDropout",
]


class SpatialDropout(structured.SpatialDropout, Shell): ...


class FeatureAlphaDropout(structured.FeatureAlphaDropout, Shell): ...


class DropPath(structured.DropPath, Shell): ...


class ShakeDrop(structured.ShakeDrop, Shell): ...


class DropBlock(structured.DropBlock, Shell): ...


class PatchDropout(structured.PatchDropout, Shell): ...


class Cutout(structured.Cutout, Shell): ...
