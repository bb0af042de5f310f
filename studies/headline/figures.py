"""The figures of the headline table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from nmsim.report import style
from studies.headline.costs import MACHINES
from studies.headline.table import front
from studies.output import save_figures
from studies.recipes.figures import NAMED, TITLES
from studies.recipes.points import LENGTHENED, RANKED

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MACHINE_TITLES = {"sat": "SAT", "a100": "A100", "h100": "H100"}
PATTERNS = {
    "dense": (style.BLACK, "*"), "4:8": (style.PURPLE, "P"), "2:4": (style.BLUE, "o"), "1:4": (style.GREEN, "s"),
    "2:8": (style.SKY, "D"), "1:8": (style.ORANGE, "v"), "1:16": (style.VERMILION, "^"),
}  # fmt: skip
LONGEST = 1.15
"""Recipes that take more than so many times the dense run are in the table alone."""
AXES = {"train_s": "training time", "train_j": "training energy"}


def draw_all(rows: pd.DataFrame, folder: Path) -> None:
    """Write every figure as PNG and SVG into the folder."""
    with plt.rc_context(style.RC):
        figures = {"time": _pareto(rows, "train_s"), "energy": _pareto(rows, "train_j"), "equal": _equal(rows)}
        save_figures(figures, folder, ("png", "svg"))


def _pareto(rows: pd.DataFrame, what: str) -> Any:
    """Accuracy over what training the large network takes, a point per recipe and pattern, with the front."""
    figure, axes = plt.subplots(len(RANKED), len(MACHINES), figsize=(style.COLUMN, 5.6), sharex="col", sharey="row")
    for line, task in zip(axes, RANKED, strict=True):
        for axis, machine in zip(line, MACHINES, strict=True):
            name = f"large.{machine}.{what}.over_dense"
            here = rows[(rows["task"] == task) & rows["usual_length"] & (rows[name] <= LONGEST)]
            cost = here[name].to_numpy()
            for pattern, (colour, marker) in PATTERNS.items():
                own = (here["pattern"] == pattern).to_numpy()
                axis.plot(cost[own], 100 * here["accuracy"][own], marker, color=colour, ms=3, label=pattern, mew=0)
            best = front(cost, here["accuracy"].to_numpy())
            edge = here[best].assign(cost=cost[best]).sort_values("cost")
            axis.step(edge["cost"], 100 * edge["accuracy"], where="post", color=style.GREY, lw=0.8, zorder=0)
        line[0].set_ylabel(f"{TITLES[task]}: accuracy, %", fontsize=7)
    for axis, machine in zip(axes[0], MACHINES, strict=True):
        axis.set_title(MACHINE_TITLES[machine])
    axes[-1][1].set_xlabel(f"{AXES[what]} / that of the dense run")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(PATTERNS), columnspacing=0.8, handletextpad=0.2
    )
    return figure


def _equal(rows: pd.DataFrame) -> Any:
    """Accuracy over executed FLOPs and over time, with dense runs made shorter and sparse ones made longer."""
    views = {"large.flops": "FLOPs", "large.sat.train_s": "time on SAT", "large.a100.train_s": "time on A100"}
    figure, axes = plt.subplots(len(views), len(RANKED), figsize=(style.COLUMN, 6.0), sharey="col")
    for line, (cost, title) in zip(axes, views.items(), strict=True):
        for axis, task in zip(line, RANKED, strict=True):
            here = rows[rows["task"] == task].assign(cost=rows[f"{cost}.over_dense"])
            dense = here[here["recipe"] == "dense"].sort_values("cost")
            axis.plot(dense["cost"], 100 * dense["accuracy"], "-", color=style.BLACK, lw=1, label="dense, shorter")
            for recipe in LENGTHENED:
                for pattern, marker in (("2:4", "o"), ("1:16", "^")):
                    runs = here[(here["recipe"] == recipe) & (here["pattern"] == pattern)].sort_values("cost")
                    axis.plot(runs["cost"], 100 * runs["accuracy"], "-", color=NAMED[recipe], lw=0.6)
                    axis.plot(
                        runs["cost"], 100 * runs["accuracy"], marker, color=NAMED[recipe], ms=3.5, mew=0,
                        ls="", label=recipe if marker == "o" else None,
                    )  # fmt: skip
            axis.axvline(1.0, color=style.LIGHT, lw=0.6, zorder=0)
            axis.set_xlabel(f"{title} / dense", fontsize=8)
    for axis, task in zip(axes[0], RANKED, strict=True):
        axis.set_title(TITLES[task], fontsize=8)
    axes[1][0].set_ylabel("accuracy, %")
    for label, marker in (("2:4", "o"), ("1:16", "^")):
        axes[0][0].plot([], [], marker, ms=3.5, color=style.BLACK, label=label)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure
