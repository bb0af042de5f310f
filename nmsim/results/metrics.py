"""The metric registry: each figure nmsim reports has one name, one unit and one definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from nmsim.errors import UnsupportedError, unknown

if TYPE_CHECKING:
    from nmsim.results.result import Result


@dataclass(frozen=True)
class OfSums:
    """The figure of a whole that is made of two sums over its ops, such as their ratio; `make` also takes arrays."""

    parts: tuple[str, str]
    make: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def __call__(self, result: Result) -> float:
        """The figure of a result."""
        return float(self.make(*(np.asarray(_sum(result, part)) for part in self.parts)))


def _sum(result: Result, part: str) -> float:
    return result.total_of(result.seconds_at_peak()) if part == SECONDS_AT_PEAK else result.metric(part)


SECONDS_AT_PEAK = "seconds_at_peak"
"""The one sum that is no metric of its own."""


@dataclass(frozen=True)
class Metric:
    """A figure of a result.

    `per_op` gives it for each op [ops], executed once. A whole result's figure is the sum over ops, each as often as
    it is executed, unless `total` says otherwise.
    """

    name: str
    unit: str
    meaning: str
    formula: str
    per_op: Callable[[Result], np.ndarray]
    total: Callable[[Result], float] | None = None

    def of(self, result: Result) -> float:
        """The figure of the whole result."""
        if self.total is not None:
            return self.total(result)
        return float(self.per_op(result) @ result.workload["repeat"].astype(float))


def _column(name: str) -> Callable[[Result], np.ndarray]:
    return lambda r: r.columns[name]


def _ratio(above: np.ndarray | float, below: np.ndarray | float) -> np.ndarray:
    """above / below, 0 where below is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    return np.divide(above, below, out=np.zeros(below.shape), where=below > 0)


def _share(above: str, below: str, factor: float = 1.0) -> OfSums:
    return OfSums((above, below), lambda a, b: factor * _ratio(a, b))


def _area(result: Result) -> float:
    """Square millimetres of the machine, NaN where they are not known."""
    return result.account.area_mm2 if result.account is not None else float("nan")


_ALL = (
    Metric("cycles", "cycles", "clock cycles from the start of an op to its end; ops follow each other",
           "sum of the causes (see `nmsim list causes`)", _column("cycles")),
    Metric("latency_s", "s", "time from the start of an op to its end; of a result, the sum over its ops",
           "cycles / clock", lambda r: r.columns["cycles"] / r.arch.clock),
    Metric("energy_j", "J", "energy drawn", "sum over actions of count x energy per action + static power x latency",
           lambda r: reduce(np.add, r.energy_columns())),
    Metric("power_w", "W", "mean power while running", "energy_j / latency_s",
           lambda r: _ratio(r.per_op("energy_j"), r.per_op("latency_s")), _share("energy_j", "latency_s")),
    Metric("edp", "J s", "energy-delay product", "energy_j x latency_s",
           lambda r: r.per_op("energy_j") * r.per_op("latency_s"),
           OfSums(("energy_j", "latency_s"), lambda energy, time: energy * time)),
    Metric("ed2p", "J s2", "energy-delay-squared product", "energy_j x latency_s^2",
           lambda r: r.per_op("energy_j") * r.per_op("latency_s") ** 2,
           OfSums(("energy_j", "latency_s"), lambda energy, time: energy * time**2)),
    Metric("energy_kwh", "kWh", "energy drawn, in kilowatt-hours", "energy_j / 3.6e6",
           lambda r: r.per_op("energy_j") / 3.6e6),
    Metric("tops_w_executed", "TOPS/W", "executed operations per joule; two a multiply-accumulate",
           "2 macs_executed / energy_j / 1e12",
           lambda r: 2e-12 * _ratio(r.columns["macs_executed"], r.per_op("energy_j")),
           _share("macs_executed", "energy_j", 2e-12)),
    Metric("tops_w_dense_equivalent", "TOPS/W", "operations of the dense network per joule; two a multiply-accumulate",
           "2 macs_dense / energy_j / 1e12",
           lambda r: 2e-12 * _ratio(r.per_op("macs_dense"), r.per_op("energy_j")),
           _share("macs_dense", "energy_j", 2e-12)),
    Metric("area_mm2", "mm2", "estimated area of the machine, or of its die", "units, lanes and buffers at the node",
           lambda r: np.full(len(r.workload), _area(r)), lambda r: _area(r)),
    Metric("tops_mm2_executed", "TOPS/mm2", "executed operations per second and area",
           "2 macs_executed / latency_s / area_mm2 / 1e12",
           lambda r: 2e-12 * r.per_op("throughput_executed") / _area(r),
           lambda r: 2e-12 * r.metric("throughput_executed") / _area(r)),
    Metric("macs_dense", "MAC", "multiply-accumulates with every operand dense, inserted zeros not counted",
           "m n k count", lambda r: r.macs_dense_per_op()),
    Metric("macs_useful", "MAC", "multiply-accumulates on elements that may be non-zero",
           "m n k count x density of A x density of B", _column("macs_useful")),
    Metric("macs_executed", "MAC", "multiply-accumulates that the units carry out on data, padding not counted",
           "m n k' count, k' = what is left of k after skipping", _column("macs_executed")),
    Metric("macs_padded", "MAC", "dense multiply-accumulates of the tiles, padding included",
           "product of the padded sizes", _column("macs_padded")),
    Metric("flops", "FLOP", "floating-point operations carried out", "2 macs_executed + element-wise operations",
           lambda r: 2 * r.columns["macs_executed"] + r.columns["lane_ops"]),
    Metric("utilization", "1", "share of the multiply units' peak that is spent on executed multiply-accumulates",
           "macs_executed / (peak multiply-accumulates per second x latency_s)",
           lambda r: _ratio(r.seconds_at_peak(), r.per_op("latency_s")),
           _share(SECONDS_AT_PEAK, "latency_s")),
    Metric("throughput_executed", "MAC/s", "executed multiply-accumulates per second", "macs_executed / latency_s",
           lambda r: _ratio(r.columns["macs_executed"], r.per_op("latency_s")), _share("macs_executed", "latency_s")),
    Metric("throughput_dense_equivalent", "MAC/s",
           "multiply-accumulates of the dense network per second; exceeds the peak when zeros are skipped",
           "macs_dense / latency_s",
           lambda r: _ratio(r.per_op("macs_dense"), r.per_op("latency_s")), _share("macs_dense", "latency_s")),
    Metric("dram_bytes", "B", "bytes between the chip and DRAM, re-fetches and indices included",
           "sum over operands of bytes x times fetched", lambda r: r.stream_columns("dram").sum(axis=0)),
    Metric("metadata_bytes", "B", "DRAM bytes of indices of sparse operands and scales of quantised ones",
           "index bits of the format, scale bits",
           _column("dram.metadata")),
    Metric("buffer_bytes", "B", "bytes between on-chip memory (buffers, or L2 of a GPU) and the units",
           "sum over operands of bytes x times passed", lambda r: r.stream_columns("buffer").sum(axis=0)),
    Metric("intensity", "MAC/B", "executed multiply-accumulates per DRAM byte", "macs_executed / dram_bytes",
           lambda r: _ratio(r.columns["macs_executed"], r.per_op("dram_bytes")), _share("macs_executed", "dram_bytes")),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def get_metric(name: str) -> Metric:
    """The metric of that name; raises UnsupportedError listing the nearest."""
    if name not in METRICS:
        raise UnsupportedError(unknown("metric", name, METRICS))
    return METRICS[name]
