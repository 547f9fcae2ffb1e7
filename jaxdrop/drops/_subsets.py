"""Sizes of random subsets."""


def kept_count(total: int, rate: float, name: str) -> int:
    """The number of items kept of `total`: `total * (1 - rate)` rounded down, and at least one.

    The slack of 1e-6 covers rates that a float cannot hold: of ten, a rate of 0.7 keeps three.
    """
    if total < 1:
        raise ValueError(f"`{name}` must hold at least one item to keep, got {total}.")
    return max(1, int(total * (1 - rate) + 1e-6))
