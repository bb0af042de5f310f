"""Ops on fleets: what each op costs on each machine, evaluated once where machines differ in nothing that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nmsim.arch.capability import skips
from nmsim.arch.fleet import watched, with_numbers
from nmsim.arch.schema import AnyArch
from nmsim.energy.area import wire_mm
from nmsim.engines import analytic
from nmsim.results.metrics import METRICS, SECONDS_AT_PEAK, OfSums
from nmsim.results.result import Result
from nmsim.sweeps.columns import Column, combine, distinct
from nmsim.sweeps.ops import Ops
from nmsim.workloads.optable import Workload

MILLIMETRE = 1.0
BLOCK = 1 << 16
"""Pairs of an op and a machine that are evaluated at a time, which bounds the memory."""

SUMS = (*(name for name, metric in METRICS.items() if metric.total is None), SECONDS_AT_PEAK)
"""Figures of a workload that are sums over its ops."""

_DERIVED = {name: metric.total for name, metric in METRICS.items() if isinstance(metric.total, OfSums)}
"""Figures that are made of two sums."""

WIRES = "energy.noc"
"""The joules of wires, a sum beside those of the metrics."""

_ENERGIES = {"energy_j": 1.0, "energy_kwh": 3.6e6}
"""The sums that contain them, and the joules in their unit."""

FIGURES = (*SUMS[:-1], *_DERIVED)
"""The metrics that a sweep can have: those of the work on the machine, not those of the machine alone."""


def sums_for(metrics: Sequence[str]) -> list[str]:
    """The sums that these metrics are made of."""
    return list(
        dict.fromkeys(part for name in metrics for part in (_DERIVED[name].parts if name in _DERIVED else [name]))
    )


def figures(metrics: Sequence[str], sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The metrics [points] from their sums."""
    found = {}
    for name in metrics:
        if name in _DERIVED:
            whole = _DERIVED[name]
            found[name] = whole.make(*(sums[part] for part in whole.parts))
        else:
            found[name] = sums[name]
    return found


def model_sums(
    arch: AnyArch, ops: Ops, work: np.ndarray, numbers: Mapping[str, Column], names: Sequence[str]
) -> np.ndarray:
    """Sums [names, points] of the workloads with code `work` [points] on machines with these numbers [points].

    The ops of each unit are evaluated apart, each once for every combination of the numbers that its evaluation
    read; which those are is found by watching it. Wires are as long as the whole machine is wide, which takes all of
    its numbers: what they cost is evaluated for 1 mm, and stretched for each point.
    """
    sums = np.zeros((len(names) + 1, len(work)))
    for rows in _by_unit(ops.table):
        if len(rows):
            sums += _shared(arch, ops.take(rows), work, numbers, [*names, WIRES])
    stretched = (_wires(arch, work, numbers) - 1.0) * sums[-1]
    for name, joules in _ENERGIES.items():
        if name in names:
            sums[list(names).index(name)] += stretched / joules
    return sums[:-1]


def _by_unit(table: Workload) -> Iterator[np.ndarray]:
    """The ops of the multipliers, of each engine of training, and all others, which the vector lanes execute."""
    others = np.ones(len(table), dtype=bool)
    for kind in ("gemm", "optimizer", "prune"):
        rows = table.is_kind(kind)
        others &= ~rows
        yield np.flatnonzero(rows)
    yield np.flatnonzero(others)


def _wires(arch: AnyArch, work: np.ndarray, numbers: Mapping[str, Column]) -> np.ndarray:
    """How far a bit travels on the machine of each point (mm) [points]."""
    fleet = with_numbers(arch, {path: column.numbers for path, column in numbers.items()})
    return np.broadcast_to(wire_mm(fleet), work.shape)


def _shared(
    arch: AnyArch, ops: Ops, work: np.ndarray, numbers: Mapping[str, Column], names: Sequence[str]
) -> np.ndarray:
    reads: set[str] = set()
    costs(arch, ops, {}, ["latency_s", "energy_j"], reads, MILLIMETRE)
    while True:
        concerned = [path for path in numbers if path in reads]
        machine, first = combine([numbers[path].codes for path in concerned], len(work))
        values = {path: np.asarray(numbers[path].values)[numbers[path].codes[first]] for path in concerned}
        pairs, _, spread = distinct(work * len(first) + machine)
        sums = _summed(arch, ops, pairs, len(first), values, names, reads)
        if all(path in concerned or path not in reads for path in numbers):
            return sums[:, spread]


