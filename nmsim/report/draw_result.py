"""Results drawn into axes: latency by layer, energy by component, the roofline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgba

from nmsim.errors import UnsupportedError
from nmsim.report.layers import Layers
from nmsim.report.roofline import Roofline
from nmsim.report.style import (
    BLACK,
    CAUSE_COLOURS,
    COMPONENT_COLOURS,
    STAGE_COLOURS,
    VERMILION,
    coloured,
    grid,
    legend_below,
    scaled,
)
from nmsim.report.tables import last_part, prefixed, quantity, shorten, wrap
from nmsim.results.io import SavedResult
from nmsim.results.result import Result
from nmsim.workloads.optable import STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYERS_SHOWN = 25
NAME_WIDTH = 34
RESULT_WIDTH = 22
"""Characters of a result's name in a line beside its bar."""
LARGEST_MARK, SMALLEST_MARK = 240.0, 8.0
MARKERS = {"FF": "o", "BP": "s", "WU": "^"}
VISIBLE = 0.005
"""A cause of less than this share of the longest bar has no entry in a legend."""
DWARFS = 3.0
"""The sum of the layers not shown has no bar where it is so many times the longest that is shown."""
LARGE_SHARE = 0.07
"""A part of a bar from this share of the longest on carries its share in words."""


def draw_layers(axes: Axes, result: Result, by: str = "stage", shown: int = LAYERS_SHOWN) -> Axes:
    """A bar per layer in the order of the network, split by `stage` or `cause`; the smaller layers are summed.

    Where their sum would dwarf the others it is said in words instead. Raises UnsupportedError for another split.
    """
    names, seconds, parts, left_out = _layer_table(result, by, shown)
    factor, unit = scaled(seconds.sum(axis=1).tolist())
    colours = coloured(parts, STAGE_COLOURS if by == "stage" else CAUSE_COLOURS)
    least = VISIBLE * seconds.sum(axis=1).max(initial=0.0) if by == "cause" else 0.0
    left = np.zeros(len(names))
    for i, part in enumerate(parts):
        if (width := seconds[:, i] * factor).any():
            label = part if seconds[:, i].max() >= least else None
            axes.barh(range(len(names)), width, left=left, color=colours[part], label=label, height=0.78)
            left += width
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.05 * left.max(initial=0.0) or 1.0)  # the start of an empty part would end the axis
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"latency [{unit}]{left_out}")
    grid(axes, "x")
    legend_below(axes, room=44.0 if left_out else 32.0, columns=4)
    return axes


def draw_energy(axes: Axes, results: Mapping[str, Result | SavedResult]) -> Axes:
    """A bar per named result, its energy split by component; the total and the large shares are written at it.

    Raises UnsupportedError where the energy of a result is not known.
    """
    tables = {name: _saved(r).breakdowns["component"] for name, r in results.items()}
    if unknown := [name for name, table in tables.items() if not np.isfinite(list(table.values())).all()]:
        raise UnsupportedError(f"the energy of {unknown[0]!r} is not known: no figure for one of its data types")
    parts = [p for p in dict.fromkeys(n for t in tables.values() for n in t) if any(t.get(p) for t in tables.values())]
    longest = max(sum(table.values()) for table in tables.values())
    factor, unit = scaled([longest], ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ")))
    left = np.zeros(len(tables))
    for part, colour in coloured(parts, COMPONENT_COLOURS).items():
        width = factor * np.array([table.get(part, 0.0) for table in tables.values()])
        axes.barh(range(len(tables)), width, left=left, color=colour, label=part, height=0.62)
        for i, (start, w) in enumerate(zip(left, width, strict=True)):
            if w > LARGE_SHARE * factor * longest:
                share = f"{100 * w / factor / sum(list(tables.values())[i].values()):.0f} %"
                axes.text(start + w / 2, i, share, ha="center", va="center", fontsize=7.5, color=_readable_on(colour))
        left += width
    for i, total in enumerate(left):
        axes.annotate(f"{total:.3g} {unit}", (total, i), (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(tables)), ["\n".join(wrap(shorten(n, 3 * RESULT_WIDTH), RESULT_WIDTH)) for n in tables])
    axes.set_ylim(len(tables) - 0.5, -0.5)
    axes.set_xlim(0, longest * factor * 1.16)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"energy [{unit}]")
    grid(axes, "x")
    legend_below(axes)
    return axes


def draw_roofline(axes: Axes, result: Result) -> Axes:
    """Dense-equivalent rate of each product against its FLOP per DRAM byte, under the machine's roofs.

    The area of a mark is the share of the products' time; products that lie at one point share a mark. The sparse
    roof is the dense one times m/n of the sparsest pattern that some product was executed with.
    """
    roof = Roofline.of(result)
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
    grid(axes)
    legend_below(axes, "mark: stage; area: share of time")
    if legend := axes.get_legend():
        for handle in legend.legend_handles:
            if handle is not None and hasattr(handle, "set_sizes"):
                handle.set_sizes([40.0])
    return axes


def _saved(result: Result | SavedResult) -> SavedResult:
    return result if isinstance(result, SavedResult) else SavedResult.of(result)


def _readable_on(colour: str) -> str:
    """Black or white, as reads better on the colour (relative luminance of ITU-R BT.709)."""
    red, green, blue, _ = to_rgba(colour)
    return BLACK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.4 else "white"


def _layer_table(result: Result, by: str, count: int) -> tuple[list[str], np.ndarray, tuple[str, ...], str]:
    """Names of the bars, their seconds [bars, parts] in order of execution, the parts; the rest in words."""
    layers = Layers.of(result, by)
    shown = np.sort(layers.largest(count))
    names = [last_part(layers.names[i], NAME_WIDTH) for i in shown]
    rest = np.delete(layers.seconds, shown, axis=0)
    if not rest.any():
        return names, layers.seconds[shown], layers.parts, ""
    if rest.sum() > DWARFS * layers.seconds[shown].sum(axis=1).max():
        said = f"\nnot shown: {len(rest)} others, {quantity(rest.sum(), 's')}"
        return names, layers.seconds[shown], layers.parts, said
    names.append(f"{len(rest)} others")
    return names, np.vstack([layers.seconds[shown], rest.sum(axis=0)]), layers.parts, ""


def _draw_roofs(axes: Axes, roof: Roofline, x: tuple[float, float]) -> None:
    """The slope of the DRAM up to the highest roof, and the roofs from where they meet it."""
    roofs = [("dense peak", roof.dense, BLACK)]
    if roof.mode:
        roofs.append((f"{roof.mode} peak", roof.sparse, VERMILION))
    top = roofs[-1][1]
    corner = min(top / roof.bandwidth, x[1])
    axes.plot([x[0], corner], [x[0] * roof.bandwidth, corner * roof.bandwidth], color=BLACK, linewidth=1.2)
    for (name, height, colour), side in zip(roofs, ("center",) if len(roofs) == 1 else ("top", "bottom"), strict=True):
        axes.plot([min(height / roof.bandwidth, x[1]), x[1]], [height, height], color=colour, linewidth=1.2)
        axes.annotate(
            f"{name}\n{prefixed(height, 'FLOP/s', 3)}", (x[1], height), (4, 0), textcoords="offset points",
            va=side, color=colour, fontsize=8,
        )  # fmt: skip
    low = x[0] ** 0.8 * corner**0.2  # a fifth of the way up the slope
    axes.annotate(
        f"DRAM {prefixed(roof.bandwidth, 'B/s', 3)}", (low, low * roof.bandwidth), (7, -3), textcoords="offset points",
        va="top", fontsize=8,
    )  # fmt: skip
