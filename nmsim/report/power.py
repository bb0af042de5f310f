"""Power over time in a picture, and as a counter of a trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nmsim.report.figures import Picture, picture
from nmsim.report.style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    LIGHT,
    ORANGE,
    PURPLE,
    VERMILION,
    coloured,
    legend_below,
    scaled,
    styled,
)
from nmsim.report.tables import WIDTH, quantity, shorten

if TYPE_CHECKING:
    from nmsim.energy.timeline import PowerTrace
    from nmsim.engines.event.result import EventResult

STEPS = 400
"""Stretches of equal length whose mean powers are drawn and traced."""
UNIT_COLOURS = {
    "array": BLUE, "cores": BLUE, "vector": PURPLE, "SORE": VERMILION, "WUVE": GREEN, "DRAM": ORANGE,
}  # fmt: skip


@styled
def plot_power(result: EventResult, trace: PowerTrace | None = None) -> Picture:
    """Watts over time, stacked: the static power, then each unit; the average, the highest step and a cap as lines."""
    whole = result.power() if trace is None else trace
    shown = whole.binned(STEPS)
    figure = picture(1.6 * COLUMN, 3.0)
    axes = figure.add_subplot()
    factor, unit = scaled([float(whole.edges_s[-1])])
    edges, colours = shown.edges_s * factor, coloured(list(shown.watts), UNIT_COLOURS)
    floor = np.full(STEPS, shown.static_w)
    axes.stairs(floor, edges, fill=True, color=LIGHT, label="static")
    for name, watts in shown.watts.items():
        axes.stairs(floor + watts, edges, baseline=floor, fill=True, color=colours[name], label=name, lw=0)
        floor = floor + watts
    axes.axhline(whole.average_w, color=BLACK, lw=0.9, label=f"average {quantity(whole.average_w, 'W', 3)}")
    axes.axhline(whole.peak_w, color=BLACK, lw=0.9, ls=":", label=f"peak {quantity(whole.peak_w, 'W', 3)}")
    if whole.cap_w is not None:
        axes.axhline(whole.cap_w, color=BLACK, lw=0.9, ls="--", label=f"cap {quantity(whole.cap_w, 'W', 3)}")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"time [{unit}]")
    axes.set_ylabel("power [W]")
    axes.set_title(shorten(f"{result.workload.name} on {result.arch.name}: mean power in {STEPS} intervals", WIDTH))
    legend_below(axes, columns=5)
    return figure


def power_counters(trace: PowerTrace) -> Iterator[dict[str, Any]]:
    """Events of a counter "power" with a value in watts for each unit, in Chrome's trace event format."""
    shown = trace.binned(STEPS)
    parts = {"static": np.full(STEPS, shown.static_w), **shown.watts}
    for step, second in enumerate(shown.edges_s[:-1].tolist()):
        watts = {f"{name} [W]": round(float(values[step]), 6) for name, values in parts.items()}
        yield {"name": "power", "ph": "C", "pid": 1, "ts": 1e6 * second, "args": watts}
