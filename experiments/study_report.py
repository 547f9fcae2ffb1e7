"""A study carried out and published: one table and two plots."""

import time
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from etils import epath
from matplotlib.figure import Figure

from experiments import hosts, loop, plots, report
from experiments.means import Mean
from experiments.study import NO_VERDICT, Row, Study, run


def conduct(
    study: Study,
    folder: epath.Path,
    caption: str,
    conclude: Callable[[list[Row]], tuple[dict[str, Any], str]] = lambda rows: ({}, ""),
    save_every: float = loop.SECONDS_BETWEEN_CHECKPOINTS,
) -> None:
    """Runs a study and publishes its results.

    Args:
      study: The study.
      folder: The folder to write to.
      caption: The caption of the table, after the sentences that all tables share.
      conclude: From the rows to further metrics, and to text printed after the table.
      save_every: The least seconds between two checkpoints.

    Raises:
      BadInputError: If the devices do not divide the runs of a program.
    """
    for program in study.programs:
        hosts.mesh(study.setup.devices, len(program.settings()) * study.seeds)
    settings = [(program.settings(), program.steps) for program in study.programs]
    config = study.config | {"settings": settings}
    with loop.resumable(folder, config, (study.rows, study.pool)) as checkpoints:
        started = time.monotonic()
        rows = run(study, checkpoints, save_every)
        metrics, note = conclude(rows)
        metrics |= {"config": study.config, "published": study.published}
        shared = (
            f"Mean ± standard error over {study.seeds} seeds. Chosen: by the validation score. Vs "
            f"{study.versus}: the difference of the test scores, paired by seed; the verdict is at two "
            "standard errors."
        )
        report.publish(
            folder,
            [table(study, rows, f"{shared} {caption}")],
            {"learning_curves": plot_curves(study, rows), "comparison": plot_comparison(study, rows)},
            metrics | {"methods": [row.metrics() for row in rows]},
            started=started,
            note=note,
        )


def table(study: Study, rows: list[Row], caption: str = "") -> report.Table:
    """Table with a row for each method."""
    header = ["method", "chosen", *study.columns.values(), f"vs {study.versus}", "verdict"]
    return report.Table(study.title, header, [_cells(study, row) for row in rows], caption)


def _cells(study: Study, row: Row) -> list[str]:
    def shown(key: str) -> str:
        if key == "published":
            value = study.published.get(row.method.name)
            return NO_VERDICT if value is None else f"{value:.{study.digits}f}"
        # Shares of weights need one digit less than errors.
        return row.means[key].show(study.factor, study.digits - (key in study.measures))

    setting = ", ".join(
        f"{study.names.get(name, name)}\u00a0{value:g}" for name, value in row.setting.items()
    )
    difference = NO_VERDICT if row.verdict == NO_VERDICT else shown("difference")
    columns = map(shown, study.columns)
    return [row.method.name, setting or NO_VERDICT, *columns, difference, row.verdict]


def plot_curves(study: Study, rows: list[Row]) -> Figure:
    """Training and validation scores over the steps, one panel per method, beside those of its baseline."""
    columns = len(rows) if len(rows) <= 4 else -(-len(rows) // 2)
    shape = (-(-len(rows) // columns), columns)
    size = (3.2 * columns, 0.8 + 2.7 * shape[0])
    figure, axes = plt.subplots(*shape, figsize=size, sharey=True, squeeze=False)
    validation = {row.method.name: study.factor * row.curves[..., 1].mean(1) for row in rows}
    for axis, row in zip(axes.flat, rows, strict=False):
        steps = row.steps // study.chunks * np.arange(1, study.chunks + 1)
        for part, name in enumerate(("training", "validation")):
            plots.draw_mean(axis, steps, study.factor * row.curves[..., part], part, name, marks=False)
        if row.method.name != row.method.baseline:
            look = {"color": plots.GRAY, "ls": ":", "label": "validation of the baseline"}
            axis.plot(steps, validation[row.method.baseline], **look)
        axis.set_title(row.method.name)
        axis.set_xlabel("step")
    for axis in axes.flat[len(rows) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_ylabel(study.score)
    # The first scores would take up most of the height.
    late = study.factor * np.array([row.curves[study.chunks // 10 :].mean(1) for row in rows])
    margin = 0.04 * (late.max() - late.min())
    axes[0, 0].set_ylim(late.min() - margin, late.max() + margin)
    plots.add_legend(figure)
    figure.suptitle(f"{study.title}: mean ± standard error over {study.seeds} seeds, without noise")
    return figure


def plot_comparison(study: Study, rows: list[Row]) -> Figure:
    """Test scores and differences from the baselines, with their standard errors."""

    def scaled(row: Row, name: str) -> Mean:
        return Mean(*(study.factor * value for value in row.means[name]))

    return plots.comparison(
        {row.method.name: row.verdict for row in rows},
        [scaled(row, "test") for row in rows],
        [None if row.verdict == NO_VERDICT else scaled(row, "difference") for row in rows],
        (f"test {study.score}", f"{study.score} minus {study.versus}, paired by seed"),
        f"{study.title}: mean ± standard error over {study.seeds} seeds",
        study.published,
    )
