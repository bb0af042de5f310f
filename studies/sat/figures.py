"""The figures of the study, each from the table of `run.with_speedups`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from nmsim.report import style
from studies.output import save_figures
from studies.sat.points import ARRAYS, BANDWIDTHS, NETWORKS
from studies.sat.run import STAGES, pick

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ABSTRACT = 1.75
"""Mean speed-up at 2:8 by the abstract of arXiv 2309.13015."""
BOARD = 76.8
"""Bandwidth without a tick of its own, too near to the next."""
COLOURS = dict(zip(NETWORKS, (style.BLUE, style.VERMILION, style.GREEN, style.ORANGE, style.PURPLE), strict=True))
MARKS = dict(zip(NETWORKS, "osD^v", strict=True))
SWITCHED_OFF = {
    "none": "none (SAT)",
    "interleaving": "interleaving",
    "pre-generation": "pre-generation",
    "scheduling": "scheduling (OS)",
    "scheduling (ws)": "scheduling (WS)",
    "interleaving, pre-generation": "interleaving + pre-generation",
    "interleaving, scheduling": "interleaving + scheduling (OS)",
    "pre-generation, scheduling": "pre-generation + scheduling (OS)",
    "interleaving, pre-generation, scheduling": "all three (OS)",
    "all (ws)": "all three (WS)",
}
"""Rows of the ablation, and what they are called."""


def draw_all(table: pd.DataFrame, folder: Path) -> None:
    """Write every figure as PNG into the folder."""
    figures: Mapping[str, Callable[[pd.DataFrame], Any]] = {
        "speedup": _speedup, "stages": _stages, "ablation": _ablation, "sweeps": _sweeps
    }  # fmt: skip
    with plt.rc_context(style.RC):
        save_figures({name: draw(table) for name, draw in figures.items()}, folder)


def _speedup(table: pd.DataFrame) -> Any:
    """Speed-up of a step and of its products alone, under the bound by multiply-accumulates."""
    rows = pick(table, "ablation", "none")
    names = [*rows["network"], "mean"]
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.9))
    place = np.arange(len(names))
    for shift, column, colour, label in (
        (-0.2, "speedup", style.BLUE, "whole step"), (0.2, "products", style.SKY, "FF, BP and WU alone"),
    ):  # fmt: skip
        values = [*rows[column], rows[column].mean()]
        bars = axis.bar(place + shift, values, 0.38, color=colour, label=label)
        axis.bar_label(bars, fmt="%.2f", fontsize=7, padding=-11, color="white" if shift < 0 else "black")
    axis.hlines(rows["bound"], place[:-1] - 0.42, place[:-1] + 0.42, color=style.BLACK, lw=1, label="MACs dense / BDWP")
    axis.axhline(ABSTRACT, color=style.VERMILION, lw=0.9, ls="--", zorder=0, label=f"abstract's mean, {ABSTRACT}")
    axis.set_xticks(place, names)
    axis.set_ylim(0, 2.35)
    axis.set_ylabel("speed-up over dense")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7, columnspacing=1)
    return figure


def _stages(table: pd.DataFrame) -> Any:
    """Time by stage, dense and BDWP side by side, relative to the dense step of each network."""
    rows = pick(table, "ablation", "none")
    figure, axis = plt.subplots(figsize=(style.COLUMN, 3.0))
    place = np.arange(len(rows))
    for shift, recipe in ((-0.21, "dense"), (0.21, "bdwp")):
        bottom = np.zeros(len(rows))
        for stage in STAGES:
            height = (rows[f"{recipe}_{stage}"] / rows["dense_s"]).to_numpy()
            label = stage if recipe == "bdwp" else None
            axis.bar(place + shift, height, 0.38, bottom=bottom, color=style.STAGE_COLOURS[stage], label=label)
            bottom += height
        for x, top in zip(place + shift, bottom, strict=True):
            axis.text(x, top + 0.01, {"dense": "dense", "bdwp": "2:8"}[recipe], ha="center", fontsize=7)
    axis.set_xticks(place, rows["network"])
    axis.set_ylabel("time / dense step")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=len(STAGES), columnspacing=1)
    return figure


def _ablation(table: pd.DataFrame) -> Any:
    """Time of a step with optimisations off over that with all on, dense and BDWP: means and the single networks."""
    base = pick(table, "ablation", "none").set_index("network")
    figure, axis = plt.subplots(figsize=(style.COLUMN, 3.6))
    place = np.arange(len(SWITCHED_OFF))
    for shift, recipe, colour in ((-0.2, "dense", style.GREY), (0.2, "bdwp", style.BLUE)):
        times = [pick(table, "ablation", label).set_index("network")[f"{recipe}_s"] for label in SWITCHED_OFF]
        ratios = [t / base[f"{recipe}_s"] for t in times]
        means = [r.mean() for r in ratios]
        name = {"dense": "dense", "bdwp": "BDWP 2:8"}[recipe]
        axis.barh(place + shift, means, 0.38, color=colour, label=name)
        for y, ratio, mean in zip(place + shift, ratios, means, strict=True):
            axis.plot(ratio, [y] * len(ratio), color=style.BLACK, marker="|", ms=4, ls="", lw=0.8)
            axis.text(max(ratio.max(), mean) + 0.08, y, f"{mean:.2f}", va="center", fontsize=7)
    axis.set_yticks(place, list(SWITCHED_OFF.values()), fontsize=7.5)
    axis.set_title("switched off", fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 4.3)
    axis.set_xlabel("time of a step / the same with all three on\n(bars: mean; ticks: the five networks)")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _sweeps(table: pd.DataFrame) -> Any:
    """Speed-up of a step against array size and DRAM bandwidth; the mean of the products alone dashed."""
    figure, axes = plt.subplots(1, 2, figsize=(style.COLUMN, 2.9), sharey=True)
    for axis, study, values, name in (
        (axes[0], "array", ARRAYS, "rows and columns of the array"),
        (axes[1], "bandwidth", BANDWIDTHS, "DRAM bandwidth [GB/s]"),
    ):
        rows = pick(table, study)
        for network, found in rows.groupby("network", sort=False):
            network = str(network)
            axis.plot(
                values, found["speedup"], color=COLOURS[network], marker=MARKS[network], ms=3.5, lw=1, label=network
            )
        by_value = rows.groupby("label", sort=False)
        axis.plot(values, by_value["speedup"].mean(), color=style.BLACK, lw=1.8, label="mean")
        axis.plot(values, by_value["products"].mean(), color=style.BLACK, lw=1, ls="--", label="mean, FF, BP, WU alone")
        axis.set_xscale("log", base=2)
        axis.minorticks_off()
        shown = [value for value in values if value != BOARD]
        axis.set_xticks(shown, [f"{value:g}" for value in shown], fontsize=7)
        axis.set_xlabel(name)
        axis.grid(axis="y", lw=0.4, color=style.LIGHT)
    axes[0].set_ylim(1, 2.05)
    axes[0].set_ylabel("speed-up over dense")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, columnspacing=1)
    return figure
