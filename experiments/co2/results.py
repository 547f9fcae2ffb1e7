"""Errors and uncertainty of the networks: at training points, at held-out points, and far away; in ppm."""

from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import plots
from experiments.co2 import networks
from experiments.means import Mean
from jaxdrop import uncertainty

SCALED, MC = "weight scaling", "MC dropout"
# The published series is standardized: (CO2 - 325.494 - 6.955 time) / 2.135, to .01 ppm, of the 272 monthly
# means of Mauna Loa from March 1958 to March 1981 that were measured. The time counts these months. Five were
# not measured, the last in April 1964: years are right from May 1964 on, and up to .4 too late before.
PPM = 2.135
YEAR, YEARS = 1969.917, 6.5432
# Heading, factor and digits of each measure.
MEASURES = {
    "rmse_seen": ("RMSE, training points (ppm)", 1, 2),
    "rmse_held_out": ("RMSE, held-out points (ppm)", 1, 2),
    "nll_held_out": ("NLL, held-out points (nats)", 1, 2),
    "covered": ("coverage of held-out points (%)", 100, 1),
    "deviation_seen": ("deviation at training points (ppm)", 1, 2),
    "deviation_held_out": ("deviation at held-out points (ppm)", 1, 2),
    "deviation_far": ("deviation far away (ppm)", 1, 2),
}
UNITS = ("year", "CO2 without its trend (ppm)")
Table = tuple[list[str], list[list[str]]]


