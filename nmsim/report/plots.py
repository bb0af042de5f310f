"""Whole pictures of results, tables of rows and training runs, in the house style, a function for each kind.

What is inside the axes is drawn by the functions of `draw_result`, `draw_rows` and `draw_training`, which take any
axes and return them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nmsim.report.comparison import unlike
from nmsim.report.draw_result import LAYERS_SHOWN, VISIBLE, draw_energy, draw_layers, draw_roofline
from nmsim.report.draw_rows import draw_heatmap, draw_pareto, draw_speedup
from nmsim.report.draw_training import draw_accuracy, draw_flips, draw_loss, draw_mask
from nmsim.report.figures import Picture, picture, png, save
from nmsim.report.style import CAUSE_COLOURS, COLUMN, GREY, STAGE_COLOURS, grid, legend_below, scaled, styled
from nmsim.report.summary import run_text
from nmsim.report.tables import shorten, wrap
from nmsim.results.io import SavedResult
from nmsim.results.result import Result
from nmsim.sparsity.pattern import Pattern
from nmsim.traces.schema import Trace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "LAYERS_SHOWN", "plot_comparison", "plot_energy", "plot_heatmap", "plot_latency", "plot_mask", "plot_pareto",
    "plot_roofline", "plot_speedup", "plot_training", "png", "save",
]  # fmt: skip

TICK_ROOM = 22
"""Characters that fit under the bars of one panel of a comparison."""


@styled
def plot_latency(result: Result, by: str = "stage") -> Picture:
    """A bar per layer, split by `stage` or `cause`; see `draw_layers`."""
    figure = picture(title=_title(result))
    axes = draw_layers(figure.add_subplot(), result, by)
    figure.set_figheight(1.4 + 0.19 * len(axes.get_yticks()))
    return figure


@styled
def plot_energy(results: Mapping[str, Result | SavedResult]) -> Picture:
    """A bar per named result, its energy split by component; see `draw_energy`."""
    saved = [r if isinstance(r, SavedResult) else SavedResult.of(r) for r in results.values()]
    what = {run_text(r.info) for r in saved}
    title = _common(saved) + (f"\n{what.pop()}" if len(what) == 1 else "")
    figure = picture(height=1.7 + 0.42 * len(saved), title=title)
    draw_energy(figure.add_subplot(), results)
    return figure


@styled
def plot_roofline(result: Result) -> Picture:
    """The products under the machine's dense and sparse roofs; see `draw_roofline`."""
    figure = picture(height=3.9, title=_title(result))
    draw_roofline(figure.add_subplot(), result)
    return figure


@styled
def plot_speedup(rows: pd.DataFrame, series: str | None = None, title: str = "") -> Picture:
    """Speed-up against pattern; see `draw_speedup`."""
    figure = picture(height=3.2, title=title)
    draw_speedup(figure.add_subplot(), rows, series)
    return figure


@styled
def plot_pareto(
    rows: pd.DataFrame, x: str, y: str, series: str | None = None, label: str | None = None, title: str = "",
    x_more: bool | None = None, y_more: bool | None = None,
) -> Picture:  # fmt: skip
    """The rows as points with their Pareto front; see `draw_pareto`."""
    figure = picture(height=3.9, title=title)
    draw_pareto(figure.add_subplot(), rows, x, y, series, label, x_more, y_more)
    return figure


@styled
def plot_heatmap(rows: pd.DataFrame, x: str, y: str, value: str, title: str = "") -> Picture:
    """A column over two others; see `draw_heatmap`."""
    figure = picture(height=3.4, title=title)
    draw_heatmap(figure.add_subplot(), rows, x, y, value)
    return figure


