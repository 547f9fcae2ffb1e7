"""How wrong and how sure the networks are: on what they saw, on what comes after, and far away."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import plots, report
from experiments.co2 import networks
from experiments.regularizers.__main__ import verdict
from jaxdrop import uncertainty

SCALED, MC = "weight scaling", "MC dropout"
# Each measure: its heading, a factor and digits.
MEASURES = {
    "rmse_seen": ("RMSE of the points seen", 1, 2),
    "rmse_held_out": ("RMSE of those held out", 1, 2),
    "nll_held_out": ("NLL of those held out", 1, 2),
    "covered": ("covered of those held out (%)", 100, 1),
    "deviation_seen": ("deviation at the points seen", 1, 2),
    "deviation_held_out": ("deviation at those held out", 1, 2),
    "deviation_far": ("deviation far away", 1, 2),
}
WORDS = {"helps": "lower", "hurts": "higher"}


class Series(NamedTuple):
    """Points, the first of which are trained on, and where curves are drawn.

    Attributes:
      x: The inputs, ascending, `[N]`.
      y: The targets.
      grid: Where the curves are drawn.
      kept: How many points are trained on.
    """

    x: np.ndarray
    y: np.ndarray
    grid: np.ndarray
    kept: int

    def at(self) -> np.ndarray:
        """All inputs to predict at: the points, then the grid."""
        return np.concatenate([self.x, self.grid])

    def far(self) -> np.ndarray:
        """The places of the last fifth of the grid among all inputs."""
        return len(self.x) + np.arange(len(self.grid))[-len(self.grid) // 5 :]


def summarise(series: Series, curves: networks.Curves) -> dict[str, dict[str, np.ndarray]]:
    """For both ways to predict, each measure by seed.

    To the variance of the samples that of the residuals of the points seen is added, as the noise, for
    likelihood and coverage; weight scaling has that alone. A deviation is that of the function alone.
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


def table(rows: dict[str, dict[str, dict[str, np.ndarray]]]) -> tuple[list[str], list[list[str]]]:
    """A row for each measure, a column for each activation and way to predict."""
    columns = {(activation, way): row for activation, ways in rows.items() for way, row in ways.items()}
    body = []
    for key, (heading, factor, digits) in MEASURES.items():
        cells = []
        for (_, way), row in columns.items():
            mean, error = report.mean_and_error(factor * row[key])
            still = way == SCALED and key.startswith("deviation")
            cells.append("-" if still else f"{mean:.{digits}f}±{error:.{digits}f}")
        body.append([heading, *cells])
    return ["", *(f"{activation}, {way}" for activation, way in columns)], body


def claims(rows: dict[str, dict[str, dict[str, np.ndarray]]]) -> list[dict[str, Any]]:
    """What the paper sees, as differences paired by seed."""
    found = []
    for activation in rows:
        row = rows[activation][MC]
        said = "grows" if activation == "ReLU" else "stays bounded"
        asked = f"{activation}: the deviation far away less that of the points seen; in the paper it {said}"
        found.append(_claim(asked, row["deviation_far"] - row["deviation_seen"]))
    apart = rows["ReLU"][MC]["deviation_far"] - rows["tanh"][MC]["deviation_far"]
    found.append(_claim("the deviation far away, ReLU less tanh; in the paper ReLU's is the larger", apart))
    for activation, of_way in rows.items():
        better = of_way[MC]["nll_held_out"] - of_way[SCALED]["nll_held_out"]
        found.append(
            _claim(f"{activation}: NLL of the held out points, MC dropout less weight scaling", better)
        )
    return found


def _claim(asked: str, difference: np.ndarray) -> dict[str, Any]:
    mean, error = map(float, report.mean_and_error(difference))
    word = verdict(mean, error)
    return {"asked": asked, "difference": mean, "error": error, "verdict": WORDS.get(word, word)}


def claims_table(found: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A row for each claim."""
    return ["", "difference", "verdict"], [
        [claim["asked"], f"{claim['difference']:.2f}±{claim['error']:.2f}", claim["verdict"]]
        for claim in found
    ]


def plot(series: Series, curves: dict[str, networks.Curves], title: str, unit: tuple[str, str]) -> Figure:
    """The curves of the first seed, a panel for each activation and way to predict."""
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
        labels=unit,
    )
    low, high = series.y.min(), series.y.max()
    figure.axes[0].set_ylim(low - 1.2 * (high - low), high + 1.2 * (high - low))
    return figure
