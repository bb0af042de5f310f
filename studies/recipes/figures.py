"""The figures of the study, each from the collected table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from nmsim.report import style
from studies.output import save_figures
from studies.recipes.points import DECAYING, LENGTHENED, RANKED, RATES
from studies.recipes.table import Difference, difference, lengthened, pick, usual

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TITLES = {"resnet9": "ResNet9", "vit": "ViT-tiny", "translation": "Transformer"}
PATTERNS = {"2:4": style.BLUE, "1:4": style.GREEN, "1:8": style.ORANGE, "1:16": style.VERMILION}
NAMED = {
    "srste": style.BLUE, "static": style.GREY, "bdwp": style.GREEN, "mask_decay": style.VERMILION,
    "mdgf_linear": style.ORANGE, "sdgf_geometric": style.PURPLE, "random": "#7F4A00", "srigl": style.SKY,
}  # fmt: skip
"""Recipes with a colour of their own; all others are grey."""
DOTS: dict[str, Any] = {"marker": "o", "ms": 2.5, "lw": 0.8, "ls": ""}
MOMENTS = {"early": (style.SKY, "s"), "middle": (style.ORANGE, "o"), "late": (style.BLUE, "^")}


def draw_all(table: pd.DataFrame, folder: Path) -> None:
    """Write every figure of which there are runs as PNG into the folder."""
    figures: Mapping[str, Callable[[pd.DataFrame], Any]] = {
        "accuracy": _accuracy, "budget": _budget, "churn": _churn, "noise": _noise, "lambda": _lambda,
        "gradient": _gradient,
    }  # fmt: skip
    with plt.rc_context(style.RC):
        save_figures({name: draw(table) for name, draw in figures.items()}, folder)


def _panels(height: float, rows: int = 1, **options: Any) -> tuple[Any, Any]:
    columns = len(RANKED) // rows
    figure, axes = plt.subplots(rows, columns, figsize=(style.COLUMN, height), squeeze=False, **options)
    for axis, task in zip(axes.flat, RANKED, strict=True):
        axis.set_title(TITLES[task], fontsize=8)
    return figure, axes.flat


def _log(axis: Any, ticks: Sequence[float]) -> None:
    """A logarithmic x axis with these ticks, written plainly."""
    axis.set_xscale("log")
    axis.minorticks_off()
    names = [f"{tick:g}" if tick >= 0.01 else f"{tick:.0e}".replace("e-0", "e-") for tick in ticks]
    axis.set_xticks(ticks, names, fontsize=7)


def _percent(rows: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation over seeds, in per cent."""
    return 100 * float(rows["accuracy"].mean()), 100 * float(rows["accuracy"].std())


def _dense(table: pd.DataFrame, task: str) -> float:
    return _percent(pick(table[table["task"] == task], "dense", "dense"))[0]


def _order(rows: pd.DataFrame, column: str) -> list[str]:
    """Recipes by their mean accuracy over the tasks at a pattern, the best last; those without it first."""
    runs = rows[rows["task"].isin(RANKED)]
    at = runs[runs["column"] == column].groupby("recipe")["accuracy"].mean()
    names = [name for name in runs["recipe"].unique() if name != "dense"]
    return sorted(names, key=lambda name: (at.get(name, -1.0), name))


def _accuracy(table: pd.DataFrame) -> Any:
    """Every recipe at four densities on each task: mean and standard deviation over seeds."""
    rows = usual(table)
    names = _order(rows, "1:16")
    figure, axes = _panels(8.4, sharey=True)
    for axis, task in zip(axes, RANKED, strict=True):
        axis.axvline(_dense(table, task), color=style.BLACK, lw=0.8, ls="--")
        for y, name in enumerate(names):
            axis.axhline(y, color=style.LIGHT, lw=0.4, zorder=0)
            for i, (pattern, colour) in enumerate(PATTERNS.items()):
                found = rows[(rows["task"] == task) & (rows["recipe"] == name) & (rows["column"] == pattern)]
                mean, spread = _percent(found)
                axis.errorbar(mean, y + 0.27 - 0.18 * i, xerr=spread, label=pattern, **(DOTS | {"color": colour}))
        axis.set_xlabel("accuracy, %")
    axes[0].set_yticks(range(len(names)), names, fontsize=7)
    axes[0].set_ylim(-0.7, len(names) - 0.3)
    _legend(figure, axes[0], "outside lower center", len(PATTERNS))
    return figure


