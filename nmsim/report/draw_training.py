"""Training runs drawn into axes: loss, accuracy, mask flips; and a mask as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import ListedColormap

from nmsim.errors import UnsupportedError
from nmsim.report.style import BLACK, BLUE, GREY, MARKS, SERIES, VERMILION, grid
from nmsim.report.tables import last_part, shorten
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.pattern import Pattern
from nmsim.traces.schema import OPERANDS, Trace
from nmsim.workloads.optable import STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME_WIDTH = 26
MOST_PHASES = 12
"""Phases from which on their starts are not marked."""
MOST_LAYERS = 5
"""Layers of one run that have a line of mask flips of their own."""
MASK_ROWS, MASK_COLUMNS = 24, 48
"""What is drawn of a mask at most."""


def draw_loss(axes: Axes, traces: Mapping[str, Trace]) -> Axes:
    """Loss over steps at each evaluation: solid on the test split, dashed on the training split; a colour per run."""
    for i, (name, trace) in enumerate(_few(traces).items()):
        table = trace.evaluations
        axes.plot(table["step"], table["test_loss"], color=SERIES[i], marker=MARKS[i], label=_short(name), **_LINE)
        axes.plot(table["step"], table["train_loss"], color=SERIES[i], linewidth=1.1, dashes=(3, 1.5))
    axes.set_ylabel("loss\n(dashed: training)")
    axes.set_ylim(bottom=0)
    return _over_steps(axes, traces)


def draw_accuracy(axes: Axes, traces: Mapping[str, Trace]) -> Axes:
    """Accuracy on the test split over steps at each evaluation; a colour and mark per run."""
    for i, (name, trace) in enumerate(_few(traces).items()):
        table = trace.evaluations
        axes.plot(
            table["step"], 100 * table["test_accuracy"], color=SERIES[i], marker=MARKS[i], label=_short(name), **_LINE
        )
    axes.set_ylabel("test accuracy [%]")
    return _over_steps(axes, traces)


def draw_flips(axes: Axes, traces: Mapping[str, Trace]) -> Axes:
    """Mask entries of the weights that change per step, mean over each interval between measurements.

    Of one run a line per layer (the smaller ones summed), of more runs a line for all layers of each.
    """
    each = {name: _flips(trace) for name, trace in _few(traces).items()}
    if len(each) == 1:
        lines = _largest(next(iter(each.values())))
        colours = SERIES[1 : 1 + len(lines)]
    else:
        lines = {name: _summed(list(flips.values())) for name, flips in each.items() if flips}
        colours = tuple(SERIES[list(each).index(name)] for name in lines)
    for (name, (edges, rate)), colour in zip(lines.items(), colours, strict=True):
        axes.stairs(rate, edges, label=_short(name), linewidth=1.4, baseline=None, color=colour)
    if not lines:
        axes.text(0.5, 0.5, "no masks of weights in this run", transform=axes.transAxes, ha="center", color=GREY)
        axes.set_yticks([])
    axes.set_ylabel("mask flips\nper step")
    axes.set_ylim(bottom=0)
    return _over_steps(axes, traces)


def draw_mask(axes: Axes, values: np.ndarray, pattern: Pattern | str, axis: int = -1) -> Axes:
    """The mask of magnitude of a matrix: kept entries coloured by sign, pruned ones white, lines between groups.

    At most the first MASK_ROWS x MASK_COLUMNS entries are drawn; the density is that of the whole matrix. Raises
    UnsupportedError for an array that is no matrix, PatternError for a pattern or axis that does not fit.
    """
    values = np.asarray(values)
    if values.ndim != 2:
        raise UnsupportedError(f"a picture of a mask needs a matrix, not an array of shape {values.shape}")
    pattern = Pattern.parse(pattern)
    mask = magnitude_mask(values, pattern, axis)
    codes = (mask * np.where(values < 0, 2, 1))[:MASK_ROWS, :MASK_COLUMNS]
    axes.pcolormesh(codes, cmap=ListedColormap(["white", BLUE, VERMILION]), vmin=0, vmax=2, edgecolor="#E4E4E4", lw=0.3)
    along_columns = axis % 2 == 1
    steps = (pattern.v if pattern.kind == "vnm" else 1, pattern.m if pattern.has_groups else 0)
    row_step, column_step = steps if along_columns else steps[::-1]
    rows, columns = codes.shape
    if row_step > 1:
        axes.hlines(range(0, rows + 1, row_step), 0, columns, color=BLACK, linewidth=1.0)
    if column_step > 1:
        axes.vlines(range(0, columns + 1, column_step), 0, rows, color=BLACK, linewidth=1.0)
    axes.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal", xticks=[], yticks=[])
    cut = (
        ""
        if codes.shape == values.shape
        else f"; the first {rows} x {columns} of {values.shape[0]} x {values.shape[1]}"
    )
    axes.set_xlabel(f"{pattern} along the {'rows' if along_columns else 'columns'}, density {mask.mean():.4g}{cut}")
    for colour, label in ((BLUE, "kept, positive"), (VERMILION, "kept, negative"), ("white", "pruned")):
        axes.scatter([], [], marker="s", s=40, color=colour, edgecolor=GREY, linewidth=0.6, label=label)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return axes


_LINE: dict[str, Any] = {"linewidth": 1.4, "markersize": 3.5}

Stairs = tuple[np.ndarray, np.ndarray]
"""Edges of intervals in steps [intervals + 1] and the flips per step in each [intervals]."""


def _few(traces: Mapping[str, Trace]) -> Mapping[str, Trace]:
    if len(traces) > len(SERIES):
        raise UnsupportedError(f"{len(traces)} runs; a plot can tell {len(SERIES)} apart")
    return traces


def _short(name: str) -> str:
    return shorten(name, NAME_WIDTH)


def _over_steps(axes: Axes, traces: Mapping[str, Trace]) -> Axes:
    """The axis of steps, with a thin line where a phase of one run begins."""
    axes.set_xlabel("training step")
    axes.set_xlim(0, max(trace.steps for trace in traces.values()))
    phases = next(iter(traces.values())).executed.phases
    if len(traces) == 1 and len(phases) <= MOST_PHASES:
        for phase in phases[1:]:
            axes.axvline(phase.first_step, color=GREY, linewidth=0.8, linestyle=":")
    grid(axes)
    return axes


def _flips(trace: Trace) -> dict[str, Stairs]:
    """Mask flips of the weight of each layer that has any, as the forward product reads it."""
    table = trace.intervals
    forward = (table["stage"] == STAGES.index("FF")) & (table["operand"] == OPERANDS.index("b"))
    found = {}
    for layer in np.unique(table["layer"][forward]):
        at = np.flatnonzero(forward & (table["layer"] == layer))
        if table["mask_flips"][at].any():
            edges = np.concatenate([[0], table["step"][at]])
            found[trace.executed.layers[layer]] = edges, table["mask_flips"][at] / np.maximum(np.diff(edges), 1)
    return found


def _largest(flips: dict[str, Stairs]) -> dict[str, Stairs]:
    """The layers with most flips, and the sum of the others."""
    order = sorted(flips, key=lambda name: -float(flips[name][1] @ np.diff(flips[name][0])))
    lines = {last_part(name, NAME_WIDTH): flips[name] for name in order[:MOST_LAYERS]}
    if rest := order[MOST_LAYERS:]:
        lines[f"{len(rest)} other layers"] = _summed([flips[name] for name in rest])
    return lines


def _summed(parts: list[Stairs]) -> Stairs:
    """The sum of rates, on the edges of all."""
    edges = np.unique(np.concatenate([e for e, _ in parts]))
    total = np.zeros(len(edges) - 1)
    for own, rate in parts:
        at = np.searchsorted(own, edges[:-1], side="right") - 1
        total += np.where((at >= 0) & (at < len(rate)), rate[np.clip(at, 0, len(rate) - 1)], 0.0)
    return edges, total
