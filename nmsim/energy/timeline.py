"""Power over time, from when each unit was busy and the energy that it spent meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nmsim.errors import UnsupportedError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("unit", "start_cycle", "end_cycle", "joules")


@dataclass(frozen=True)
class PowerTrace:
    """Power between successive instants: `edges_s` [steps + 1], `watts` by unit [steps]; `static_w` beside them.

    `cap_w` is what the machine may draw over a time that its clock model looks at, None where it has no cap.
    """

    edges_s: np.ndarray
    watts: Mapping[str, np.ndarray]
    static_w: float
    cap_w: float | None = None

    @property
    def total_w(self) -> np.ndarray:
        """Watts of all units and the static power [steps]."""
        return self.static_w + np.sum(list(self.watts.values()), axis=0)

    @property
    def energy_j(self) -> float:
        """The area under the curve."""
        return float(self.total_w @ np.diff(self.edges_s))

    @property
    def average_w(self) -> float:
        """Mean power."""
        return self.energy_j / float(self.edges_s[-1] - self.edges_s[0])

    @property
    def peak_w(self) -> float:
        """The highest power."""
        return float(self.total_w.max())

    def over(self, limit_w: float) -> float:
        """The share of the time in which more than `limit_w` is drawn."""
        lasting = np.diff(self.edges_s)
        return float(lasting[self.total_w > limit_w].sum() / lasting.sum())

    def binned(self, steps: int) -> PowerTrace:
        """Mean powers over `steps` stretches of equal length; the energy is the same."""
        edges = np.linspace(self.edges_s[0], self.edges_s[-1], steps + 1)
        watts = {}
        for name, power in self.watts.items():
            spent = np.concatenate([[0.0], np.cumsum(power * np.diff(self.edges_s))])
            watts[name] = np.diff(np.interp(edges, self.edges_s, spent)) / np.diff(edges)
        return PowerTrace(edges, watts, self.static_w, self.cap_w)

    def to_frame(self) -> pd.DataFrame:
        """A row per step: start_s, end_s, watts of each unit, static and total."""
        import pandas as pd

        columns = {f"{unit}_w": values for unit, values in self.watts.items()}
        edges = {"start_s": self.edges_s[:-1], "end_s": self.edges_s[1:]}
        return pd.DataFrame({**edges, **columns, "static_w": self.static_w, "total_w": self.total_w})


def power_over_time(
    timeline: pd.DataFrame, clock: float, static_w: float = 0.0, cap_w: float | None = None
) -> PowerTrace:
    """The power of each unit over time: the energy of each interval spread evenly over it.

    `timeline` has a row per interval with the columns of COLUMNS; intervals of a unit may overlap (two tiles in
    flight draw twice). Steps end where any interval starts or ends, so that the energy is conserved exactly. Raises
    UnsupportedError for missing columns, intervals that do not last, and energies that are negative or no numbers.
    """
    if missing := [name for name in COLUMNS if name not in timeline.columns]:
        raise UnsupportedError(f"a timeline has the columns {', '.join(COLUMNS)}; {missing[0]} is missing")
    units = timeline["unit"].to_numpy()
    start, end, joules = (timeline[name].to_numpy(dtype=float) for name in COLUMNS[1:])
    if len(units) == 0 or clock <= 0:
        raise UnsupportedError("power over time needs at least one interval and a clock above 0")
    if (bad := np.flatnonzero(~(end > start))).size:
        raise UnsupportedError(f"row {bad[0]} of the timeline ({units[bad[0]]}) does not end after its start")
    if (bad := np.flatnonzero(~(joules >= 0))).size:
        raise UnsupportedError(f"row {bad[0]} of the timeline ({units[bad[0]]}) spends {joules[bad[0]]:g} J")
    edges, place = np.unique(np.concatenate([start, end]), return_inverse=True)
    power = joules * clock / (end - start)
    watts = {}
    for name in dict.fromkeys(map(str, units)):
        mine = np.flatnonzero(units == name)
        change = np.bincount(place[mine], power[mine], len(edges))
        change -= np.bincount(place[mine + len(units)], power[mine], len(edges))
        watts[name] = np.maximum(np.cumsum(change)[:-1], 0.0)  # what rounding leaves of a sum of 0 is not negative
    return PowerTrace(edges / clock, watts, static_w, cap_w)
