"""Two results side by side: metrics with ratios, speed-up by stage, and what differs between the runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nmsim.report.energy import order_line
from nmsim.report.summary import NAMES
from nmsim.report.tables import quantity, shorten, table
from nmsim.results.io import SavedResult
from nmsim.results.metrics import METRICS
from nmsim.workloads.optable import STAGES

Names = tuple[str, str]
NAME_WIDTH = 24
WORK = ("workload", "phase", "batch", "streams", "context", "steps", "rows")
"""Settings without which two results did not do the same work: no speed-up is told where one differs."""
MACHINERY = ("arch", "dtype", "engine")
"""Settings that a comparison may be about, and that a note names when they differ."""


def comparison_text(first: SavedResult, second: SavedResult, names: Names) -> str:
    """The comparison in at most 100 columns."""
    short = [shorten(name, NAME_WIDTH) for name in names]
    parts = [
        "\n".join(["Runs", table(_settings_rows(first, second), ["", *short], "lrr"), *_warnings(first, second)]),
        "\n".join(["Metrics", _side_by_side(first.metrics, second.metrics, short, "metric")]),
        "\n".join(["Latency by stage", _stages(first, second, short)]),
        order_line(first.energy, second.energy, names) if comparable(first, second) else "",
        speedup_line(first, second, names),
    ]
    return "\n\n".join(part for part in parts if part)


def to_dict(first: SavedResult, second: SavedResult, names: Names) -> dict[str, Any]:
    """The comparison as plain data: ratios are second over first, speed-ups first over second."""
    return {
        "names": list(names),
        "speedup": speedup(first, second),
        "unlike": unlike(first, second),
        "differences": {
            name: list(values) for name, values in settings(first, second).items() if values[0] != values[1]
        },
        "metrics": {name: _triple(first.metrics[name], second.metrics[name], "ratio") for name in METRICS},
        "stages": {
            stage: {**_triple(a, b, ""), "speedup": math.nan if unlike(first, second) else _over(a, b)}
            for stage, (a, b) in _paired(first.breakdowns["stage"], second.breakdowns["stage"]).items()
        },
    }


def to_rows(first: SavedResult, second: SavedResult) -> list[dict[str, object]]:
    """A row per metric and per stage, for CSV; `ratio` is second over first."""
    rows = {name: (first.metrics[name], second.metrics[name]) for name in METRICS}
    stages = _paired(first.breakdowns["stage"], second.breakdowns["stage"])
    rows |= {f"latency_s.{stage}": values for stage, values in stages.items()}
    return [{"figure": name, "first": a, "second": b, "ratio": _over(b, a)} for name, (a, b) in rows.items()]


def speedup(first: SavedResult, second: SavedResult) -> float:
    """How many times shorter the second's latency is; NaN where they did not do the same work."""
    if unlike(first, second):
        return math.nan
    return _over(first.metrics["latency_s"], second.metrics["latency_s"])


def speedup_line(first: SavedResult, second: SavedResult, names: Names) -> str:
    """ "B is 1.79x faster than A", or why that cannot be said."""
    if differing := unlike(first, second):
        return f"No speed-up: {names[0]} and {names[1]} did not do the same work; they differ in {', '.join(differing)}"
    ratio = speedup(first, second)
    if not math.isfinite(ratio) or ratio == 0:
        return "The speed-up is unknown: a latency is missing."
    if abs(ratio - 1) < 5e-4:
        return f"{names[1]} takes as long as {names[0]}"
    return f"{names[1]} is {_times(max(ratio, 1 / ratio))} {'faster' if ratio > 1 else 'slower'} than {names[0]}"


def comparable(first: SavedResult, second: SavedResult) -> bool:
    """Whether one table holds for both energies: the same work on one machine."""
    return first.arch == second.arch and not unlike(first, second)


def unlike(first: SavedResult, second: SavedResult) -> list[str]:
    """The settings of WORK in which the two differ."""
    one, other = _work(first), _work(second)
    return [name for name in WORK if one[name] != other[name]]


def _work(result: SavedResult) -> dict[str, object]:
    """The settings of WORK, those that a run left out at their default."""
    info = result.info
    phase = "inference" if info.get("recipe") in (None, "inference") else "training"
    return {
        "workload": result.workload, "phase": "decode" if info.get("decode") else phase, "batch": info.get("batch"),
        "streams": info.get("streams"), "context": info.get("context"), "steps": info.get("steps", 1),
        "rows": info.get("rows"),
    }  # fmt: skip


def settings(first: SavedResult, second: SavedResult) -> dict[str, tuple[object, object]]:
    """What each run was, by setting; None where a run has no such setting."""
    both = [{"arch": r.arch, "workload": r.workload, "engine": r.engine, **r.info} for r in (first, second)]
    names = [name for name in dict.fromkeys([*both[0], *both[1]]) if name != "model"]
    return {name: (both[0].get(name), both[1].get(name)) for name in names}


def _settings_rows(first: SavedResult, second: SavedResult) -> list[list[str]]:
    return [
        [name, *(shorten(_setting(value), NAME_WIDTH) for value in values)]
        for name, values in settings(first, second).items()
        if name not in ("master_dtype", "streams") or values[0] != values[1]
    ]


def _setting(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {length}" for name, length in value.items()) or "-"
    return "-" if value is None else str(value)


def _warnings(first: SavedResult, second: SavedResult) -> list[str]:
    pairs = settings(first, second)
    machinery = [name for name in MACHINERY if name in pairs and pairs[name][0] != pairs[name][1]]
    differing = [*unlike(first, second), *machinery]
    return [f"  Note: the runs differ in {', '.join(differing)}, not only in recipe and pattern."] if differing else []


def _side_by_side(first: Mapping[str, float], second: Mapping[str, float], short: list[str], what: str) -> str:
    rows = [
        [
            NAMES.get(name, name), quantity(first[name], metric.unit), quantity(second[name], metric.unit),
            _times(_over(second[name], first[name])),
        ]
        for name, metric in METRICS.items()
    ]  # fmt: skip
    return table(rows, [what, *short, "ratio"], "lrrr")


def _stages(first: SavedResult, second: SavedResult, short: list[str]) -> str:
    same = not unlike(first, second)
    rows = [
        [stage, *("-" if v == 0 else quantity(v, "s") for v in (a, b)), _times(_over(a, b) if a and same else math.nan)]
        for stage, (a, b) in _paired(first.breakdowns["stage"], second.breakdowns["stage"], STAGES).items()
    ]
    return table(rows, ["stage", *short, "speed-up"], "lrrr")


def _paired(
    first: Mapping[str, float], second: Mapping[str, float], order: Sequence[str] = ()
) -> dict[str, tuple[float, float]]:
    found = {**first, **second}
    names = dict.fromkeys([*(name for name in order if name in found), *found])
    return {name: (first.get(name, 0.0), second.get(name, 0.0)) for name in names}


def _triple(a: float, b: float, ratio: str) -> dict[str, float]:
    values = {"first": a, "second": b}
    return values | {ratio: _over(b, a)} if ratio else values


def _over(above: float, below: float) -> float:
    return above / below if below else math.nan


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if math.isfinite(ratio) and ratio < 1e6 else "-"
