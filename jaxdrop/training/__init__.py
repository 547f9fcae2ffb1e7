"""Training: an init/step pair, compiled once; the same under `vmap` as a sweep; the choice of a setting."""

from jaxdrop.training.choices import Choice, choose, grid
from jaxdrop.training.trainer import LossFn, Recipe, StatefulLossFn, Trainer, TrainState, sweep, trainer

__all__ = [
    "Choice",
    "LossFn",
    "Recipe",
    "StatefulLossFn",
    "TrainState",
    "Trainer",
    "choose",
    "grid",
    "sweep",
    "trainer",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
