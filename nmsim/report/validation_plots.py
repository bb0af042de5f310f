"""Plots of validation: predicted against measured times, and the speed-up of a pattern over shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from nmsim.report.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, YELLOW, styled
from nmsim.report.tables import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (
    BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, "#7F4A00", YELLOW, "#8A8A8A", "#A4DE02", "#FF0055", "#5E2CA5",
)  # fmt: skip
MARKERS = "os^Dv"
DECADE = 10.0
"""How far a panel reaches at least beyond its middle, so that powers of ten stand on its axes."""
BAND = 0.25
"""The shaded band: predictions within this share of the measurement."""
TITLES = {
    "gemm": "matrix products", "conv": "convolutions", "vector": "element-wise and normalising",
    "layer": "layers", "model": "networks", "condensed": "layers with weights at any place",
}  # fmt: skip


@dataclass(frozen=True)
class Cloud:
    """Measured and predicted seconds [points] of a data set on one machine; `table` is the panel."""

    table: str
    arch: str
    name: str
    measured_s: np.ndarray
    predicted_s: np.ndarray


@dataclass(frozen=True)
class Map:
    """Speed-ups [rows, columns] over two sizes, and the place of the shape asked for."""

    title: str
    x_name: str
    y_name: str
    x: np.ndarray
    y: np.ndarray
    speedup: np.ndarray
    mark: tuple[float, float]


@styled
def plot_scatter(clouds: Sequence[Cloud]) -> Figure:
    """A panel per kind of table, predicted against measured on logarithmic axes; a colour per machine.

    Marks differ by what the data sets of a panel hold: pattern, direction, operation.
    """
    panels = list(dict.fromkeys(cloud.table for cloud in clouds))
    arches = list(dict.fromkeys(cloud.arch for cloud in clouds))
    colours = {arch: COLOURS[i % len(COLOURS)] for i, arch in enumerate(arches)}
    columns = min(len(panels), 2 if len(panels) == 4 else 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(0.4 + 3.5 * columns, 0.6 + 3.5 * rows))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _scatter(axes, [cloud for cloud in clouds if cloud.table == panel], colours)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles = [grid[0].scatter([], [], color=colour, s=20) for colour in colours.values()]
    figure.legend(handles, arches, loc="outside lower center", ncols=min(len(arches), 3 * columns))
    return figure


def _scatter(axes: Axes, clouds: Sequence[Cloud], colours: dict[str, str]) -> None:
    """The points of one panel, the diagonal and the band around it."""
    times = np.concatenate([np.concatenate([c.measured_s, c.predicted_s]) for c in clouds])
    times = times[times > 0]
    middle, reach = np.sqrt(times.min() * times.max()), max(np.sqrt(times.max() / times.min()) * 1.5, DECADE)
    span = middle * np.array([1 / reach, reach])
    axes.fill_between(span, span * (1 - BAND), span * (1 + BAND), color=GREY, alpha=0.2, linewidth=0)
    axes.plot(span, span, color=GREY, linewidth=0.8)
    kinds = {what(c): None for c in clouds}
    markers = {kind: MARKERS[i % len(MARKERS)] for i, kind in enumerate(kinds)}
    for cloud in clouds:
        axes.scatter(
            cloud.measured_s, cloud.predicted_s, s=13, marker=markers[what(cloud)], facecolor="none",
            edgecolor=colours[cloud.arch], linewidth=0.8, zorder=3,
        )  # fmt: skip
    handles = [axes.scatter([], [], s=16, marker=m, facecolor="none", edgecolor=BLACK) for m in markers.values()]
    axes.legend(handles, list(markers), loc="upper left", handletextpad=0.2, labelspacing=0.25)
    axes.set(xscale="log", yscale="log", xlim=span, ylim=span, xlabel="measured", ylabel="predicted")
    axes.set_box_aspect(1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(lambda value, _: quantity(value, "s", 3))
    axes.grid(linewidth=0.4, color=GREY, alpha=0.4)
    axes.set_title(TITLES.get(clouds[0].table, clouds[0].table))


def what(cloud: Cloud) -> str:
    """What a data set's name says beside source, device and type: `dense`, `2:4`, `ff`, `softmax`."""
    words = cloud.name.split("_")
    if cloud.table == "conv":
        return " ".join(words[words.index("conv") + 1 :])
    if cloud.table == "gemm":
        return next((word for word in words if word in ("dense", "vnm", "unstructured") or ":" in word), words[-1])
    return words[-1]


@styled
def plot_speedup(maps: Sequence[Map], title: str, thresholds: Sequence[float]) -> Figure:
    """A heat map per pair of sizes, white where nothing is gained, with a line at each threshold."""
    figure = Figure(figsize=(0.9 + 4.1 * len(maps), 4.3))
    panels = figure.subplots(1, len(maps), squeeze=False).ravel()
    top = max(max(float(m.speedup.max()) for m in maps), 1.02)
    bottom = min(min(float(m.speedup.min()) for m in maps), 0.98)
    norm = TwoSlopeNorm(1.0, min(bottom, 2 - top), top)
    for axes, m in zip(panels, maps, strict=True):
        image = axes.pcolormesh(m.x, m.y, m.speedup, norm=norm, cmap="RdBu", shading="nearest", rasterized=True)
        _contours(axes, m, thresholds)
        axes.plot(*m.mark, marker="*", color=BLACK, markersize=11, markeredgecolor="white", clip_on=False, zorder=4)
        axes.set(xscale="log", yscale="log", xlabel=m.x_name, ylabel=m.y_name)
        for axis, values in ((axes.xaxis, m.x), (axes.yaxis, m.y)):
            ticks = 4.0 ** np.arange(np.ceil(np.log(values.min()) / np.log(4)), np.log(values.max()) / np.log(4) + 1e-9)
            axis.set_ticks(ticks, [_size(tick) for tick in ticks])
            axis.set_ticks([], minor=True)
        axes.set_title(m.title)
    bar = figure.colorbar(image, ax=list(panels), label="speed-up over dense", fraction=0.05, pad=0.02)
    ticks = np.arange(np.ceil(10 * bottom) / 10, top + 1e-9, 0.1 if top - bottom < 1 else 0.25)
    bar.ax.set_ylim(bottom, top)
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:.2f}" for tick in ticks])
    bar.ax.minorticks_off()
    figure.suptitle(title, fontsize=9.5, x=0.01, ha="left")
    return figure


def _contours(axes: Axes, m: Map, thresholds: Sequence[float]) -> None:
    """A labelled line where the speed-up passes each threshold that it does pass."""
    levels = [level for level in thresholds if m.speedup.min() < level < m.speedup.max()]
    if levels:
        lines = axes.contour(m.x, m.y, m.speedup, levels=levels, colors=BLACK, linewidths=0.9)
        axes.clabel(lines, fmt=lambda level: f"{level:g}x", fontsize=8)


def _size(value: float) -> str:
    """A power of two as `64` or `16k`."""
    return f"{value:.0f}" if value < 1024 else f"{value / 1024:g}k"