class Series(NamedTuple):
    """Series of points and the inputs of its curves, standardized or in years and ppm.

    Attributes:
      x: The inputs, ascending, `[N]`.
      y: The targets.
      grid: The inputs of the curves.
      kept: The number of points trained on, the first ones.
    """

    x: np.ndarray
    y: np.ndarray
    grid: np.ndarray
    kept: int

    def at(self) -> np.ndarray:
        """Inputs to predict at: the points, then the grid."""
        return np.concatenate([self.x, self.grid])

    def far(self) -> np.ndarray:
        """Places of the last fifth of the grid among all inputs."""
        return len(self.x) + np.arange(len(self.grid))[-len(self.grid) // 5 :]

    def in_units(self) -> "Series":
        """The series in years and ppm, from a standardized one."""
        return Series(YEAR + YEARS * self.x, PPM * self.y, YEAR + YEARS * self.grid, self.kept)


def in_ppm(curves: networks.Curves) -> networks.Curves:
    """Curves in ppm, from standardized ones."""
    return jax.tree.map(lambda values: PPM * np.asarray(values), curves)


def summarize(series: Series, curves: networks.Curves) -> dict[str, dict[str, np.ndarray]]:
    """Measures by seed, for weight scaling and for Monte-Carlo dropout.

    Likelihood and coverage use the variance of the samples plus that of the training residuals, the noise.
    Weight scaling has the noise alone. A deviation excludes the noise.
    """
    seen, held, far = np.arange(series.kept), np.arange(series.kept, len(series.x)), series.far()
    rows = {}
    for name, mean in ((SCALED, curves.scaled), (MC, curves.mean)):
        deviation = curves.deviation if name == MC else np.zeros_like(curves.mean)
        wrong = mean[:, : len(series.x)] - series.y
        noise = (wrong[:, seen] ** 2).mean(-1, keepdims=True)
        variance = noise + deviation[:, held] ** 2
        nll = np.asarray(uncertainty.gaussian_nll(mean[:, held], variance, series.y[held] + 0 * variance))
        rows[name] = {
            "rmse_seen": np.sqrt(noise[:, 0]),
            "rmse_held_out": np.sqrt((wrong[:, held] ** 2).mean(-1)),
            "nll_held_out": nll.mean(-1),
            "covered": (np.abs(wrong[:, held]) <= 2 * np.sqrt(variance)).mean(-1),
            "deviation_seen": deviation[:, seen].mean(-1),
            "deviation_held_out": deviation[:, held].mean(-1),
            "deviation_far": deviation[:, far].mean(-1),
        }
    return rows


def table(rows: dict[str, dict[str, dict[str, np.ndarray]]]) -> Table:
    """Header and rows: a row for each measure, a column for each activation and kind of prediction."""
    columns = {(activation, way): row for activation, ways in rows.items() for way, row in ways.items()}
    body = []
    for key, (heading, factor, digits) in MEASURES.items():
        cells = []
        for (_, way), row in columns.items():
            still = way == SCALED and key.startswith("deviation")
            cells.append("-" if still else Mean.of(row[key]).show(factor, digits))
        body.append([heading, *cells])
    return ["", *(f"{activation}, {way}" for activation, way in columns)], body


def claims(rows: dict[str, dict[str, dict[str, np.ndarray]]]) -> list[dict[str, Any]]:
    """Claims of the paper, as differences paired by seed."""
    found = []
    for activation in rows:
        row = rows[activation][MC]
        said = "grows" if activation == "ReLU" else "stays bounded"
        asked = f"{activation}: deviation far away minus that at training points; in the paper it {said}"
        found.append(_claim(asked, row["deviation_far"] - row["deviation_seen"]))
    apart = rows["ReLU"][MC]["deviation_far"] - rows["tanh"][MC]["deviation_far"]
    found.append(_claim("deviation far away, ReLU minus tanh; in the paper ReLU's is larger", apart))
    for activation, of_way in rows.items():
        better = of_way[MC]["nll_held_out"] - of_way[SCALED]["nll_held_out"]
        found.append(
            _claim(f"{activation}: NLL of the held-out points, MC dropout minus weight scaling", better)
        )
    return found


def _claim(asked: str, difference: np.ndarray) -> dict[str, Any]:
    mean = Mean.of(difference)
    return {"asked": asked, "difference": mean, "verdict": mean.verdict("lower", "higher")}


def claims_table(found: list[dict[str, Any]]) -> Table:
    """Header and rows: a row for each claim."""
    body = [[claim["asked"], claim["difference"].show(), claim["verdict"]] for claim in found]
    return ["", "difference", "verdict"], body


def plot_training(series: Series, curves: dict[str, networks.Curves], steps: int, title: str) -> Figure:
    """Error at the training points over the steps, compared with that of their mean."""
    figure, axis = plt.subplots(figsize=(1.4 * plots.WIDTH, plots.HEIGHT))
    at = steps // networks.CHUNKS * np.arange(1, networks.CHUNKS + 1)
    for i, (activation, found) in enumerate(curves.items()):
        plots.draw_mean(axis, at, found.learned.T, i, activation)
    constant = series.y[: series.kept].std()
    axis.axhline(constant, color=plots.GRAY, ls=":", label="the mean of the points")
    axis.set_xlabel("training step")
    axis.set_ylabel("RMSE at the training points (ppm)")
    axis.set_ylim(bottom=0)
    axis.legend()
    figure.suptitle(title)
    return figure


def plot(series: Series, curves: dict[str, networks.Curves], title: str) -> Figure:
    """Curves of the first seed, one panel per activation and kind of prediction."""
    bands = {}
    grid = slice(len(series.x), None)
    for activation, found in curves.items():
        bands[f"{activation}, {SCALED}"] = plots.Band(found.scaled[0, grid])
        bands[f"{activation}, {MC}"] = plots.Band(found.mean[0, grid], found.deviation[0, grid])
    seen, held = slice(series.kept), slice(series.kept, None)
    figure = plots.uncertainty_band(
        series.grid,
        bands,
        train=(series.x[seen], series.y[seen]),
        held_out=(series.x[held], series.y[held]),
        title=title,
        labels=UNITS,
    )
    low, high = series.y.min(), series.y.max()
    figure.axes[0].set_ylim(low - 1.2 * (high - low), high + 1.2 * (high - low))
    return figure
