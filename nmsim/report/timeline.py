"""A timeline of the event engine as a Gantt chart, and as a trace that Perfetto and Chrome open."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Patch

from nmsim.report.figures import Picture, picture
from nmsim.report.power import power_counters
from nmsim.report.style import COLUMN, GREY, LIGHT, STAGE_COLOURS, house_style, scaled
from nmsim.report.tables import WIDTH, shorten

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from nmsim.energy.timeline import PowerTrace
    from nmsim.engines.event.result import EventResult

STEPS = 400
"""Steps of the curve of DRAM bandwidth."""


def tracks(frame: pd.DataFrame) -> list[str]:
    """The units of a timeline in the order in which data pass them, threads one after another."""
    units = list(dict.fromkeys(name.split(" DMA ")[0] for name in frame["unit"]))
    present = set(frame["unit"])
    return [name for unit in units for name in (f"{unit} DMA in", unit, f"{unit} DMA out") if name in present]


def plot_timeline(result: EventResult, timeline: pd.DataFrame | None = None) -> Picture:
    """A row per unit, coloured by stage, over the DRAM bandwidth in use; `timeline` may be an excerpt of the run's."""
    frame = result.timeline() if timeline is None else timeline
    with house_style():
        names = tracks(frame)
        figure = picture(COLUMN, 1.6 + 0.22 * len(names))
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[max(len(names), 2), 2])
        seconds = frame[["start_cycle", "end_cycle"]].to_numpy() / result.arch.clock
        factor, unit = scaled([float(seconds.max(initial=0.0))])
        _bars(upper, frame, names, seconds * factor)
        _bandwidth(lower, frame, seconds, factor, result.arch.clock)
        lower.set_xlabel(f"time [{unit}]")
        present = set(frame["stage"])
        handles = [Patch(color=colour, label=stage) for stage, colour in STAGE_COLOURS.items() if stage in present]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1)
        title = f"{result.workload.name} on {result.arch.name}, event engine"
        remarks = {
            "partial": result.partial,
            "first part": frame.attrs.get("ends_early", False),
            "repeats as one bar": not frame.attrs.get("complete", True),
        }
        shown = ", ".join(remark for remark, holds in remarks.items() if holds)
        upper.set_title(shorten(f"{title} ({shown})" if shown else title, WIDTH))
        return figure


def _bars(axes: Axes, frame: pd.DataFrame, names: list[str], times: np.ndarray) -> None:
    stages = frame["stage"].to_numpy()
    repeated = frame["phase"].to_numpy() == "repeated"
    for row, name in enumerate(names):
        here = frame["unit"].to_numpy() == name
        for stage in dict.fromkeys(stages[here]):
            for alike, alpha in ((False, 1.0), (True, 0.6)):
                chosen = here & (stages == stage) & (repeated == alike)
                spans = [(start, end - start) for start, end in times[chosen]]
                if spans:
                    axes.broken_barh(
                        spans, (row - 0.38, 0.76), facecolors=STAGE_COLOURS[stage], alpha=alpha, lw=0, snap=False
                    )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _bandwidth(axes: Axes, frame: pd.DataFrame, seconds: np.ndarray, factor: float, clock: float) -> None:
    """Bytes per second at DRAM, the bytes of each transfer spread evenly over its time."""
    moved = frame["bytes"].to_numpy() > 0
    edges, rate = bandwidth(frame[moved], STEPS)
    axes.stairs(rate * clock / 1e9, edges / clock * factor, fill=True, color=LIGHT, edgecolor=GREY, lw=0.8)
    axes.set_ylabel("DRAM\n[GB/s]")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, float(seconds.max(initial=0.0)) * factor or 1.0)


