"""A result in words: what ran, totals, where the time went, the dearest layers, what the figures rest on."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_lowercase
from typing import Any

import numpy as np

from nmsim.energy.cost import Tariff
from nmsim.engines.timing import CAUSES
from nmsim.report.course import course_text
from nmsim.report.energy import NO_TARIFF, energy_text
from nmsim.report.footprint import notes
from nmsim.report.layers import Layers
from nmsim.report.tables import WIDTH, bar, last_part, percent, prefixed, quantity, table, wrap
from nmsim.results.io import amounts
from nmsim.results.metrics import METRICS
from nmsim.results.result import Result
from nmsim.workloads.optable import STAGES

STAGE_MEANINGS = {
    "FF": "forward products",
    "BP": "input-gradient products",
    "WU": "weight-gradient products",
    "PRUNE": "mask searches",
    "UPDATE": "optimizer steps",
    "VECTOR": "element-wise work of both passes",
}
FEW_ASSUMPTIONS = 5
LAYER_WIDTH = 34, 28
"""Characters of a layer's name: alone, and beside the column `dense`."""


def result_text(result: Result, top: int = 10, tariff: Tariff = NO_TARIFF) -> str:
    """The result in at most 100 columns, with its `top` dearest layers; with a tariff, what its energy costs."""
    parts = [
        heading(result),
        *("\n".join(wrap(f"NOTE: {note}", WIDTH)) for note in notes(result)),
        _titled("Totals", totals(result)),
    ]
    parts.append(_titled("Course of the run", course_text(result)))
    parts.append(_titled("Latency by stage", _breakdown(result, "stage", STAGE_MEANINGS)))
    parts.append(_titled("Latency by cause", _breakdown(result, "cause", CAUSES)))
    parts.append(energy_text(result, tariff))
    reasons = Reasons(result)
    if top:
        parts.append(dearest(result, reasons, top))
    parts.append(_titled("Products that run dense all the same", reasons.text()))
    parts.append(assumptions(result.assumptions, result.arch.name))
    return "\n\n".join(part for part in parts if part)


def heading(result: Result) -> str:
    """Two lines: the machine, and what ran on it."""
    title = getattr(result.arch, "title", "")
    name = f"{title} ({result.arch.name})" if title else result.arch.name
    machine = f"{name} at {quantity(result.arch.clock, 'Hz')}, {result.engine} engine"
    return f"{machine}\n{result.workload.name}: {run_text(result.workload.info)}"


def run_text(info: Mapping[str, Any]) -> str:
    """What ran, from the `info` of a workload: "training by bdwp 2:8, batch 128, fp16, sgd_momentum"."""
    recipe, pattern = info.get("recipe"), info.get("pattern", "dense")
    if "batch" not in info:
        what = "a table of products"
    elif recipe in (None, "inference"):
        what = "inference" if pattern == "dense" else f"inference with {pattern} weights"
    elif "optimizer" not in info:
        what = f"inference by {recipe} {pattern}"
    else:
        what = f"training by {recipe}" + ("" if pattern == "dense" else f" {pattern}")
    facts = [what, f"batch {info['batch']}"] if "batch" in info else [what]
    facts += ["1 token", f"context {info['context']}"] if info.get("decode") else []
    facts += [f"{length} {name}" for name, length in info.get("streams", {}).items()]
    if info.get("steps", 1) != 1:
        facts.append(f"{info['steps']:,} steps")
    return ", ".join(facts + [str(info[key]) for key in ("dtype", "weight_dtype", "optimizer") if key in info])


def totals(result: Result) -> str:
    """The totals, two to a line; executed and dense-equivalent figures apart."""
    left = ["latency_s", "energy_j", "macs_dense", "macs_executed", "dram_bytes", "edp", "area_mm2"]
    right = ["cycles", "power_w", "throughput_dense_equivalent", "throughput_executed", "utilization",
             "tops_w_dense_equivalent", "tops_w_executed"]  # fmt: skip
    cells = [[*_total(result, a), "   ", *_total(result, b)] for a, b in zip(left, right, strict=True)]
    return table(cells, align="lrllr")


NAMES = {
    "latency_s": "latency", "energy_j": "energy", "power_w": "mean power", "cycles": "cycles",
    "macs_dense": "MACs, dense", "macs_useful": "MACs, useful", "macs_executed": "MACs, executed",
    "macs_padded": "MACs, padded", "flops": "FLOPs",
    "throughput_executed": "throughput, executed", "throughput_dense_equivalent": "throughput, dense-equivalent",
    "dram_bytes": "DRAM traffic", "metadata_bytes": "of which indices", "buffer_bytes": "on-chip traffic",
    "edp": "energy-delay product", "ed2p": "energy-delay² product", "energy_kwh": "energy in kWh",
    "tops_w_executed": "efficiency, executed", "tops_w_dense_equivalent": "efficiency, dense-equivalent",
    "area_mm2": "area", "tops_mm2_executed": "density, executed",
    "utilization": "utilization", "intensity": "intensity",
}  # fmt: skip
"""How a metric is called in a table."""


