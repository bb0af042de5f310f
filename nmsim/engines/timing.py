"""How a latency is explained: a waterfall of bounds, each cause being what it adds to the bounds before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

CAUSES = {
    "useful": "multiply-accumulates on elements that may be non-zero, at peak rate; for other ops their arithmetic",
    "unskipped": "zeros that are multiplied because the machine cannot skip them",
    "granularity": "tiles, folds and waves that are not full",
    "issue": "units that cannot start a product every cycle: the adder's latency, instruction issue",
    "reduction": "operands that are pruned while they stream in",
    "operand_feed": "the port between on-chip buffers and units; widening, copying or gathering operands on the way",
    "metadata": "the indices of sparse operands and the scales of quantised ones, at that port and in DRAM",
    "l2": "the cache between the cores and DRAM",
    "fill_drain": "filling and emptying the array or the pipeline, and loading stationary operands",
    "dram": "waiting for DRAM",
    "power": "the clock lowered to keep to the power cap of the board",
    "launch": "starting the op",
}
"""What an op's cycles go to, in the order in which they are booked; see Waterfall for what binds."""


class Waterfall:
    """The cycles of each op, built up bound by bound; what each adds is booked under its cause.

    The multiply units form a chain: useful work, then what keeps them from it (`at_least`, `plus`). A port or memory
    works beside them (`resource`): where it takes longer it binds, and all time beyond useful work is booked to it,
    since a shorter chain would not have helped.
    """

    def __init__(self, useful: np.ndarray):
        self.cycles = useful
        self.causes: dict[str, np.ndarray] = {"useful": useful}

    def at_least(self, cause: str, cycles: np.ndarray) -> None:
        """The chain takes at least `cycles` because of this cause."""
        self.plus(cause, np.maximum(cycles - self.cycles, 0.0))

    def plus(self, cause: str, cycles: np.ndarray) -> None:
        """The op needs `cycles` more, after the others."""
        self.causes[cause] = self.causes.get(cause, 0.0) + cycles
        self.cycles = self.cycles + cycles

    def resource(self, cause: str, values: np.ndarray, metadata: np.ndarray | float = 0.0) -> None:
        """A resource beside the chain needs `values` cycles, and `metadata` more for indices."""
        binds = values > self.cycles
        for name, lost in self.causes.items():
            if name != "useful":
                self.causes[name] = np.where(binds, 0.0, lost)
        self.causes[cause] = self.causes.get(cause, 0.0) + np.where(binds, values - self.causes["useful"], 0.0)
        self.cycles = np.maximum(self.cycles, values)
        self.at_least("metadata", values + metadata)


class Bound(Waterfall):
    """The cycles alone, not what they go to: for choosing among many plans."""

    def plus(self, cause: str, cycles: np.ndarray) -> None:
        """The op needs `cycles` more, after the others."""
        self.cycles = self.cycles + cycles

    def resource(self, cause: str, values: np.ndarray, metadata: np.ndarray | float = 0.0) -> None:
        """A resource beside the chain needs `values` cycles, and `metadata` more for indices."""
        self.cycles = np.maximum(self.cycles, values)
        self.at_least("metadata", values + metadata)


def total(streams: Mapping[str, np.ndarray]) -> np.ndarray:
    """Sum [ops] over the streams."""
    return np.sum(list(streams.values()), axis=0)


@dataclass(frozen=True)
class Timing:
    """What an engine finds for each op, arrays [ops].

    `causes` in cycles, summing to the latency; `dram` bytes per stream (a, b, c, metadata); `port` bytes between
    the on-chip buffers and the units per stream; `plan` the chosen tiling (names and numbers); `padded` dense
    multiply-accumulates of the padded tiles; `peak` multiply-accumulates per cycle of all units; `multiplied` the share
    of `executed` that they carry out, of an algorithm which makes do with fewer than it stands for; `lane_ops`
    element-wise arithmetic and the widening of operands; `compares` of mask searches; `busy` cycles with cores of a
    GPU at work, summed over the cores; `voltage` they run at, relative to the highest.
    """

    causes: Mapping[str, np.ndarray]
    dram: Mapping[str, np.ndarray]
    port: Mapping[str, np.ndarray] = field(default_factory=dict)
    plan: Mapping[str, np.ndarray] = field(default_factory=dict)
    executed: np.ndarray | float = 0.0
    useful: np.ndarray | float = 0.0
    padded: np.ndarray | float = 0.0
    peak: np.ndarray | float = 0.0
    multiplied: np.ndarray | float = 1.0
    lane_ops: np.ndarray | float = 0.0
    compares: np.ndarray | float = 0.0
    busy: np.ndarray | float = 0.0
    voltage: np.ndarray | float = 1.0
