"""Checks of penalty strengths."""

from typing import Any

import numpy as np

from jaxdrop import _checks
from jaxdrop._types import Numeric


def check_strength(strength: Numeric) -> Any:
    """A finite, non-negative scalar."""
    return _checks.check_nonnegative(_checks.check_scalar(strength, "strength"), "strength")


def check_pair(strength: Any) -> tuple[Any, Any]:
    """The L1 and L2 strengths, still unchecked; one value alone is both."""
    several = isinstance(strength, tuple | list) or (not callable(strength) and np.ndim(strength) > 0)
    pair: Any = strength if several else (strength, strength)
    if len(pair) != 2:
        raise ValueError(f"`strength` must be a scalar or a pair (l1, l2), got {strength!r}.")
    return pair[0], pair[1]