def _summed(
    arch: AnyArch, ops: Ops, pairs: np.ndarray, machines: int, values: Mapping[str, np.ndarray],
    names: Sequence[str], reads: set[str],
) -> np.ndarray:  # fmt: skip
    """Sums [names, pairs] of each pair, a number `workload * machines + machine`, ascending.

    Workloads that run on the same machines share their ops.
    """
    sums = np.zeros((len(names), len(pairs)))
    workload, machine = pairs // machines, pairs % machines
    fleets: dict[bytes, list[int]] = {}
    for code in np.unique(workload):
        fleets.setdefault(machine[workload == code].tobytes(), []).append(int(code))
    for key, codes in fleets.items():
        fleet, part = np.frombuffer(key, machine.dtype), ops.of(np.array(codes))
        place = np.stack([np.flatnonzero(workload == code) for code in codes])
        step = max(BLOCK // max(len(part.table), 1), 1)
        for start in range(0, len(fleet), step):
            some = {path: column[fleet[start : start + step]] for path, column in values.items()}
            each = costs(arch, part, some, names, reads, MILLIMETRE)
            for at, (mine, repeats) in zip(place, part.parts, strict=True):
                sums[:, at[start : start + step]] = (each[:, :, mine] * repeats).sum(axis=2)
    return sums


def costs(
    arch: AnyArch, ops: Ops, numbers: Mapping[str, np.ndarray], names: Sequence[str], reads: set[str],
    wire: float | None = None,
) -> np.ndarray:  # fmt: skip
    """Figures [names, machines, ops] of every op on every machine with these numbers [machines]; adds to `reads`.

    `wire` is how far a bit travels (mm), if not as far as on each machine.
    """
    size, machines = len(ops.table), max((len(x) for x in numbers.values()), default=1)
    fleet = with_numbers(arch, {path: np.repeat(column, size) for path, column in numbers.items()})
    rows = np.tile(np.arange(size), machines)
    found = _figures(watched(fleet, reads), ops, rows, names, wire)
    return found.reshape(len(names), machines, size)


def _figures(fleet: Any, ops: Ops, rows: np.ndarray, names: Sequence[str], wire: float | None = None) -> np.ndarray:
    """Figures [names, rows] of the op of each row on the machine of each row."""
    work = ops.table.select(rows)
    columns, _ = analytic.costs(fleet, work, skips(fleet, work), ops.online[rows], wire=wire)
    result = Result(fleet, work, "analytic", columns.values, (), rows)
    return np.stack([_per_op(result, name) for name in names])


def _per_op(result: Result, name: str) -> np.ndarray:
    if name == WIRES:
        return result.columns[WIRES]
    return result.seconds_at_peak() if name == SECONDS_AT_PEAK else result.per_op(name)


def product_sums(
    arch: AnyArch, ops: Ops, op: np.ndarray, numbers: Mapping[str, Column], names: Sequence[str]
) -> np.ndarray:
    """Sums [names, points] where every point is one op, executed once."""
    reads: set[str] = set()
    costs(arch, ops.take(np.arange(1)), {}, ["latency_s", "energy_j"], reads)
    while True:
        concerned = [path for path in numbers if path in reads]
        machine, first = combine([numbers[path].codes for path in concerned], len(op))
        pairs, _, spread = distinct(op * len(first) + machine)
        sums = np.empty((len(names), len(pairs)))
        for start in range(0, len(pairs), BLOCK):
            some = pairs[start : start + BLOCK]
            points = first[some % len(first)]
            fleet = with_numbers(
                arch, {path: np.asarray(numbers[path].values)[numbers[path].codes[points]] for path in concerned}
            )
            rows = some // len(first)
            sums[:, start : start + BLOCK] = _figures(watched(fleet, reads), ops, rows, names)
        if all(path in concerned or path not in reads for path in numbers):
            return sums[:, spread]


def agrees(arch: AnyArch, ops: Ops, path: str, values: Sequence[Any]) -> bool:
    """Whether an array of these numbers at `path` gives the very figures of each op that single machines give.

    Tried once for a machine, a path and the kinds of ops and patterns there are, on 64 of the ops.
    """
    key = (arch.model_dump_json(), path, ops.table.kinds, ops.table.patterns)
    if key not in _AGREED:
        _AGREED[key] = _agrees(arch, ops, path, values)
    return _AGREED[key]


_AGREED: dict[tuple[Any, ...], bool] = {}


def _agrees(arch: AnyArch, ops: Ops, path: str, values: Sequence[Any]) -> bool:
    few = ops.take(np.unique(np.linspace(0, len(ops.table) - 1, 64).astype(int)))
    single = [costs(with_numbers(arch, {path: value}), few, {}, SUMS, set()) for value in values]
    try:
        together = costs(arch, few, {path: np.array(values)}, SUMS, set())
    except (TypeError, ValueError, AttributeError, IndexError):  # code that branches on a number
        return False
    return bool(np.array_equal(together, np.concatenate(single, axis=1)))
