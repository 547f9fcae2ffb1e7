"""A model with variables from a file: .safetensors, or a folder of orbax."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import flax.linen
import flax.nnx
import jax
import numpy as np

from jaxdrop import linen, nnx
from jaxdrop._commands.app import BadInputError
from jaxdrop._types import ArrayLike, PyTree

# Endings that a stored tree may have for a leaf of NNX.
_HELD = ("value", "raw_value")


def predictor(model: object, path: Path, x: PyTree, arguments: Mapping[str, PyTree]) -> PyTree:
    """`predict(key, x)` of a Linen or NNX module with stored variables.

    Args:
      model: The module.
      path: A .safetensors file, or a folder of orbax.
      x: A batch of the inputs.
      arguments: Further arguments of the call.
    """
    if isinstance(model, flax.linen.Module):
        module = model
        like = jax.eval_shape(lambda key, x: module.init(key, x, **arguments), jax.random.key(0), x)
        variables = matched(like, read(path), optional="params")
        return linen.stochastic(module, variables, x, **arguments)
    if isinstance(model, flax.nnx.Module):
        graph, rngs, state = flax.nnx.split(model, flax.nnx.RngState, ...)
        pure = matched(flax.nnx.to_pure_dict(state), read(path))
        flax.nnx.replace_by_pure_dict(state, pure)
        return nnx.stochastic(flax.nnx.merge(graph, rngs, state), x, **arguments)
    raise BadInputError(
        f"`model` must be a function that returns a Linen or NNX module, got {type(model).__name__}."
    )


def read(path: Path) -> dict[tuple[str, ...], ArrayLike]:
    """The stored arrays by path; names of a .safetensors file are one part."""
    if path.is_dir():
        import orbax.checkpoint  # comes with Flax; takes long to import

        try:
            with orbax.checkpoint.StandardCheckpointer() as checkpointer:
                stored = checkpointer.restore(path.absolute())
        except (ValueError, KeyError, OSError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BadInputError(f"`variables` must be a checkpoint of orbax, got {path}: {reason}") from None
        leaves = jax.tree_util.tree_leaves_with_path(stored)
        return {tuple(map(_part, keys)): leaf for keys, leaf in leaves}
    if path.suffix != ".safetensors" or not path.is_file():
        raise BadInputError(f"`variables` must be a .safetensors file or a folder of orbax, got {path}.")
    try:
        import safetensors
        import safetensors.flax
    except ImportError:
        raise BadInputError(
            '`variables` in a .safetensors file need safetensors; run `pip install "jaxdrop[report]"`.'
        ) from None
    try:
        return {(name,): array for name, array in safetensors.flax.load_file(path).items()}
    except safetensors.SafetensorError as error:
        raise BadInputError(f"`variables` must be a .safetensors file, got {path}: {error}") from None


def matched(like: PyTree, stored: Mapping[tuple[str, ...], ArrayLike], optional: str | None = None) -> PyTree:
    """A tree of stored arrays, with the structure, shapes and dtypes of another.

    Args:
      like: The tree, of arrays or of their types.
      stored: Arrays by path.
      optional: A first part that stored paths may lack.
    """
    by_name = {_name(path): array for path, array in stored.items()}
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    names, missing = {}, []
    for keys, _ in leaves:
        path = [_part(key) for key in keys]
        names[tuple(path)] = next((name for name in _candidates(path, optional) if name in by_name), None)
        if names[tuple(path)] is None:
            missing.append("/".join(path))
    used = {name for name in names.values() if name is not None}
    unknown = [name for name in by_name if name not in used]
    if missing or unknown:
        parts = {"without": missing, "with the unknown": unknown}
        words = " and ".join(f"{word} {_some(some)}" for word, some in parts.items() if some)
        raise BadInputError(f"`variables` must hold those of the model, got some {words}.")
    found = []
    for (_, leaf), (path, name) in zip(leaves, names.items(), strict=True):
        array = by_name[name or ""]
        if np.shape(array) != leaf.shape or np.dtype(array.dtype) != np.dtype(leaf.dtype):
            raise BadInputError(
                f"`variables` must have shape {leaf.shape} and dtype {leaf.dtype} at {'/'.join(path)}, got "
                f"{np.shape(array)} and {array.dtype}."
            )
        found.append(jax.numpy.asarray(array))
    return jax.tree_util.tree_unflatten(structure, found)


def _part(key: PyTree) -> str:
    """A key, index or field of a path as text."""
    return str(next(getattr(key, kind) for kind in ("key", "idx", "name") if hasattr(key, kind)))


def _name(path: Sequence[str]) -> str:
    """Names joined by dots are those joined by slashes."""
    return "/".join(part.replace(".", "/") for part in path)


def _candidates(path: Sequence[str], optional: str | None) -> list[str]:
    """The names that a leaf may have in a file."""
    paths = [path, *([path[1:]] if optional is not None and path[0] == optional else [])]
    return [_name(one) for short in paths for one in (short, *([*short, end] for end in _HELD))]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
