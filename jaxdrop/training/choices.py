"""The settings of a sweep, and the choice of one from their validation scores."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike

__all__ = ["Choice", "choose", "grid"]


class Choice(NamedTuple):
    """A chosen setting, and the table that it was chosen from.

    Attributes:
      setting: Hyper-parameters of the chosen setting, by name.
      settings: Hyper-parameters of all settings, by name: arrays `[S]`, in the order of the runs.
      mean: Mean score of each setting, `[S]`.
      standard_error: Standard error of each mean, `[S]`; NaN for a single run.
      rank: Place of each run's setting by the mean, `[runs]`: 0 has the lowest. Settings that failed
        come last.
    """

    setting: Mapping[str, float]
    settings: Mapping[str, np.ndarray]
    mean: np.ndarray
    standard_error: np.ndarray
    rank: np.ndarray


def grid(**axes: Sequence | ArrayLike) -> Mapping[str, jax.Array]:
    """Makes every combination of hyper-parameter values; the last name varies fastest.

    Args:
      **axes: For each name, its values: a non-empty sequence of scalars.

    Returns:
      Mapping from each name to an array with one value per combination.

    Raises:
      ValueError: If an axis is empty or not one-dimensional.

    Examples:
      >>> grid(seed=[0, 1], rate=[0.0, 0.5])["rate"]
      Array([0. , 0.5, 0. , 0.5], dtype=float32)
    """
    columns = {name: jnp.asarray(values) for name, values in axes.items()}
    for name, column in columns.items():
        if column.ndim != 1 or column.size == 0:
            raise ValueError(f"`{name}` must be a non-empty list of scalars, got shape {column.shape}.")
    meshes = jnp.meshgrid(*columns.values(), indexing="ij")
    return {name: mesh.ravel() for name, mesh in zip(columns, meshes, strict=True)}


def choose(
    hyper: Mapping[str, Sequence | ArrayLike],
    scores: Sequence | ArrayLike,
    *,
    over: str | None = "seed",
    simpler: str | Sequence[str] = (),
) -> Choice:
    """Chooses the hyper-parameters of a sweep by validation scores, such as the dropout rate.

    Without `simpler` it is the setting of the lowest mean score. With `simpler` it is the one-standard-error
    rule: among the settings whose mean is at most one standard error above the lowest mean, the simplest.
    The standard error is that of the lowest mean, over its runs. A setting with a score that is not
    finite has failed and is not chosen.

    The best of many scores is too good by chance: report the chosen setting on a test part.

    Args:
      hyper: Hyper-parameters by name, arrays `[runs]`, such as from `grid` or `TrainState.hyper`.
      scores: A validation score of each run, `[runs]`: an error or a loss, lower is better. Negate an
        accuracy.
      over: Name whose values are repetitions of a setting, not a choice; None if there is none.
      simpler: Names whose larger values are simpler, the most important first: ("rate", "decay")
        prefers the strongest dropout.

    Returns:
      A `Choice`.

    Raises:
      ValueError: If the arrays do not have one axis of the same size, a name is not in `hyper`, all
        settings failed, or `simpler` is given and the best setting has a single run.

    References:
      Breiman, Friedman, Olshen and Stone, "Classification and regression trees", 1984, section 3.4.3
      (the rule).

    Examples:
      >>> hyper = {"seed": [0, 1, 0, 1, 0, 1], "rate": [0.0, 0.0, 0.2, 0.2, 0.5, 0.5]}
      >>> choice = choose(hyper, [0.30, 0.34, 0.20, 0.24, 0.21, 0.25])
      >>> choice.setting, choice.mean, choice.standard_error
      ({'rate': 0.2}, array([0.32, 0.22, 0.23]), array([0.02, 0.02, 0.02]))
      >>> choose(hyper, [0.30, 0.34, 0.20, 0.24, 0.21, 0.25], simpler="rate").setting
      {'rate': 0.5}
      >>> choice.rank < 2  # the runs that successive halving would keep
      array([False, False,  True,  True,  True,  True])
    """
    simpler = (simpler,) if isinstance(simpler, str) else tuple(simpler)
    columns = {name: np.asarray(values) for name, values in hyper.items()}
    scores = np.asarray(scores, np.float64)
    _check_columns(columns, scores)
    if over is not None and over not in columns:
        raise ValueError(
            f"`over` must be one of {', '.join(map(repr, columns))}, or None if no name repeats a setting, "
            f"got {over!r}."
        )
    for name in simpler:
        _checks.check_choice(name, list(columns), "simpler")
    if over in simpler:
        raise ValueError(f"`simpler` must not name the repetitions, got {over!r}.")
    names = [name for name in columns if name != over]
    runs = list(zip(*(columns[name].tolist() for name in names), strict=True)) or [()] * len(scores)
    settings = list(dict.fromkeys(runs))
    of_run = np.array([settings.index(run) for run in runs])
    groups = [scores[of_run == i] for i in range(len(settings))]
    mean = np.array([group.mean() for group in groups])
    counts = np.array([len(group) for group in groups])
    with np.errstate(invalid="ignore"):  # infinite scores
        spread = np.array([group.std(ddof=1) if len(group) > 1 else np.nan for group in groups])
    error = spread / np.sqrt(counts)
    order = np.argsort(np.where(np.isfinite(mean), mean, np.inf), kind="stable")
    best = chosen = int(order[0])
    if not np.isfinite(mean[best]):
        raise ValueError("`scores` must be finite for all runs of at least one setting, got none.")
    if simpler:
        if counts[best] < 2:
            raise ValueError(
                "`scores` must be of two or more runs of the best setting for the one-standard-error rule, "
                "got 1."
            )
        near = [int(i) for i in order if mean[i] <= mean[best] + error[best]]
        chosen = max(near, key=lambda i: [settings[i][names.index(name)] for name in simpler])
    table = {name: np.array([setting[k] for setting in settings]) for k, name in enumerate(names)}
    return Choice(
        dict(zip(names, settings[chosen], strict=True)), table, mean, error, np.argsort(order)[of_run]
    )


def _check_columns(columns: Mapping[str, np.ndarray], scores: np.ndarray) -> None:
    if scores.ndim != 1 or not scores.size:
        raise ValueError(f"`scores` must be an array [runs], got shape {scores.shape}.")
    for name, column in columns.items():
        if column.shape != scores.shape:
            raise ValueError(
                f"`hyper` must hold arrays of the shape of `scores`, {scores.shape}, got {column.shape} for "
                f"{name!r}."
            )
