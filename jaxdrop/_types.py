"""Type names for arguments and results.

Docstrings give shapes and ranges. A PRNG key is a `jax.Array` to Python's type system, so a type
checker cannot distinguish it from JAX data.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

# A typed PRNG key, or the words of an untyped one.
Key = jax.Array
# An array of JAX or NumPy, as data.
ArrayLike = jax.Array | np.ndarray
# A real number, or an array of them: traced or concrete.
Numeric = ArrayLike | np.number | np.bool_ | float | int
# The probability of dropping, in [0, 1].
Rate = Numeric
# Random bits per element; None chooses 16 or 24 by the rate.
Bits = Literal[8, 16, 24, 32] | None
# Queries in a block of attention, at most; None: all.
BlockSize = int | Literal["auto"] | None
# The axis or axes whose indices are the units of a kernel; None: as the name of each leaf tells.
UnitAxis = int | Sequence[int] | None
# Leaves that stack layers: (pattern of a path, axis or axes along which the layers lie) pairs.
Stacked = Sequence[tuple[str, int | Sequence[int]]]
# A tree of arrays: nested dicts, lists, tuples, dataclasses, NNX states.
PyTree = Any
# Leaves of a tree: a predicate on path and leaf, (pattern, share) pairs, or a tree of booleans.
Where = Callable[[str, Any], bool] | Sequence[tuple[str, Numeric]] | PyTree
