"""The analytic engine beside the event engine: every model of the library on every machine that both simulate.

Ops follow each other, as the analytic engine has them. Where one resource (array, lanes, DRAM) needs at least twice as
long as any other in a run, the engines should agree within 3 %, elsewhere within 10 %. Prints a table in Markdown, the
runs that are further apart and why, and exits with 1 if there are any.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import nmsim
from nmsim import library
from nmsim.arch.schema import CpuArch, SystolicArch
from nmsim.engines.event.engine import simulate
from nmsim.engines.event.others import bytes_per_cycle
from nmsim.engines.event.result import EventResult
from nmsim.workloads.optable import Workload

DOMINATES = 2.0
"""Times as long as any other resource that one needs which dominates."""
DOMINATED, BALANCED = 0.03, 0.10
"""Differences that are allowed where one dominates, and elsewhere."""
SETTINGS = {
    "inference, batch 1": (1, ""), "inference, batch 32": (32, ""),
    "dense step, batch 32": (32, "dense"), "BDWP 2:8 step, batch 32": (32, "bdwp"),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A run: analytic / event - 1, how many times as long as any other the busiest resource needs, and the reasons."""

    machine: str
    model: str
    setting: str
    latency_s: float
    difference: float
    lead: float
    reasons: str

    @property
    def exceeds(self) -> bool:
        return abs(self.difference) > (DOMINATED if self.lead >= DOMINATES else BALANCED)


def workload(model: str, batch: int, recipe: str) -> Workload:
    base = nmsim.load_workload(model, batch=batch)
    return base if not recipe else base.training() if recipe == "dense" else base.training(recipe, "2:8")


def compared(result: EventResult, machine: str, model: str, setting: str) -> Row:
    repeat = result.workload["repeat"].tolist()
    needs: dict[str, float] = {"DRAM": 0.0}
    for stream, times in zip(result.streams, repeat, strict=True):
        moved = stream.total("load") + stream.total("store")
        needs["DRAM"] += times * moved / bytes_per_cycle(result.arch)
        needs[stream.unit] = needs.get(stream.unit, 0.0) + times * stream.total("cycles")
    most, second = sorted(needs.values(), reverse=True)[:2]
    parts = sorted(result.by_reason().items(), key=lambda part: -abs(part[1]))
    reasons = ", ".join(f"{name} {value:+.1%}" for name, value in parts if abs(value) >= 0.005)
    difference = sum(value for _, value in parts)
    return Row(machine, model, setting, result.latency_s, difference, most / max(second, 1.0), reasons)


def rows(machines: list[str]) -> Iterator[Row]:
    arches = {name: nmsim.load_arch(name) for name in machines}
    for model in library.names("workloads"):
        for setting, (batch, recipe) in SETTINGS.items():
            work = workload(model, batch, recipe)
            for name, arch in arches.items():
                yield compared(simulate(arch, work, overlap=False), name, model, setting)


def line(machine: str, found: list[Row]) -> str:
    """A line of the table: per setting median and range, and how many runs are beyond the limits."""
    cells = [machine]
    for setting in SETTINGS:
        mine = [row.difference for row in found if (row.machine, row.setting) == (machine, setting)]
        cells.append(f"{np.median(mine):+.1%}, {min(mine):+.1%} to {max(mine):+.1%}")
    beyond = sum(row.exceeds for row in found if row.machine == machine)
    return f"| {' | '.join(cells)} | {beyond} |"


def main() -> None:
    """The machines given, or those with systolic arrays; `all` for GPUs too."""
    arches = {name: nmsim.load_arch(name) for name in library.names("arch_configs")}
    wanted = sys.argv[1:] or [name for name, arch in arches.items() if isinstance(arch, SystolicArch)]
    if wanted == ["all"]:
        wanted = [name for name, arch in arches.items() if not isinstance(arch, CpuArch)]
    found = list(rows(wanted))
    print(f"| machine | {' | '.join(SETTINGS)} | beyond |\n|{' --- |' * (len(SETTINGS) + 2)}")
    for machine in wanted:
        print(line(machine, found))
    beyond = sorted((row for row in found if row.exceeds), key=lambda row: -abs(row.difference))
    print(f"\n{len(found)} runs, one resource dominates in {sum(row.lead >= DOMINATES for row in found)}")
    for row in beyond:
        what = f"{row.machine}, {row.model}, {row.setting}, {1e6 * row.latency_s:,.0f} us"
        print(f"beyond: {what}: {row.difference:+.1%} (a lead of {row.lead:.1f}): {row.reasons}")
    raise SystemExit(bool(beyond))


if __name__ == "__main__":
    main()
