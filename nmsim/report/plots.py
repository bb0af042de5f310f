"""Plots of results: latency by layer, roofline, two or more results side by side; each returns a Figure."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from nmsim.report.comparison import unlike
from nmsim.report.layers import Layers
from nmsim.report.roofline import Roofline
from nmsim.report.style import BLACK, CAUSE_COLOURS, COLUMN, GREY, RC, STAGE_COLOURS, VERMILION, scaled
from nmsim.report.summary import run_text
from nmsim.report.tables import last_part, prefixed, quantity, shorten, wrap
from nmsim.results.io import SavedResult, atomic_write
from nmsim.results.result import Result
from nmsim.workloads.optable import STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYERS_SHOWN = 25
NAME_WIDTH = 34
TICK_ROOM = 22
"""Characters that fit under the bars of one panel of a comparison."""
LARGEST_MARK, SMALLEST_MARK = 240.0, 8.0
MARKERS = {"FF": "o", "BP": "s", "WU": "^"}
VISIBLE = 0.005
"""A cause of less than this share of the longest bar has no entry in a legend."""
DWARFS = 3.0
"""The sum of the layers not shown has no bar where it is so many times the longest that is shown."""


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """The plot drawn in the house style, whatever style the caller has set."""

    @wraps(draw)
    def styled(*args: Any, **options: Any) -> Figure:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(RC)
            return draw(*args, **options)

    return styled


def png(figure: Figure) -> bytes:
    """The figure as a PNG image."""
    with mpl.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # names in scripts that the font lacks
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure as PNG, whole or not at all; raises OSError."""
    atomic_write(path, png(figure))


@_styled
def plot_latency(result: Result) -> Figure:
    """A bar per layer in the order of the network, split into stages; the smaller layers are summed.

    Where their sum would dwarf the others it is said in words instead.
    """
    names, seconds, left_out = _layer_table(result)
    factor, unit = scaled(seconds.sum(axis=1).tolist())
    figure = Figure(figsize=(COLUMN, 1.3 + 0.19 * len(names)))
    axes = figure.add_subplot()
    left = np.zeros(len(names))
    for code, stage in enumerate(STAGES):
        if (width := seconds[:, code] * factor).any():
            axes.barh(range(len(names)), width, left=left, color=STAGE_COLOURS[stage], label=stage, height=0.78)
            left += width
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"latency [{unit}]{left_out}")
    axes.grid(axis="x", linewidth=0.4, color=GREY, alpha=0.5)
    _title(figure, result.arch.name, result.workload.name, result.workload.info)
    _legend_above(figure, axes)
    return figure


@_styled
def plot_roofline(result: Result) -> Figure:
    """Dense-equivalent rate of each product against its FLOP per DRAM byte, under the machine's roofs.

    The area of a mark is the share of the products' time; products that lie at one point share a mark. The sparse
    roof is the dense one times m/n of the sparsest pattern that some product was executed with.
    """
    roof = Roofline.of(result)
    figure = Figure(figsize=(COLUMN, 3.9))
    axes = figure.add_subplot()
    x = roof.span()
    _draw_roofs(axes, roof, x)
    largest = roof.share.max(initial=0.0)
    for stage, marker in MARKERS.items():
        rows = roof.stage == STAGES.index(stage)
        if rows.any():
            colour, area = STAGE_COLOURS[stage], np.maximum(LARGEST_MARK * roof.share[rows] / largest, SMALLEST_MARK)
            axes.scatter(
                roof.intensity[rows], roof.rate[rows], s=area, marker=marker, color=to_rgba(colour, 0.3),
                edgecolor=colour, linewidth=1.1, label=stage, zorder=3,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*x)
    axes.set_ylim(*roof.heights())
    axes.yaxis.set_major_formatter(lambda value, _: prefixed(value, digits=3))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value < 1e4 else prefixed(value, digits=3))
    axes.set_xlabel("FLOP of the dense product per DRAM byte moved")
    axes.set_ylabel("dense-equivalent FLOP/s\n(2 x dense MACs / latency)")
    axes.grid(linewidth=0.4, color=GREY, alpha=0.4)
    _title(figure, result.arch.name, result.workload.name, result.workload.info)
    _legend_above(figure, axes, "area: share of time")
    return figure


