"""simulate(): the workload as segments of streams, each distinct one simulated once, and the result of a row per op."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

import numpy as np

from nmsim.arch.capability import SIDES, skips
from nmsim.arch.schema import AnyArch, SystolicArch, TensorCoreArch
from nmsim.energy.account import Account, taking
from nmsim.engines import analytic, vector
from nmsim.engines.event import others, tiles
from nmsim.engines.event.machine import BudgetError, DeadlockError, Job, Memory, Outcome, Segment, execute
from nmsim.engines.event.result import EventResult, Execution
from nmsim.engines.event.segments import Group, groups
from nmsim.engines.event.stream import Stream
from nmsim.engines.products import gather
from nmsim.engines.systolic import DATAFLOWS, Plan
from nmsim.engines.tiling import ORDERS
from nmsim.engines.timing import CAUSES, Timing
from nmsim.errors import UnsupportedError
from nmsim.results.result import Result
from nmsim.workloads.optable import COLUMNS, ROLES, Workload

NOT_SHAPE = ("layer", "phase", "repeat", "note")
"""Columns in which ops may differ and yet run alike."""
FINEST = 1000
"""The bandwidth of DRAM is taken as the nearest fraction of bytes per cycle with no larger denominator."""


@dataclass(frozen=True)
class Options:
    """What can be chosen of a simulation: whether ops run side by side, whether steady states are skipped, and the
    number of pieces after which it ends."""

    overlap: bool = True
    extrapolate: bool = True
    max_tiles: int | None = None


def simulate(
    arch: AnyArch,
    work: Workload,
    strict: bool = False,
    plan: Plan | None = None,
    *,
    overlap: bool = True,
    extrapolate: bool = True,
    max_tiles: int | None = None,
) -> EventResult:
    """Latency of `work` on `arch`, executed piece by piece; what moves and what is computed is the analytic plan.

    `overlap` lets ops run side by side where their data allow it; `extrapolate` leaves out what would only repeat (with
    the same result); after `max_tiles` pieces the simulation ends with the ops that it
    reached. Raises UnsupportedError for a CPU, for a tile that fits no buffer, for `max_tiles`
    that end before any op, and with `strict` as analytic.
    """
    if not isinstance(arch, SystolicArch | TensorCoreArch):
        raise UnsupportedError(
            f"the event engine simulates systolic arrays and tensor cores; {arch.name} is a {arch.kind}: use analytic"
        )
    options = Options(overlap and isinstance(arch, SystolicArch), extrapolate, max_tiles)
    planned = analytic.simulate(arch, work, strict, plan)
    ops = build(arch, planned)
    return _Run(arch, planned, ops, options).result()


def build(arch: SystolicArch | TensorCoreArch, planned: Result) -> list[Stream]:
    """The stream of each op of an analytic result; ops of the same shape and plan share one."""
    work = planned.workload
    online = vector.pruned_online(work)
    keys = [work[name].astype(float) for name in COLUMNS if name not in NOT_SHAPE]
    keys += [online.astype(float), *(_codes(x) for name, x in planned.columns.items() if name.startswith("plan."))]
    keys += [planned.columns[name] for name in planned.columns if name.startswith(("cause.", "dram."))]
    _, first, which = np.unique(np.stack(keys), axis=1, return_index=True, return_inverse=True)
    distinct: list[Stream | None] = [None] * len(first)
    gemms = work.gemms[first]
    for part, is_gemm in ((np.flatnonzero(gemms), True), (np.flatnonzero(~gemms), False)):
        if len(part):
            for index, stream in zip(part, _streams(arch, planned, first[part], online, is_gemm), strict=True):
                distinct[index] = stream
    return [stream for stream in (distinct[i] for i in which.ravel()) if stream is not None]


def _streams(
    arch: SystolicArch | TensorCoreArch, planned: Result, rows: np.ndarray, online: np.ndarray, gemms: bool
) -> list[Stream]:
    part, columns = planned.workload.select(rows), {name: x[rows] for name, x in planned.columns.items()}
    timing = Timing(
        _named(columns, "cause."), _named(columns, "dram."), plan=_named(columns, "plan."),
        executed=columns["macs_executed"],
    )  # fmt: skip
    if not gemms:
        return others.lanes(arch, part, timing)
    if isinstance(arch, TensorCoreArch):
        return others.kernels(arch, part, timing)
    products = gather(arch, part, skips(arch, planned.workload).take(rows), online[rows])
    weights = np.zeros(len(rows), dtype=np.int64)
    for letter in "ab":
        weights[part[f"{letter}_role"] == ROLES.index("weight")] = SIDES.index(letter.upper())
    layers, stages = part.names("layer"), part.names("stage")
    if arch.reduction_engine is None and len(bad := np.flatnonzero(products.inline)):
        side, k, n = SIDES[products.side[bad[0]]], products.k[bad[0]], products.n[bad[0]]
        raise UnsupportedError(
            f"{layers[bad[0]]} {stages[bad[0]]}: operand {side} of a product with k = {k:.0f}, n = {n:.0f} is to be "
            f"pruned while it streams in, but {arch.name} has no reduction_engine on its path; give it one, or set "
            "sparsity.weights to pregenerate"
        )
    launch = timing.causes["launch"]
    found = tiles.streams(
        arch, products, _plan(timing), weights, [f"{x} {y}" for x, y in zip(layers, stages, strict=True)]
    )
    return [replace(stream, lead=int(np.ceil(cycles))) for stream, cycles in zip(found, launch, strict=True)]


def _plan(timing: Timing) -> Plan:
    plan = timing.plan
    dataflow = np.array([DATAFLOWS.index(x) for x in plan["dataflow"]])
    order = np.array([ORDERS.index(x) for x in plan["loop_order"]])
    return Plan(
        dataflow, plan["tile_m"], plan["tile_n"], order, plan["turns_m"], plan["turns_n"],
        np.asarray(plan["ran_dense"]).astype(np.uint8), *_kept(plan["resident"]),
    )  # fmt: skip


def _kept(resident: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether A and B stay on chip [ops], from the names of those that do."""
    return np.array(["A" in str(x) for x in resident]), np.array(["B" in str(x) for x in resident])


