"""The analytic engine: closed forms over all ops of a workload at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nmsim.arch.arithmetic import widened
from nmsim.arch.capability import Skips, skips
from nmsim.arch.fleet import take
from nmsim.arch.schema import AnyArch, CpuArch, SystolicArch, TensorCoreArch
from nmsim.energy.account import Account, account, assumptions
from nmsim.energy.area import wire_mm
from nmsim.engines import actions, cpu, gathers, systolic, tensorcore, vector
from nmsim.engines.convolutions import on_cuda_cores
from nmsim.engines.products import Products, gather
from nmsim.engines.systolic import Plan
from nmsim.engines.timing import CAUSES, Timing
from nmsim.errors import UnsupportedError
from nmsim.results.result import Result
from nmsim.workloads.optable import Workload

STREAMS = ("a", "b", "c", "metadata")
CHUNK = 1 << 14
"""Ops evaluated at a time: their arrays stay in cache, and memory does not grow with the workload."""

NO_GATHER = "multiplying the zeros is faster than gathering what goes with the weights that are kept"
RAN_DENSE = "skipping would not be faster: short or uneven tiles, or the zeros are in the streamed operand"


def simulate(arch: AnyArch, work: Workload, strict: bool = False, plan: Plan | None = None) -> Result:
    """Latency, traffic and energy of every op of `work` on `arch`.

    With `strict`, sparsity that the machine cannot skip raises UnsupportedError instead of running dense. `plan` holds
    the choices for the products in their order; without, the fastest are taken.
    """
    skip = skips(arch, work)
    if strict:
        _refuse_unsupported(work, skip)
    columns, energy = costs(arch, work, skip, vector.pruned_online(work), plan)
    reasons, codes = _reasons(work, skip, columns.flag("plan.ran_dense"))
    used = {action.rpartition(" ")[2] for component, action, _ in energy.counts if component == "mac"}
    assumed = widened(arch, work) + assumptions(arch, used)
    return Result(arch, work, "analytic", columns.values, reasons, codes, assumed, energy)


def costs(
    arch: AnyArch, work: Workload, skip: Skips, online: np.ndarray, plan: Plan | None = None, wire: float | None = None
) -> tuple[Columns, Account]:
    """The result columns of every op, and the actions behind its energy.

    `online` marks the products with an operand that is pruned anew every step; `wire` is how far a bit travels (mm),
    if not as far as the machine's area says. The machine may be a fleet (nmsim.arch.fleet), with arrays [ops] for some
    of its numbers.
    """
    columns, counts = Columns(len(work)), Columns(len(work))
    voltage, place = np.ones(len(work)), np.cumsum(work.gemms) - 1
    for rows in _chunks(np.flatnonzero(work.gemms)):
        part, machine = work.select(rows), take(arch, rows)
        products = gather(machine, part, skip.take(rows), online[rows])
        if isinstance(machine, TensorCoreArch):
            products = on_cuda_cores(machine, products)
        chosen = None if plan is None else plan.take(place[rows])
        timing = _products(machine, products, gathers.entries(machine, part), chosen)
        columns.store(rows, values := _values(part, timing))
        seconds = values["cycles"] / machine.clock
        length = wire_mm(machine) if wire is None else wire
        counts.store(rows, actions.count(machine, part, timing, seconds, products, length))
        voltage[rows] = timing.voltage
    for rows in _chunks(np.flatnonzero(~work.gemms)):
        part, machine = work.select(rows), take(arch, rows)
        timing = vector.evaluate(machine, part)
        columns.store(rows, values := _values(part, timing))
        counts.store(rows, actions.count(machine, part, timing, values["cycles"] / machine.clock))
    energy = account(arch, len(work), counts.values, voltage)
    columns.values.update({f"energy.{name}": joules for name, joules in energy.by_component().items()})
    return columns, energy


def _products(arch: AnyArch, products: Products, entries: gathers.Entries, plan: Plan | None) -> Timing:
    if isinstance(arch, SystolicArch):
        return systolic.evaluate(arch, products, plan)
    dense = cpu.evaluate(arch, products) if isinstance(arch, CpuArch) else tensorcore.evaluate(arch, products)
    return gathers.fastest(arch, products, entries, dense)


class Columns:
    """Result columns [ops], filled chunk by chunk; a column that a chunk lacks stays zero (or empty text)."""

    def __init__(self, size: int):
        self.size = size
        self.values: dict[Any, np.ndarray] = {}

    def store(self, rows: np.ndarray, values: Mapping[Any, np.ndarray]) -> None:
        """Write the values of these rows."""
        for name, column in values.items():
            if name not in self.values:
                empty = "" if column.dtype == object else 0
                self.values[name] = np.full(self.size, empty, dtype=column.dtype)
            self.values[name][rows] = column

    def flag(self, name: str) -> np.ndarray:
        """A boolean column, false throughout where nothing was stored."""
        return self.values.get(name, np.zeros(self.size, dtype=bool))


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def _values(work: Workload, timing: Timing) -> dict[str, np.ndarray]:
    """The result columns of a chunk."""
    cycles = sum(timing.causes.values(), start=np.zeros(len(work)))
    zero = np.zeros(len(work))
    port = {stream: timing.port.get(stream, zero) for stream in STREAMS}
    dram = {stream: timing.dram.get(stream, zero) for stream in STREAMS}
    return {
        "cycles": cycles,
        "macs_useful": zero + timing.useful,
        "macs_executed": zero + timing.executed,
        "macs_padded": zero + timing.padded,
        "peak_macs": zero + timing.peak,
        "lane_ops": zero + timing.lane_ops,
        **{f"cause.{name}": timing.causes.get(name, zero) for name in CAUSES},
        **{f"dram.{name}": size for name, size in dram.items()},
        **{f"buffer.{name}": size for name, size in port.items()},
        **{f"plan.{name}": values for name, values in timing.plan.items()},
    }


def _reasons(work: Workload, skip: Skips, ran_dense: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Why each op runs dense: what the machine lacks, that it would not help, or what the plan left dense."""
    reasons = list(skip.reasons)
    codes = skip.reason.astype(np.int32)
    for rows, text in ((ran_dense & (skip.side > 0), RAN_DENSE), (ran_dense & (skip.side == 0), NO_GATHER)):
        codes[rows] = len(reasons)
        reasons.append(text)
    planned = (codes == 0) & (skip.side == 0) & work.gemms
    codes[planned] = work["note"][planned] + len(reasons)
    reasons.extend(work.notes)
    return tuple(reasons), codes


def _refuse_unsupported(work: Workload, skip: Skips) -> None:
    if len(bad := np.flatnonzero(skip.unsupported)):
        row = bad[0]
        more = f" (and {len(bad) - 1} more ops)" if len(bad) > 1 else ""
        layer, stage = work.names("layer")[row], work.names("stage")[row]
        raise UnsupportedError(f"{layer} {stage}: {skip.reasons[skip.reason[row]]}{more}")