def bandwidth(frame: pd.DataFrame, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges in cycles [steps + 1] and mean bytes per cycle between them [steps], which sum to all bytes moved."""
    start, end, size = (frame[x].to_numpy(float) for x in ("start_cycle", "end_cycle", "bytes"))
    edges = np.linspace(0.0, max(float(end.max(initial=0.0)), 1.0), steps + 1)
    order = np.argsort(start), np.argsort(end)
    rate = np.divide(size, end - start, out=np.zeros(len(size)), where=end > start)
    done = np.zeros(steps + 1)
    for sign, moments, which in ((1.0, start[order[0]], order[0]), (-1.0, end[order[1]], order[1])):
        slope = np.concatenate([[0.0], np.cumsum(rate[which])])
        offset = np.concatenate([[0.0], np.cumsum(rate[which] * moments)])
        reached = np.searchsorted(moments, edges, side="right")
        done += sign * (slope[reached] * edges - offset[reached])
    return edges, np.diff(done) / np.diff(edges)


def trace(result: EventResult, timeline: pd.DataFrame | None = None, power: PowerTrace | None = None) -> bytes:
    """The timeline in Chrome's trace event format, gzipped JSON: a track per unit, and counters of DRAM bandwidth, of
    what lies in the buffers and of the power of each unit. Times are microseconds of the machine."""
    frame = result.timeline() if timeline is None else timeline
    names = tracks(frame)
    per_us = result.arch.clock / 1e6
    events: list[dict[str, Any]] = [{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": result.arch.name}}]
    for number, name in enumerate(names):
        events.append({"name": "thread_name", "ph": "M", "pid": 1, "tid": number + 1, "args": {"name": name}})
        events.append(
            {"name": "thread_sort_index", "ph": "M", "pid": 1, "tid": number + 1, "args": {"sort_index": number}}
        )
    track = {name: number + 1 for number, name in enumerate(names)}
    columns = ("unit", "op", "layer", "stage", "phase", "start_cycle", "end_cycle", "bytes")
    for unit, op, layer, stage, phase, start, end, size in zip(*(frame[c].tolist() for c in columns), strict=True):
        events.append(
            {
                "name": f"{layer} {stage}", "cat": phase, "ph": "X", "pid": 1, "tid": track[unit],
                "ts": start / per_us, "dur": (end - start) / per_us,
                "args": {"op": op, "phase": phase, "bytes": size, "start_cycle": start, "end_cycle": end},
            }
        )  # fmt: skip
    events += _counters(frame, per_us)
    events += power_counters(result.power() if power is None else power)
    text = json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}, separators=(",", ":"))
    return gzip.compress(text.encode(), mtime=0)


def _counters(frame: pd.DataFrame, per_us: float) -> Iterator[dict[str, Any]]:
    edges, rate = bandwidth(frame[frame["bytes"] > 0], STEPS)
    for cycle, bytes_per_cycle in zip(edges[:-1], rate, strict=True):
        value = {"GB/s": float(round(bytes_per_cycle * per_us / 1e3, 6))}
        yield {"name": "DRAM bandwidth", "ph": "C", "pid": 1, "ts": float(cycle) / per_us, "args": value}
    for unit, cycles, held in buffer_fill(frame):
        for cycle, size in zip(cycles.tolist(), held.tolist(), strict=True):
            yield {"name": f"{unit} buffers", "ph": "C", "pid": 1, "ts": cycle / per_us, "args": {"bytes": size}}


def buffer_fill(frame: pd.DataFrame) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """For each unit, cycles and the bytes of operands then in its buffers: what was loaded for an op, given up evenly
    by the pieces that are computed from it."""
    plain = frame[frame["phase"] != "repeated"]
    for unit in (name for name in tracks(plain) if " DMA " not in name):
        loads, computes = plain[plain["unit"] == f"{unit} DMA in"], plain[plain["unit"] == unit]
        loaded = loads.groupby("op")["bytes"].sum()
        pieces = computes.groupby("op")["bytes"].size()
        given_up = [loaded.get(op, 0) / pieces[op] for op in computes["op"]]
        ends = np.concatenate([loads["end_cycle"].to_numpy(), computes["end_cycle"].to_numpy()])
        changes = np.concatenate([loads["bytes"].to_numpy(float), -np.asarray(given_up, float)])
        order = np.argsort(ends, kind="stable")
        yield unit, ends[order], np.maximum(np.round(np.cumsum(changes[order])), 0).astype(np.int64)
