"""A trace in short, as plain data: phases, what each stage did, evaluations, density of each operand."""

from __future__ import annotations

from typing import Any

import numpy as np

from nmsim.traces.schema import OPERANDS, Trace
from nmsim.workloads.optable import ROLES, STAGES, Workload


def to_dict(trace: Trace) -> dict[str, Any]:
    """What `nmsim trace show` prints: `info`, `steps`, and lists of rows by part."""
    return {
        "schema": trace.schema, "digest": trace.digest, "steps": trace.steps, "check_every": trace.check_every,
        "info": dict(trace.info), "phases": phases(trace), "stages": stages(trace),
        "evaluations": evaluations(trace), "densities": densities(trace),
    }  # fmt: skip


def phases(trace: Trace) -> list[dict[str, Any]]:
    """Name, first step, steps and rows of each phase."""
    rows = np.bincount(trace.executed["phase"], minlength=len(trace.executed.phases))
    return [
        {"phase": p.name, "first_step": p.first_step, "steps": p.steps, "ops": int(rows[i])}
        for i, p in enumerate(trace.executed.phases)
    ]


def stages(trace: Trace) -> list[dict[str, Any]]:
    """For each stage: rows, times that an op was executed, dense multiply-accumulates, checks of operands."""
    work = trace.executed
    found = []
    for stage in STAGES:
        rows = work.is_stage(stage)
        if rows.any():
            checks = sum(int(trace.checked[letter][rows].sum()) for letter in OPERANDS)
            executed = sum(work["repeat"][rows].tolist())
            macs = work.select(rows).macs_dense
            found.append(
                {"stage": stage, "ops": int(rows.sum()), "executed": executed, "macs_dense": macs, "checks": checks}
            )
    return found


def evaluations(trace: Trace) -> list[dict[str, Any]]:
    """A row per evaluation."""
    columns = {name: values.tolist() for name, values in trace.evaluations.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def densities(trace: Trace) -> list[dict[str, Any]]:
    """For each operand that was measured: its last pattern, last and mean density, mask flips, in order of layers."""
    table, work = trace.intervals, trace.executed
    rows: dict[tuple[int, ...], list[int]] = {}
    for i, key in enumerate(zip(*(table[c].tolist() for c in ("layer", "stage", "operand", "role")), strict=True)):
        rows.setdefault(key, []).append(i)
    found = []
    for layer, stage, operand, role in sorted(rows):
        at = rows[layer, stage, operand, role]
        measured = table["density"][at][np.isfinite(table["density"][at])].tolist()
        found.append({
            "layer": work.layers[layer], "stage": STAGES[stage], "operand": OPERANDS[operand], "role": ROLES[role],
            "pattern": _last_pattern(work, layer, stage, OPERANDS[operand]),
            "density_last": measured[-1] if measured else None,
            "density_mean": sum(measured) / len(measured) if measured else None,
            "mask_flips": sum(table["mask_flips"][at].tolist()), "checked": sum(table["checked"][at].tolist()),
        })  # fmt: skip
    return found


def _last_pattern(work: Workload, layer: int, stage: int, letter: str) -> str:
    rows = np.flatnonzero(work.gemms & (work["layer"] == layer) & (work["stage"] == stage))
    return str(work.patterns[work[f"{letter}_pattern"][rows[-1]]]) if len(rows) else "dense"
