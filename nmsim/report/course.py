"""The course of a training run in words: its phases, what is pruned in each, and the first step that is sparse."""

from __future__ import annotations

import numpy as np

from nmsim.report.tables import percent, quantity, table
from nmsim.results.result import Result
from nmsim.sparsity.pattern import DENSE
from nmsim.workloads.optable import AXES, ROLES, Phase, Workload

PRODUCTS = ("FF", "BP", "WU")
SHOWN = 2
"""Patterns of a stage that are named; of more, as fan-ins of layers, only the number is told."""


def course_text(result: Result) -> str:
    """A line per phase: its steps, what each product prunes, its latency and the share of the run; then from which
    step on products are sparse. Empty for anything but a training run of several steps."""
    work = result.workload
    if work.info.get("steps", 1) == 1 or "optimizer" not in work.info:
        return ""
    seconds = result.per_op("latency_s") * work["repeat"]
    spent = np.bincount(work["phase"], weights=seconds, minlength=len(work.phases))
    rows = [
        [p.name, _steps(p), *(_pruned(work, i, stage) for stage in PRODUCTS), quantity(spent[i], "s"),
         percent(spent[i] / spent.sum())]
        for i, p in enumerate(work.phases)
    ]  # fmt: skip
    headers = ["phase", "steps", *PRODUCTS, "latency", "share"]
    return f"{table(rows, headers, 'lrlllrr')}\n  {_beginning(result)}"


def _steps(phase: Phase) -> str:
    last = phase.first_step + phase.steps - 1
    return f"{phase.first_step:,} to {last:,}" if last > phase.first_step else f"{last:,}"


def _pruned(work: Workload, phase: int, stage: str) -> str:
    """The operand of a stage's products that is pruned and its patterns, with the axis of groups that none can skip."""
    rows = np.flatnonzero(work.gemms & (work["phase"] == phase) & work.is_stage(stage))
    found: dict[tuple[str, str], None] = {}
    for letter in "ab":
        for i in rows:
            pattern, axis = work.patterns[work[f"{letter}_pattern"][i]], AXES[work[f"{letter}_axis"][i]]
            if pattern != DENSE:
                along = f" along {axis}" if axis != "k" and pattern.kind != "unstructured" else ""
                found[ROLES[work[f"{letter}_role"][i]], f"{pattern}{along}"] = None
    patterns = [text for _, text in found]
    if len(patterns) > SHOWN:
        return f"{next(iter(found))[0]}, {len(patterns)} patterns"
    return ", ".join(f"{role} {text}" for role, text in found) or "dense"


def first_sparse_step(result: Result) -> int | None:
    """The first step in which the machine skips zeros of a product; None where it never does."""
    skipped = result.workload.gemms & (result.columns["macs_executed"] < result.macs_dense_per_op())
    phases = result.workload["phase"][skipped]
    return result.workload.phases[int(phases.min())].first_step if len(phases) else None


def _beginning(result: Result) -> str:
    steps, first = int(result.workload.info["steps"]), first_sparse_step(result)
    if first is None:
        return "No step has a product of which this machine skips zeros."
    return f"Zeros are skipped from step {first:,} on, in {percent((steps - first) / steps)} of the steps."
