"""Reports of errors as plain data: a record per data set, a record per point."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nmsim.validation.datasets import DataSet, Gains, Report


def set_record(data_set: DataSet) -> dict[str, Any]:
    """The figures of a data set, flat; errors are shares, None where a figure is not known."""
    errors, roof = data_set.errors, data_set.roof_errors
    worst = point_record(data_set, errors.worst)
    cause, share = data_set.cause(errors.worst)
    return {
        "name": data_set.name, "table": data_set.table, "arch": "+".join(data_set.arches),
        "points": errors.points, "mape": errors.mape, "median": errors.median, "p90": errors.p90,
        "bias": errors.bias, "rank_correlation": _known(errors.rank), "ran_dense": _ran_dense(data_set),
        "overhead_s": data_set.parts[0].overhead_s, "tolerance": data_set.tolerance, "within": data_set.within,
        "roofline_mape": roof.mape, "roofline_median": roof.median, "roofline_p90": roof.p90,
        "roofline_efficiency": data_set.roof.efficiency, "roofline_t0_s": data_set.roof.t0_s,
        **{f"worst_{name}": worst[name] for name in ("file", "line", "point", "measured_s", "predicted_s", "error")},
        "worst_cause": cause, "worst_cause_share": share,
    }  # fmt: skip


def point_record(data_set: DataSet, point: int) -> dict[str, Any]:
    """What was measured and predicted of a point, and where it stands."""
    part, row = data_set.place(point)
    measured, predicted = float(part.points.measured_s[row]), float(part.predicted_s[row])
    return {
        "set": data_set.name, "device": part.points.device, "arch": part.arch.name,
        "file": part.points.file, "line": int(part.points.lines[row]), "point": part.points.labels[row],
        "measured_s": measured, "predicted_s": predicted, "error": predicted / measured - 1,
        "roofline_s": float(data_set.roof.seconds[point]), "cause": data_set.cause(point)[0],
        "source": part.points.sources[row],
    }  # fmt: skip


def point_records(report: Report) -> list[dict[str, Any]]:
    """A record per point of every data set, in order."""
    return [point_record(data_set, point) for data_set in report.sets for point in range(data_set.errors.points)]


def gain_record(gains: Gains) -> dict[str, Any]:
    """Speed-ups over dense of a data set, measured and predicted, flat."""
    return {
        "name": gains.name, "points": len(gains.measured),
        **_range("measured", gains.measured), **_range("predicted", gains.predicted),
        "mape": gains.errors.mape, "bias": gains.errors.bias, "rank_correlation": _known(gains.errors.rank),
        "tolerance": gains.tolerance, "within": gains.within,
    }  # fmt: skip


def totals(report: Report) -> list[dict[str, Any]]:
    """For each kind of table, all points together: their number, and the mean errors of model and roofline."""
    found = []
    for table in dict.fromkeys(s.table for s in report.sets):
        sets = [s for s in report.sets if s.table == table]
        weights = np.array([s.errors.points for s in sets], dtype=float)
        model, roof = (np.array([getattr(s, x).mape for s in sets]) for x in ("errors", "roof_errors"))
        shares = weights / weights.sum()
        found.append({
            "table": table, "sets": len(sets), "points": int(weights.sum()), "mape": float(model @ shares),
            "roofline_mape": float(roof @ shares), "sets_below_roofline": int((model < roof).sum()),
        })  # fmt: skip
    return found


def to_dict(report: Report) -> dict[str, Any]:
    """The whole report, without its points."""
    return {
        "sets": [set_record(s) for s in report.sets],
        "speedups": [gain_record(g) for g in report.gains],
        "totals": totals(report),
        "left_out": [vars(entry) for entry in report.left_out],
        "calibrated": report.calibrated(),
    }


def _ran_dense(data_set: DataSet) -> int:
    return int(sum(part.ran_dense.sum() for part in data_set.parts))


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _range(name: str, values: np.ndarray) -> dict[str, float]:
    return {f"{name}_{what}": float(f(values)) for what, f in (("min", np.min), ("mean", np.mean), ("max", np.max))}
