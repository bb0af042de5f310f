"""The laws of what a trace measured: evaluations, and the statistics of intervals against the ops."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from nmsim.traces.schema import OPERANDS, Trace
from nmsim.workloads.optable import AXES, STAGES, Workload

ROUNDING = 1e-9
"""What the mean of many densities may lie above the bound of each."""


def check_evaluations(trace: Trace) -> Iterator[str]:
    """Steps increase and lie within the run; figures are finite, accuracies shares."""
    table, steps = trace.evaluations, trace.evaluations["step"]
    if np.any(np.diff(steps) <= 0):
        yield f"evaluations: steps do not increase after {steps[np.argmax(np.diff(steps) <= 0)]}"
    if len(bad := steps[(steps < 0) | (steps > trace.steps)]):
        yield f"evaluations: step {bad[0]} of a run of {trace.steps}"
    for column, values in table.items():
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            yield f"evaluations: {column} at step {steps[bad[0]]} is {values[bad[0]]}"
    accuracy = table["test_accuracy"]
    if len(bad := accuracy[(accuracy < 0) | (accuracy > 1)]):
        yield f"evaluations: test_accuracy is {bad[0]:.6g}, not a share"
    if len(bad := table["learning_rate"][table["learning_rate"] < 0]):
        yield f"evaluations: learning_rate is {bad[0]:.6g}"


def check_intervals(trace: Trace) -> Iterator[str]:
    """Intervals lie within the run and belong to products; densities are within what the ops claim."""
    table, steps = trace.intervals, trace.intervals["step"]
    if np.any(np.diff(steps) < 0):
        yield f"intervals: steps decrease after {steps[np.argmax(np.diff(steps) < 0)]}"
    if len(bad := steps[(steps < 0) | (steps > trace.steps)]):
        yield f"intervals: step {bad[0]} of a run of {trace.steps}"
    for column, low, high in (
        ("density", 0, 1), ("mask_churn", 0, 1), ("gradient_norm", 0, np.inf), ("gradient_variance", 0, np.inf),
        ("second_moment_variance", 0, np.inf),
        ("mask_flips", 0, np.inf), ("checked", 0, np.inf),
    ):  # fmt: skip
        values = table[column]
        wrong = (values < low) | (values > high) | np.isinf(values)  # NaN: not measured
        if wrong.any():
            i = int(np.argmax(wrong))
            yield f"intervals: {_key_text(trace, _keys(trace)[i])}: {column} is {values[i]:.6g} at step {steps[i]}"
    yield from _check_products(trace)


Key = tuple[int, int, int]
"""Layer, stage and operand as codes."""


def _keys(trace: Trace) -> list[Key]:
    columns = (trace.intervals[c].tolist() for c in ("layer", "stage", "operand"))
    return list(zip(*columns, strict=True))


def _check_products(trace: Trace) -> Iterator[str]:
    """Each interval against the rows of its layer and stage: densities in the phases it covers, checks in all.

    What a mask search leaves after the last step has one check that belongs to no product, as none is sparse.
    """
    searched = set(trace.executed["layer"][trace.executed.is_stage("PRUNE")].tolist())
    table, keys, rows = trace.intervals, _keys(trace), _rows(trace.executed)
    starts: dict[Key, int] = defaultdict(int)
    checked: dict[Key, int] = defaultdict(int)
    for i, key in enumerate(keys):
        step, density = int(table["step"][i]), float(table["density"][i])
        if key[:2] not in rows:
            yield f"intervals: {_key_text(trace, key)}: no such product was executed"
            return
        most = _most(trace.executed, rows[key[:2]], OPERANDS[key[2]], starts[key], step)
        if density > most + ROUNDING:
            yield f"intervals: {_key_text(trace, key)}: density {density:.6g} at step {step}, above {most:.6g}"
            return
        starts[key] = step
        checked[key] += int(table["checked"][i])
    for key, total in checked.items():
        most = int(trace.checked[OPERANDS[key[2]]][rows[key[:2]]].sum()) or int(key[0] in searched)
        if total > most:
            yield f"intervals: {_key_text(trace, key)}: {total} checks in intervals, {most} in the ops"
            return


def _rows(work: Workload) -> dict[tuple[int, int], list[int]]:
    """The products by layer and stage."""
    rows: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i in np.flatnonzero(work.gemms).tolist():
        rows[int(work["layer"][i]), int(work["stage"][i])].append(i)
    return dict(rows)


def _most(work: Workload, rows: list[int], letter: str, start: int, stop: int) -> float:
    """The highest density that the rows allow of an operand in steps from `start` to before `stop`."""
    bounds = [0.0]
    for i in rows:
        phase = work.phases[work["phase"][i]]
        if phase.first_step < stop and phase.first_step + phase.steps > start:
            bounds.append(_bound(work, i, letter))
    return max(bounds) if len(bounds) > 1 else 1.0


def _bound(work: Workload, i: int, letter: str) -> float:
    """The share of non-zeros that the row's pattern allows."""
    pattern = work.patterns[work[f"{letter}_pattern"][i]]
    if pattern.is_dense:
        return 1.0
    if pattern.kind == "unstructured":  # of the whole array
        return pattern.density_along(max(int(work[f"{letter}_elements"][i]), 1))
    return pattern.density_along(int(work.row_lengths(letter)[i])) if AXES[work[f"{letter}_axis"][i]] else 1.0


def _key_text(trace: Trace, key: Key) -> str:
    return f"{trace.executed.layers[key[0]]} {STAGES[key[1]]} operand {OPERANDS[key[2]]}"
