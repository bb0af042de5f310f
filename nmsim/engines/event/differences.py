"""Why the event engine and the analytic engine differ, op by op, measured from what the units did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from nmsim.engines.event.machine import Marks
    from nmsim.engines.event.result import EventResult
    from nmsim.results.result import Result

NEGLIGIBLE = 0.002
"""Differences below this share of the analytic cycles are not explained."""
REASONS = {
    "overlap": "runs beside other ops, or its weights were fetched during those before",
    "first load": "the unit waits for the first piece, which the analytic engine takes as hidden",
    "last store": "the last result is stored after the unit has ended",
    "waits": "DRAM and the unit wait for each other in turn, piece by piece, or share DRAM with other ops",
    "shorter": "the unit takes less than the analytic bound: pieces round down, or stores hide what it adds",
}
"""What `difference_because` can say."""


def differences(result: EventResult) -> pd.DataFrame:
    """A row per op: cycles of both engines, analytic / event - 1, the share of the run that each difference makes, and
    `difference_because`, the largest of the reasons in REASONS."""
    import pandas as pd

    work = result.workload
    event, analytic = result.columns["cycles"], np.asarray(result.analytic_cycles)
    repeat = work["repeat"].astype(float)
    because = dict(_reasons(result))
    rows = [int(row) for row in np.asarray(result.rows)]
    return pd.DataFrame(
        {
            "layer": work.names("layer"),
            "stage": work.names("stage"),
            "kind": work.names("kind"),
            "analytic_cycles": analytic,
            "event_cycles": event,
            "difference": np.divide(analytic, event, out=np.full(len(event), np.nan), where=event > 0) - 1,
            "share_of_run": (analytic - event) * repeat / max(float(event @ repeat), 1.0),
            "difference_because": [because[row] for row in rows],
        }
    )


def by_reason(result: EventResult) -> dict[str, float]:
    """What each reason contributes to analytic / event - 1 of the whole run; they sum to it."""
    frame = differences(result)
    sums = frame.groupby("difference_because")["share_of_run"].sum()
    return {str(reason) or "negligible": float(value) for reason, value in sums.items()}


def _reasons(result: EventResult) -> Iterator[tuple[int, str]]:
    """Row of the whole workload, and the reason."""
    analytic = dict(zip(np.asarray(result.rows).tolist(), np.asarray(result.analytic_cycles).tolist(), strict=True))
    event = dict(zip(np.asarray(result.rows).tolist(), result.columns["cycles"].tolist(), strict=True))
    for execution in result.executions:
        for place, (row, marks) in enumerate(zip(execution.rows, execution.outcome.marks, strict=True)):
            fetched = execution.fetched > 0 and place == 0 and result.streams[row].ready > 0
            yield row, _reason(marks, event[row], analytic[row], result.streams[row].total("cycles"), fetched)


def _reason(marks: Marks, event: float, analytic: float, busy: int, fetched: bool) -> str:
    if abs(event - analytic) <= max(NEGLIGIBLE * analytic, 1.0):
        return ""
    if event < marks.end - marks.start or (fetched and event < analytic):
        return "overlap"
    if event < analytic:
        return "shorter"
    parts = {
        "first load": marks.computing - marks.start,
        "last store": marks.end - marks.computed,
        "waits": marks.computed - marks.computing - busy,
    }
    return max(parts, key=lambda name: parts[name])


def explained(result: Result) -> list[str]:
    """Lines for a person: whether the run is partial, and why its latency is not that of the analytic engine."""
    from nmsim.engines.event.result import EventResult

    if not isinstance(result, EventResult):
        return []
    lines = []
    if result.partial:
        lines.append(
            f"partial: after {result.simulated:,} tiles {len(result.workload)} of {result.ops} ops were reached; "
            "totals are theirs"
        )
    parts = sorted(by_reason(result).items(), key=lambda part: -abs(part[1]))
    shown = [f"{value:+.1%} {REASONS.get(name, name)}" for name, value in parts if abs(value) >= 0.0005]
    lines.append(
        f"analytic latency / event latency - 1 = {sum(v for _, v in parts):+.1%}: {'; '.join(shown) or 'even'}"
    )
    return lines