@_styled
def plot_comparison(results: Sequence[Result | SavedResult], names: Sequence[str]) -> Figure:
    """A bar per result, its latency split by stage and, beside it, by cause.

    Speed-ups are over the first, and only where both did the same work.
    """
    saved = [r if isinstance(r, SavedResult) else SavedResult.of(r) for r in results]
    factor, unit = scaled([r.metrics["latency_s"] for r in saved])
    figure = Figure(figsize=(COLUMN + 1.0, 3.6))
    panels = figure.subplots(1, 2, sharey=True)
    room = TICK_ROOM // len(names)
    labels = ["\n".join(wrap(shorten(name, 3 * room), room)) for name in names]
    for axes, by, colours in zip(panels, ("stage", "cause"), (STAGE_COLOURS, CAUSE_COLOURS), strict=True):
        _stack(axes, [r.breakdowns[by] for r in saved], colours, factor, VISIBLE if by == "cause" else 0.0)
        axes.set_xticks(range(len(names)), labels)
        axes.set_title(f"by {by}")
        axes.grid(axis="y", linewidth=0.4, color=GREY, alpha=0.5)
        axes.margins(y=0.12)
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


def _layer_table(result: Result) -> tuple[list[str], np.ndarray, str]:
    """Names and seconds per stage [bars, stages] of the bars to draw, in order of execution; the rest in words."""
    layers = Layers.of(result)
    shown = np.sort(layers.largest(LAYERS_SHOWN))
    names = [last_part(layers.names[i], NAME_WIDTH) for i in shown]
    rest = np.delete(layers.seconds, shown, axis=0)
    if not rest.any():
        return names, layers.seconds[shown], ""
    if rest.sum() > DWARFS * layers.seconds[shown].sum(axis=1).max():
        return names, layers.seconds[shown], f"\nnot shown: {len(rest)} others, {quantity(rest.sum(), 's')}"
    return [*names, f"{len(rest)} others"], np.vstack([layers.seconds[shown], rest.sum(axis=0)]), ""


def _draw_roofs(axes: Axes, roof: Roofline, x: tuple[float, float]) -> None:
    """The slope of the DRAM up to the highest roof, and the roofs from where they meet it."""
    roofs = [("dense peak", roof.dense, BLACK)]
    if roof.mode:
        roofs.append((f"{roof.mode} peak", roof.sparse, VERMILION))
    top = roofs[-1][1]
    corner = min(top / roof.bandwidth, x[1])
    axes.plot([x[0], corner], [x[0] * roof.bandwidth, corner * roof.bandwidth], color=BLACK, linewidth=1.2)
    for name, height, colour in roofs:
        axes.plot([min(height / roof.bandwidth, x[1]), x[1]], [height, height], color=colour, linewidth=1.2)
        axes.annotate(
            f"{name}\n{prefixed(height, 'FLOP/s', 3)}", (x[1], height), (4, 0), textcoords="offset points",
            va="center", color=colour, fontsize=8,
        )  # fmt: skip
    low = x[0] ** 0.8 * corner**0.2  # a fifth of the way up the slope
    axes.annotate(
        f"DRAM {prefixed(roof.bandwidth, 'B/s', 3)}", (low, low * roof.bandwidth), (7, -3), textcoords="offset points",
        va="top", fontsize=8,
    )  # fmt: skip


def _title(figure: Figure, arch: str, workload: str, info: Mapping[str, Any]) -> None:
    figure.suptitle(f"{workload} on {arch}\n{run_text(info)}", fontsize=9.5, x=0.01, ha="left")


def _legend_above(figure: Figure, axes: Axes, title: str = "") -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        legend = figure.legend(
            handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1.0, title=title or None
        )
        for handle in cast(Any, legend).legend_handles:
            if hasattr(handle, "set_sizes"):
                handle.set_sizes([40.0])