def _legend(figure: Any, axis: Any, place: str, columns: int) -> None:
    """One legend for all panels, each label once."""
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once.keys(), loc=place, ncols=columns)


def _budget(table: pd.DataFrame) -> Any:
    """Accuracy over executed MACs: dense runs of several lengths, recipes as long as dense, and lengthened ones."""
    figure, axes = _panels(3.4, sharey=False)
    for axis, task in zip(axes, RANKED, strict=True):
        here = table[(table["task"] == task) & ((task != "resnet9") | (table["optimizer"] == "sgd"))]
        dense = here[here["recipe"] == "dense"].groupby("steps")[["budget", "accuracy"]].mean()
        axis.plot(dense["budget"], 100 * dense["accuracy"], color=style.BLACK, lw=1, label="dense, shorter")
        for pattern, marker in (("2:4", "o"), ("1:16", "^")):
            for name in usual(here)["recipe"].unique():
                rows = pick(here, name, pattern)
                colour, rank = NAMED.get(name, style.LIGHT), 3 if name in NAMED else 1
                label = f"{name}" if name in NAMED and marker == "o" else None
                axis.plot(
                    rows["budget"].mean(), _percent(rows)[0], marker, color=colour, ms=4, zorder=rank, label=label
                )
            for name in LENGTHENED:
                rows = lengthened(here, name, pattern)
                place = rows["budget"].mean(), _percent(rows)[0]
                axis.plot(*place, marker, color=NAMED[name], mfc="white", ms=4, zorder=4)
        axis.set_xlabel("executed / dense", fontsize=8)
    axes[0].set_ylabel("accuracy, %")
    for label, marker, face in (("2:4", "o", style.BLACK), ("1:16", "^", style.BLACK), ("lengthened", "o", "white")):
        axes[0].plot([], [], marker, ms=4, color=style.BLACK, mfc=face, label=label)
    _legend(figure, axes[0], "outside lower center", 4)
    return figure


def moving(table: pd.DataFrame, task: str, column: str) -> pd.DataFrame:
    """Mean churn and accuracy of each recipe whose mask of FF moves."""
    rows = usual(table[(table["task"] == task) & (table["column"] == column)])
    means = rows.groupby("recipe")[["churn", "accuracy"]].mean()
    return means[means["churn"] > 0]


def _churn(table: pd.DataFrame) -> Any:
    """Churn against accuracy at 1:16, a point per recipe."""
    figure, axes = _panels(2.9)
    for axis, task in zip(axes, RANKED, strict=True):
        for name, (churn, accuracy) in moving(table, task, "1:16").iterrows():
            named = name in NAMED
            colour = NAMED.get(str(name), style.LIGHT)
            axis.plot(
                churn, 100 * accuracy, "o", ms=4, color=colour, label=name if named else "others", zorder=2 + named
            )
        axis.set_xlabel("churn per 25 steps", fontsize=8)
    axes[0].set_ylabel("accuracy at 1:16, %")
    _legend(figure, axes[0], "outside lower center", 4)
    return figure


def noise_ratio(table: pd.DataFrame, recipe: str, column: str, name: str, place: str) -> float:
    """The geometric mean, over tasks and seeds, of a variance against that of the dense run of the same seed."""
    label = f"{name}_{place}"
    both = pick(table, recipe, column).merge(pick(table, "dense", "dense"), on=["task", "seed"])
    ratio = (both[f"{label}_x"] / both[f"{label}_y"]).to_numpy(float)
    good = ratio[np.isfinite(ratio) & (ratio > 0)]
    return float(np.exp(np.log(good).mean())) if len(good) else np.nan