def _total(result: Result, metric: str) -> list[str]:
    return [NAMES.get(metric, metric), quantity(result.metric(metric), METRICS[metric].unit)]


def _titled(title: str, text: str) -> str:
    return f"{title}\n{text}" if text else ""


def _breakdown(result: Result, by: str, meanings: Mapping[str, str]) -> str:
    """The parts of the latency that are not nothing, with what they mean."""
    found = amounts(result, by)
    parts = {name: found[name] for name in meanings if found.get(name, 0.0) > 0}
    total = sum(parts.values())
    rows = [
        [name, quantity(value, "s"), percent(value / total), bar(value / total), meanings[name]]
        for name, value in parts.items()
    ]
    return table(rows, align="lrrll")


def dearest(result: Result, reasons: Reasons, top: int) -> str:
    """The layers that take most time: what they spend it on, and which of their products run dense."""
    layers = Layers.of(result)
    order = layers.largest(top)
    total = layers.seconds.sum()
    headers = ["layer", "latency", "share", "stages", "mostly"]
    cells = []
    marks = [reasons.marks(layers.members[i]) for i in order]
    for i in order:
        seconds, members = layers.seconds[i], layers.members[i]
        spent, cause = quantity(seconds.sum(), "s"), _largest_cause(result, members)
        name = last_part(layers.names[i], LAYER_WIDTH[any(marks)])
        cells.append([name, spent, percent(seconds.sum() / total), _largest_stages(seconds), cause])
    if any(marks):
        headers.append("dense")
        cells = [[*row, mark] for row, mark in zip(cells, marks, strict=True)]
    title = f"Most expensive layers ({len(order)} of {len(layers.names)})"
    return f"{title}\n{table(cells, headers, 'lrrll')}"


def _largest_stages(seconds: np.ndarray, shown: int = 3) -> str:
    order = np.argsort(-seconds, kind="stable")[:shown]
    return " ".join(f"{STAGES[i]} {share:.0f}%" for i in order if (share := 100 * seconds[i] / seconds.sum()) >= 0.5)


def _largest_cause(result: Result, members: tuple[int, ...]) -> str:
    rows = np.isin(result.workload["layer"], members)
    repeat = result.workload["repeat"][rows]
    sums = {name: float(result.columns[f"cause.{name}"][rows] @ repeat) for name in CAUSES}
    name = max(sums, key=lambda cause: sums[cause])
    return f"{name} {100 * sums[name] / sum(sums.values()):.0f}%"


class Reasons:
    """Why products of a sparse recipe run dense; a reason has a letter once a row of the table carries it."""

    def __init__(self, result: Result):
        self.work, self.because = result.workload, result.skipped_because
        self.seconds = result.per_op("latency_s") * result.workload["repeat"]
        found = dict.fromkeys(str(reason) for reason in self.because if reason)
        self.found = list(found)
        self.letters: dict[str, str] = {}

    def marks(self, members: tuple[int, ...]) -> str:
        """The stages of these layers that run dense, with the letters of the reasons: "FF WU (a)"."""
        stages: dict[str, dict[str, None]] = {}
        for row in np.flatnonzero(np.isin(self.work["layer"], members) & (self.because != "")):
            letter = self.letters.setdefault(str(self.because[row]), _letter(len(self.letters)))
            stages.setdefault(letter, {})[STAGES[self.work["stage"][row]]] = None
        return ", ".join(f"{' '.join(names)} ({letter})" for letter, names in stages.items())

    def text(self) -> str:
        """A line per reason: the share of the latency and the number of products that it holds for."""
        rows = []
        for reason in dict.fromkeys([*self.letters, *self.found]):
            held = self.because == reason
            number = int(held.sum())
            count = f"{number} product" if number == 1 else f"{number} products"
            share = percent(float(self.seconds[held].sum() / self.seconds.sum()))
            letter = f"({self.letters[reason]})" if reason in self.letters else ""
            rows.append([*([letter] if self.letters else []), count, f"{share} of the latency", reason])
        return table(rows, align="llrl" if self.letters else "lrl")


def _letter(number: int) -> str:
    return ascii_lowercase[number] if number < len(ascii_lowercase) else str(number)


def assumptions(lines: tuple[str, ...], arch: str) -> str:
    """How many numbers of the machine no source vouches for, the shortest lines, and where to see all."""
    if not lines:
        return "Every number of the machine has a source."
    few = sorted(lines, key=len)[:FEW_ASSUMPTIONS]
    listed = ["\n    ".join(wrap(line, WIDTH - 4)) for line in few]
    numbers = "number" if len(lines) == 1 else "numbers"
    first = f"This rests on {prefixed(len(lines))} {numbers} of the machine without a source"
    more = f"; all: nmsim list assumptions {arch}" if len(lines) > len(few) else ""
    return "\n  ".join([f"{first}{more}", *listed])