@styled
def plot_training(traces: Mapping[str, Trace], title: str = "") -> Picture:
    """Loss, accuracy and mask flips of named runs over the steps, one above the other."""
    figure = picture(height=5.4, title=title)
    loss, accuracy, flips = figure.subplots(3, 1, sharex=True)
    draw_loss(loss, traces)
    draw_accuracy(accuracy, traces)
    draw_flips(flips, traces)
    for axes in (loss, accuracy):
        axes.set_xlabel("")
    if len(traces) > 1:
        legend_below(flips, columns=3, of=accuracy)
    elif flips.get_legend_handles_labels()[0]:
        legend_below(flips, "layer", columns=3)
    return figure


@styled
def plot_mask(values: np.ndarray, pattern: Pattern | str, axis: int = -1, title: str = "") -> Picture:
    """The mask of magnitude of a matrix; see `draw_mask`."""
    figure = picture(height=3.4, title=title)
    draw_mask(figure.add_subplot(), values, pattern, axis)
    return figure


@styled
def plot_comparison(results: Sequence[Result | SavedResult], names: Sequence[str]) -> Picture:
    """A bar per result, its latency split by stage and, beside it, by cause.

    Speed-ups are over the first, and only where both did the same work.
    """
    saved = [r if isinstance(r, SavedResult) else SavedResult.of(r) for r in results]
    factor, unit = scaled([r.metrics["latency_s"] for r in saved])
    figure = picture(COLUMN + 1.0, 3.6)
    panels = figure.subplots(1, 2, sharey=True)
    room = TICK_ROOM // len(names)
    labels = ["\n".join(wrap(shorten(name, 3 * room), room)) for name in names]
    for axes, by, colours in zip(panels, ("stage", "cause"), (STAGE_COLOURS, CAUSE_COLOURS), strict=True):
        _stack(axes, [r.breakdowns[by] for r in saved], colours, factor, VISIBLE if by == "cause" else 0.0)
        axes.set_xticks(range(len(names)), labels)
        axes.set_title(f"by {by}")
        grid(axes, "y")
        axes.set_ylim(0, 1.12 * factor * max(r.metrics["latency_s"] for r in saved) or 1.0)
    for i, result in enumerate(saved):
        total = result.metrics["latency_s"]
        label = _speedup(saved[0].metrics["latency_s"] / total) if i and total and not unlike(saved[0], result) else ""
        for axes in panels:
            axes.text(i, total * factor, label, ha="center", va="bottom", fontsize=9)
    panels[0].set_ylabel(f"latency [{unit}]")
    differing = dict.fromkeys(name for result in saved for name in unlike(saved[0], result))
    title = _common(saved) + (f"\nnot the same work: they differ in {', '.join(differing)}" if differing else "")
    figure.suptitle(title, fontsize=9.5, x=0.01, ha="left")
    return figure


def _speedup(ratio: float) -> str:
    return f"{ratio:.2f}x faster" if ratio >= 1 else f"{1 / ratio:.2f}x slower"


def _common(saved: Sequence[SavedResult]) -> str:
    """What all results have in common of workload and machine."""
    workloads, arches = list(dict.fromkeys(r.workload for r in saved)), list(dict.fromkeys(r.arch for r in saved))
    return f"{', '.join(workloads)} on {', '.join(arches)}"


def _stack(
    axes: Axes, tables: list[Mapping[str, float]], colours: Mapping[str, str], factor: float, least: float
) -> None:
    """Stacked bars of the parts of each table, the legend of those of at least that share to the right, in order."""
    bottom = np.zeros(len(tables))
    longest = factor * max(sum(table.values()) for table in tables)
    for name in [*colours, *sorted({n for table in tables for n in table} - set(colours))]:
        height = factor * np.array([table.get(name, 0.0) for table in tables])
        if height.any():
            label = name if height.max() >= least * longest else None
            axes.bar(range(len(tables)), height, bottom=bottom, color=colours.get(name, GREY), label=label, width=0.62)
            bottom += height
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_xlim(-0.6, len(tables) - 0.4)


def _title(result: Result) -> str:
    return f"{result.workload.name} on {result.arch.name}\n{run_text(result.workload.info)}"