def _noise(table: pd.DataFrame) -> Any:
    """Variance of gradients and of Adam's second moment at 1:16, early and late, against dense."""
    rows = table[table["task"].isin(RANKED)]
    names = [name for name in _order(usual(rows), "1:16") if len(pick(rows, name, "1:16"))]
    figure, axes = plt.subplots(1, 2, figsize=(style.COLUMN, 6.6), sharey=True)
    panels = (
        ("gradient_variance", "gradient", (0.1, 1, 10, 100)),
        ("second_moment_variance", "second moment (AdamW)", (1, 100, 10000)),
    )
    for axis, (name, title, ticks) in zip(axes, panels, strict=True):
        axis.axvline(1.0, color=style.BLACK, lw=0.8, ls="--")
        for place, colour, marker in (
            ("early", style.SKY, "s"),
            ("middle", style.ORANGE, "o"),
            ("late", style.BLUE, "^"),
        ):
            values = [noise_ratio(rows, recipe, "1:16", name, place) for recipe in names]
            axis.plot(values, range(len(names)), marker, ms=3.5, color=colour, label=place, ls="")
        _log(axis, ticks)
        axis.set_xlabel("variance over weights / dense", fontsize=8)
        axis.set_title(title, fontsize=8)
        for y in range(len(names)):
            axis.axhline(y, color=style.LIGHT, lw=0.4, zorder=0)
    axes[0].set_yticks(range(len(names)), names, fontsize=7)
    _legend(figure, axes[0], "outside lower center", 3)
    return figure


def _lambda(table: pd.DataFrame) -> Any:
    """SR-STE over its coefficient, beside STE (no decay) and mask decay."""
    figure, axes = _panels(2.9)
    rates = sorted((*RATES, 2e-4))
    for axis, task in zip(axes, RANKED, strict=True):
        here = table[table["task"] == task]
        for pattern in ("2:4", "1:16"):
            colour = PATTERNS[pattern]
            points = [_percent(pick(here, "srste", pattern, coefficient=rate)) for rate in rates]
            means, spreads = zip(*points, strict=True)
            axis.errorbar(rates, means, spreads, color=colour, marker="o", ms=3, lw=1, label=f"SR-STE {pattern}")
            decay = _percent(pick(here, "mask_decay", pattern))[0]
            axis.axhline(decay, color=colour, lw=0.8, ls=":", label=f"mask decay {pattern}")
        axis.axhline(_dense(table, task), color=style.BLACK, lw=0.8, ls="--", label="dense")
        _log(axis, rates)
        axis.set_xlabel("lambda")
    axes[0].set_ylabel("accuracy, %")
    _legend(figure, axes[0], "outside lower center", 3)
    return figure


def gradient_gap(table: pd.DataFrame, recipe: str, column: str) -> Difference:
    """What the autodiff gradient has above the straight-through one."""
    autodiff, through = (pick(table, recipe, column, gradient=mode) for mode in ("autodiff", "ste"))
    return difference(autodiff, through)


def _gradient(table: pd.DataFrame) -> Any:
    """Autodiff less straight-through, for each recipe that decays: mean and two standard errors."""
    figure, axes = _panels(2.9, sharey=True)
    for axis, task in zip(axes, RANKED, strict=True):
        axis.axvline(0.0, color=style.BLACK, lw=0.8, ls="--")
        for shift, pattern in ((-0.15, "2:4"), (0.15, "1:16")):
            gaps = [gradient_gap(table[table["task"] == task], name, pattern) for name in DECAYING]
            means, errors = [gap.mean for gap in gaps], [2 * gap.error for gap in gaps]
            places = np.arange(len(gaps)) + shift
            axis.errorbar(
                means, places, xerr=errors, color=PATTERNS[pattern], marker="o", ms=3, lw=1, ls="", label=pattern
            )
        axis.set_xlabel("autodiff - ste, points", fontsize=8)
    axes[0].set_yticks(range(len(DECAYING)), list(DECAYING), fontsize=7)
    _legend(figure, axes[0], "outside lower center", 2)
    return figure
