"""The result of the event engine: that of every engine, with a timeline and the reasons why it differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nmsim.engines.event.machine import Outcome
from nmsim.engines.event.spans import NEXT
from nmsim.engines.event.stream import Stream
from nmsim.results.result import Result

if TYPE_CHECKING:
    import pandas as pd

    from nmsim.energy.timeline import PowerTrace


@dataclass(frozen=True)
class Execution:
    """A segment of the run: rows of the workload in the order of its jobs, what became of it, its first cycle, the
    bytes of weights that had been fetched before, and the row of the product whose weights it fetches (-1: none)."""

    rows: tuple[int, ...]
    outcome: Outcome
    start: int
    fetched: int = 0
    ahead: int = -1

    def row(self, op: int) -> int:
        """The row of the workload that the op of a span stands for."""
        return self.ahead if op == NEXT else self.rows[op]


@dataclass(frozen=True, eq=False)
class EventResult(Result):
    """A result with the executions behind it, the cycles of the analytic engine [ops], the rows of the whole workload
    that were reached, and the number of pieces that were simulated.

    `cycles` of an op are those it adds to the run: 0 where others hide it.
    """

    executions: tuple[Execution, ...] = ()
    streams: tuple[Stream, ...] = ()
    analytic_cycles: np.ndarray | None = None
    rows: np.ndarray | None = None
    simulated: int = 0
    ops: int = 0

    @property
    def partial(self) -> bool:
        """Whether the budget ended the simulation before the last op."""
        return len(self.workload) < self.ops

    def timeline(self, limit: int | None = None) -> pd.DataFrame:
        """A row per phase of a piece, see `nmsim.engines.event.timeline`."""
        from nmsim.engines.event.timeline import LIMIT, frame

        return frame(self, LIMIT if limit is None else limit)

    def power(self, limit: int | None = None) -> PowerTrace:
        """Watts of every unit over time, their peak and average, see `nmsim.engines.event.power`."""
        from nmsim.engines.event.power import power
        from nmsim.engines.event.timeline import LIMIT

        return power(self, LIMIT if limit is None else limit)

    def differences(self) -> pd.DataFrame:
        """A row per op: how it differs from the analytic engine and why, see `nmsim.engines.event.differences`."""
        from nmsim.engines.event.differences import differences

        return differences(self)

    def to_frame(self) -> pd.DataFrame:
        """The table of every result, with the cycles of the analytic engine and `difference_because`."""
        frame, found = super().to_frame(), self.differences()
        return frame.assign(analytic_cycles=found["analytic_cycles"], difference_because=found["difference_because"])

    def by_reason(self) -> dict[str, float]:
        """What each reason contributes to analytic / event - 1 of the whole run."""
        from nmsim.engines.event.differences import by_reason

        return by_reason(self)