def _named(columns: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): x for name, x in columns.items() if name.startswith(prefix)}


def _codes(values: np.ndarray) -> np.ndarray:
    """A column as numbers: texts by their place among those that occur."""
    if values.dtype == object:
        return np.unique(values.astype(str), return_inverse=True)[1].astype(float)
    return values.astype(float)


class _Run:
    """The segments of a run, simulated in order, each distinct one once."""

    def __init__(self, arch: SystolicArch | TensorCoreArch, planned: Result, ops: list[Stream], options: Options):
        self.arch, self.planned, self.ops, self.options = arch, planned, ops, options
        self.groups = groups(planned.workload, [s.unit for s in ops], options.overlap)
        self.depth = 2 if not isinstance(arch, SystolicArch) or arch.memories.double_buffered else 1
        self.next_product = following([group.threads.get("array", []) for group in self.groups])
        self.known: dict[object, Outcome] = {}
        self.simulated = 0

    def result(self) -> EventResult:
        """Simulate all segments, or those that the budget allows."""
        done: list[Execution] = []
        start = fetched = 0
        partial = False
        for number, group in enumerate(self.groups):
            ahead = self._ahead(number)
            try:
                outcome = self._outcome(group, ahead, fetched)
            except BudgetError:
                if not done:
                    raise UnsupportedError(
                        f"max_tiles={self.options.max_tiles} ends within the first ops, before any result: give more"
                    ) from None
                partial = True
                break
            done.append(Execution(tuple(group.rows), outcome, start, fetched, ahead))
            start += outcome.cycles
            fetched = outcome.fetched if "array" in group.threads else fetched + outcome.fetched
        return finished(self.arch, self.planned, self.ops, done, self.simulated, partial)

    def _outcome(self, group: Group, ahead: int, fetched: int) -> Outcome:
        """Simulate a segment, during which weights of the op in row `ahead` may be fetched (-1: of none); of those of
        its own first op, or else of that one, `fetched` bytes are there."""
        prefetch = self.ops[ahead].ready if ahead >= 0 else 0
        if "array" not in group.threads:
            prefetch, fetched = prefetch - fetched, 0
        places = {row: place for place, row in enumerate(group.rows)}
        jobs = tuple(Job(self.ops[row], tuple(places[r] for r in group.after[row])) for row in group.rows)
        first = sorted({"array": []} | group.threads if prefetch else group.threads, key=lambda name: name != "array")
        threads = tuple(tuple(places[row] for row in group.threads.get(name, [])) for name in first)
        key = tuple((id(job.stream), job.after) for job in jobs), threads, fetched, prefetch
        if key not in self.known:
            budget = None if self.options.max_tiles is None else self.options.max_tiles - self.simulated
            segment = Segment(jobs, threads, fetched, prefetch)
            outcome = self._execute(segment, group, budget)
            self.simulated += outcome.simulated
            self.known[key] = outcome
        return self.known[key]

    def _execute(self, segment: Segment, group: Group, budget: int | None) -> Outcome:
        memory = self._memory(segment.jobs[0].stream)
        try:
            return execute(segment, memory, self.depth, self.options.extrapolate, budget)
        except DeadlockError as error:
            work = self.planned.workload
            names = [f"{work.names('layer')[row]} {work.names('stage')[row]}" for row in group.rows]
            raise DeadlockError(f"{error}. Ops: {', '.join(f'{i} {name}' for i, name in enumerate(names))}") from None

    def _ahead(self, number: int) -> int:
        """The row of the next product, whose weights may be fetched meanwhile; -1 where there is none."""
        work, now = self.planned.workload, self.groups[number].rows[0]
        row = self.next_product[number]
        alike = row >= 0 and all(work[x][row] == work[x][now] for x in ("phase", "repeat"))
        return row if alike and self.ops[row].ready else -1

    def _memory(self, stream: Stream) -> Memory:
        per_cycle = others.bytes_per_cycle(self.arch, stream.unit)
        return Memory(Fraction(per_cycle).limit_denominator(FINEST), self.arch.memories.dram.channels)


