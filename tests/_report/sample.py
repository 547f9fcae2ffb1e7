"""A page with a part of every kind."""

import numpy as np
from matplotlib.figure import Figure

from jaxdrop._report.blocks import Card, Cards, Code, Page, Picture, Section, Table, Text


def drawn() -> Figure:
    """Error bars, a row of bars, a band around a line, and a legend."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax = figure.add_subplot()
    ax.bar([0.25, 0.75], [0.4, 0.6], width=0.5, color="0.85", label="share")
    ax.errorbar([0.25, 0.75], [0.2, 0.7], [0.05, 0.04], fmt="o", capsize=3, color="#0072B2", label="accuracy")
    x = np.linspace(0, 1, 5)
    ax.plot(x, x, color="#D55E00", ls="--", label="diagonal")
    ax.fill_between(x, x - 0.1, x + 0.1, color="#D55E00", alpha=0.2)
    ax.set_xlabel("confidence")
    ax.set_ylabel("accuracy")
    ax.legend()
    return figure


def page() -> Page:
    """The page; each call draws anew."""
    scores = Table(
        "Scores with standard errors",
        ["score", "value", "better"],
        [["accuracy", "0.9500 ± 0.0100", "higher"], ["log-loss", "0.1500 ± 0.0200", "lower"]],
        [["accuracy", 0.95, "higher"], ["log-loss", 0.15, "lower"]],
    )
    sites = Table(
        "Sites",
        ["site", "rate", "time", "count"],
        [
            ["Dropout_2", 0.5, "1.5 s", "1,200"],
            ["Dropout_10", "-", "250 ms", "30"],
            ["Block_0", 1e-05, "2 min", "900"],
            ["Dropout_1", 0.5, "", "-4"],
        ],
    )
    wide = Table("Many columns", [f"column {i}" for i in range(14)], [[i + 0.125 for i in range(14)]])
    values = Table(
        "accuracy by confidence", ["confidence", "accuracy"], [[0.25, 0.2], [0.75, 0.7]], folded=True
    )
    images = [
        Card(f"Example {i}", image=np.full((4, 4), i / 4), lines=["predicted 3, target 8"], alt=f"digit {i}")
        for i in range(3)
    ]
    texts = [
        Card("Example 7", text="A film that begins slowly. " * 30, lines=["predicted positive"]),
        Card("Example 9", text="\u202emorf left \u0646\u0635 \U0001f600"),
        Card("Example 8", row={"age": 51, "a long name of a column of the data": 1e-05}),
    ]
    return Page(
        "Report of a network",
        ["64 samples were enough.", "Accuracy is 0.95 ± 0.01."],
        [
            Section("Scores", [scores, Text("Body."), Text("A note.", "note"), Text("Mind it.", "warning")]),
            Section("Calibration", [Picture("Reliability", drawn(), "Accuracy follows confidence.", values)]),
            Section("Sites", [sites, wide, Picture("Again", drawn(), "The same.")]),
            Section("Examples", [Cards("Images", images), Cards("Texts and rows", texts)]),
            Section("Command", [Code("python -m jaxdrop report --out " + "long/" * 60)]),
        ],
    )
