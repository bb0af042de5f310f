"""Power over time, from when each unit was busy and the energy that it spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nmsim.errors import UnsupportedError, unknown

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("unit", "start_cycle", "end_cycle")


@dataclass(frozen=True)
class PowerTrace:
    """Power between successive instants: `edges_s` [steps + 1], `watts` by unit [steps]; `static_w` beside them."""

    edges_s: np.ndarray
    watts: Mapping[str, np.ndarray]
    static_w: float

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

    def to_frame(self) -> pd.DataFrame:
        """A row per step: start_s, end_s, watts of each unit, static and total."""
        import pandas as pd

        columns = {f"{unit}_w": values for unit, values in self.watts.items()}
        edges = {"start_s": self.edges_s[:-1], "end_s": self.edges_s[1:]}
        return pd.DataFrame({**edges, **columns, "static_w": self.static_w, "total_w": self.total_w})


def power_over_time(
    timeline: pd.DataFrame, energy_j: Mapping[str, float], clock: float, static_w: float = 0.0
) -> PowerTrace:
    """The power of each unit over time: its energy spread evenly over the cycles that it was busy.

    `timeline` has a row per interval with the columns of COLUMNS; intervals of a unit may overlap (two tiles in
    flight draw twice). Steps end where any interval starts or ends, so that the energy is conserved exactly. Raises
    UnsupportedError for missing columns, intervals that do not last, and energy of a unit that was never busy.
    """
    if missing := [name for name in COLUMNS if name not in timeline.columns]:
        raise UnsupportedError(f"a timeline has the columns {', '.join(COLUMNS)}; {missing[0]} is missing")
    units = timeline["unit"].to_numpy()
    start, end = (timeline[name].to_numpy(dtype=float) for name in COLUMNS[1:])
    if len(units) == 0 or clock <= 0:
        raise UnsupportedError("power over time needs at least one interval and a clock above 0")
    if (bad := np.flatnonzero(end <= start)).size:
        raise UnsupportedError(f"row {bad[0]} of the timeline ({units[bad[0]]}) does not end after its start")
    for name in energy_j:
        if name not in set(units):
            raise UnsupportedError(unknown("unit of the timeline", name, set(map(str, units))))
    edges = np.unique(np.concatenate([start, end]))
    watts = {}
    for name in dict.fromkeys(map(str, units)):
        mine = units == name
        change = np.zeros(len(edges))
        np.add.at(change, np.searchsorted(edges, start[mine]), 1.0)
        np.add.at(change, np.searchsorted(edges, end[mine]), -1.0)
        busy = float((end[mine] - start[mine]).sum())
        watts[name] = np.cumsum(change)[:-1] * energy_j.get(name, 0.0) * clock / busy
    return PowerTrace(edges / clock, watts, static_w)