def following(rows: list[list[int]]) -> list[int]:
    """For each segment the first of these rows in a later one, -1 where there is none."""
    found, row = [-1] * len(rows), -1
    for number in range(len(rows) - 1, -1, -1):
        found[number] = row
        row = rows[number][0] if rows[number] else row
    return found


def finished(
    arch: SystolicArch | TensorCoreArch, planned: Result, ops: list[Stream], done: list[Execution], simulated: int,
    partial: bool,
) -> EventResult:  # fmt: skip
    """The result of the ops that ran; an op's cycles are those it adds to the run."""
    rows = np.array(sorted(row for execution in done for row in execution.rows), dtype=np.int64)
    cycles = np.zeros(len(planned.workload))
    for execution in done:
        reached = 0
        for row, marks in zip(execution.rows, execution.outcome.marks, strict=True):
            cycles[row] = max(marks.end - reached, 0)
            reached = max(reached, marks.end)
    columns = {name: x[rows] for name, x in _columns(planned, cycles).items()}
    account = taking(cast(Account, planned.require_account()), rows, columns["cycles"] / arch.clock)
    columns["energy.static"] = account.by_component()["static"]
    return EventResult(
        arch, planned.workload.select(rows), "event (partial)" if partial else "event", columns, planned.reasons,
        planned.reason_codes[rows], planned.energy_assumptions, account, executions=tuple(done), streams=tuple(ops),
        analytic_cycles=planned.columns["cycles"][rows], rows=rows, simulated=simulated, ops=len(ops),
    )  # fmt: skip


def _columns(planned: Result, cycles: np.ndarray) -> dict[str, np.ndarray]:
    """The analytic columns with the cycles of this engine: what the units do is booked as there, the wait to DRAM;
    of ops that others hide, each cause is shortened alike."""
    columns = dict(planned.columns)
    before = columns["cycles"]
    units = before - columns["cause.dram"]
    shown = np.divide(np.minimum(cycles, units), units, out=np.zeros(len(units)), where=units > 0)
    for name in CAUSES:
        columns[f"cause.{name}"] = columns[f"cause.{name}"] * shown
    columns["cause.dram"] = cycles - sum(columns[f"cause.{name}"] for name in CAUSES if name != "dram")
    columns["cycles"] = cycles
    return columns
