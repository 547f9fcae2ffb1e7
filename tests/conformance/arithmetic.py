"""What the tests against the peers share: the standard error, and what the usual DropBlock drops."""

import numpy as np


def assert_mean(values, expected: float, errors: float = 5) -> None:
    """The mean of independent values (along axis 0) is what is expected, within 5 standard errors."""
    values = np.asarray(values, np.float64)
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    assert (np.abs(values.mean(0) - expected) <= errors * error).all(), (values.mean(0), expected, error)


def usual_block_share(height: int, side: int, rate: float, *, everywhere: bool) -> float:
    """The share of a square map that is dropped at the paper's rate of centers, in expectation, exactly.

    An element is kept if none of the n centers within half a block of it is drawn: (1 - gamma)**n.
    Centers lie everywhere, as in timm, or where their block is whole, as in torchvision.
    """
    gamma = rate * height**2 / (side**2 * (height - side + 1) ** 2)
    border, place = (0 if everywhere else side // 2), np.arange(height)
    low, high = np.maximum(place - side // 2, border), np.minimum(place + side // 2, height - 1 - border)
    n = np.multiply.outer(high - low + 1, high - low + 1)
    return float(1 - ((1 - gamma) ** n).mean())
