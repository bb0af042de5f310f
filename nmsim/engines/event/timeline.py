"""The timeline: what every unit did when, a row per phase of a piece, what was skipped written out again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from nmsim.engines.event.machine import Outcome
from nmsim.engines.event.spans import COMPUTE, LOAD, PHASES, Span

if TYPE_CHECKING:
    import pandas as pd

    from nmsim.engines.event.result import EventResult

LIMIT = 200_000
"""Rows of a timeline; where a run has more, the stretches that repeat become a row each."""
DMA = " DMA "
"""What stands in the name of a track between the unit and the direction."""
REPEATED = "repeated"
"""Phase of a row that stands for a stretch of equal periods."""


def expanded(outcome: Outcome) -> Iterator[Span]:
    """Every span of a segment, those of the skipped periods included, times in cycles of the segment."""
    skips = sorted(outcome.skips, key=lambda skip: skip.last)
    lasts = [skip.last for skip in skips]
    for index, span in enumerate(outcome.spans):
        yield span
        for skip in skips[bisect_right(lasts, index) :]:
            if skip.first <= index < skip.last:
                for time in range(1, skip.times + 1):
                    yield span._replace(start=span.start + time * skip.cycles, end=span.end + time * skip.cycles)


def unit_names(unit: str, phase: int) -> str:
    """The track that a span belongs to: the unit, or its DMA."""
    return unit if phase == COMPUTE else f"{unit}{DMA}{'in' if phase == LOAD else 'out'}"


def frame(result: EventResult, limit: int = LIMIT, cut: bool = True) -> pd.DataFrame:
    """A row per phase of a piece, in order of its start: unit, op (row of the workload), layer, stage, phase,
    start_cycle, end_cycle, bytes. Ops that repeat are shown once, ops that a partial run did not reach not at all.

    Where that would be more than `limit` rows, stretches of equal periods become a row of phase `repeated` per unit
    (with the bytes of the whole stretch), and of what is left, with `cut`, the first `limit` rows are kept;
    `attrs["complete"]` tells whether every span is there, `attrs["ends_early"]` whether rows are left out at the end.
    """
    import pandas as pd

    whole = sum(len(e.outcome.spans) + _hidden(e.outcome) for e in result.executions) <= limit
    rows: list[tuple[int, int, int, int, int]] = []
    reached = set(np.asarray(result.rows).tolist())
    for execution in result.executions:
        spans = expanded(execution.outcome) if whole else summarised(execution.outcome)
        start = execution.start
        rows += [
            (row, s.phase, s.start + start, s.end + start, s.size)
            for s in spans
            if (row := execution.row(s.op)) in reached
        ]
        if cut and len(rows) > limit:
            break
    rows.sort(key=lambda row: (row[2], row[3], row[0], row[1]))
    table = np.array(rows[:limit] if cut else rows, dtype=np.int64).reshape(-1, 5)
    phases = table[:, 1] % REPEAT
    place = np.searchsorted(np.asarray(result.rows), table[:, 0])
    tracks = [unit_names(result.streams[op].unit, phase) for op, phase in zip(table[:, 0], phases, strict=True)]
    names = np.array([*PHASES, REPEATED], dtype=object)
    found = pd.DataFrame(
        {
            "unit": tracks,
            "op": table[:, 0],
            "layer": result.workload.names("layer")[place],
            "stage": result.workload.names("stage")[place],
            "phase": names[np.where(table[:, 1] >= REPEAT, len(PHASES), phases)],
            "start_cycle": table[:, 2],
            "end_cycle": table[:, 3],
            "bytes": table[:, 4],
        }
    )
    found.attrs["complete"] = whole
    found.attrs["ends_early"] = cut and len(rows) > limit
    return found


REPEAT = 10
"""Added to the phase of a span that stands for many."""


def _hidden(outcome: Outcome) -> int:
    return sum((skip.last - skip.first) * skip.times for skip in outcome.skips)


def summarised(outcome: Outcome) -> Iterator[Span]:
    """The spans as simulated, and one per op and phase for each stretch that was skipped."""
    skips = {skip.last: skip for skip in outcome.skips}
    for index, span in enumerate(outcome.spans):
        if (skip := skips.get(index)) is not None:
            yield from _stretch(outcome.spans.between(skip.first, skip.last), skip.times, skip.cycles)
        yield span


def _stretch(spans: list[Span], times: int, cycles: int) -> Iterator[Span]:
    """A span for each op and phase of a period that is repeated."""
    start = max(span.end for span in spans)
    for op, phase in dict.fromkeys((span.op, span.phase) for span in spans):
        size = sum(span.size for span in spans if (span.op, span.phase) == (op, phase))
        yield Span(op, phase + REPEAT, start, start + times * cycles, size * times)
