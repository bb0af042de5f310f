"""What a result shows of itself in a notebook: totals, and where the time and the energy go."""

from __future__ import annotations

from nmsim.html import block, table
from nmsim.results.metrics import METRICS
from nmsim.results.result import Result
from nmsim.words import percent, quantity
from nmsim.workloads.optable import STAGES

TOTALS = (
    "latency_s", "energy_j", "power_w", "macs_dense", "macs_executed", "throughput_dense_equivalent", "utilization",
    "dram_bytes",
)  # fmt: skip
SPLITS = {"stage": "s", "cause": "s", "component": "J"}


def html(result: Result) -> str:
    """The totals, the breakdowns by stage, cause and component, and how many numbers are assumptions."""
    totals = [(name, quantity(result.metric(name), METRICS[name].unit)) for name in TOTALS]
    weak = len(result.assumptions)
    below = f"{result.engine} engine; rests on {weak} {'number' if weak == 1 else 'numbers'} without a source"
    return block(
        f"{result.workload.name} on {result.arch.name}", below, table(totals, align="lr", caption="Totals"),
        *(_split(result, by, unit) for by, unit in SPLITS.items()),
    )  # fmt: skip


def _split(result: Result, by: str, unit: str) -> str:
    found = {str(name): float(value) for name, value in result.breakdown(by).iloc[:, 0].items() if value != 0}
    order = [*(stage for stage in STAGES if stage in found), *found] if by == "stage" else [*found]
    parts = {name: found[name] for name in dict.fromkeys(order)}
    total = sum(parts.values())
    rows = [(name, quantity(value, unit), percent(value / total)) for name, value in parts.items()]
    return table(rows, align="lrr", caption=f"{'Energy' if unit == 'J' else 'Latency'} by {by}")
