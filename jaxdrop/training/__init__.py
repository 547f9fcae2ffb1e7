"""Training: an init/step pair, compiled once; the same under `vmap` as a sweep; the choice of a setting."""

from jaxdrop.training.choices import Choice, choose, grid
from jaxdrop.training.trainer import LossFn, Recipe, StatefulLossFn, Trainer, TrainState, sweep, trainer
from jaxdrop.training.tuning import BatchFn, ScoreFn, Tuned, tune

__all__ = [
    "BatchFn",
    "Choice",
    "LossFn",
    "Recipe",
    "ScoreFn",
    "StatefulLossFn",
    "TrainState",
    "Trainer",
    "Tuned",
    "choose",
    "grid",
    "sweep",
    "trainer",
    "tune",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
