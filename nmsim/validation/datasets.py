"""From a directory of tables to the errors of every data set in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from nmsim.arch.schema import AnyArch
from nmsim.engines.gathers import by_kernel
from nmsim.engines.run import simulate
from nmsim.errors import NmsimError, ShapeError, UnsupportedError, unknown
from nmsim.validation import condensed, conv, gemm, layers, models, roofline, vectors
from nmsim.validation.points import Found, LeftOut, Points, joined
from nmsim.validation.score import Errors
from nmsim.validation.settings import DATA, Settings, machine
from nmsim.validation.tables import Table, read_table
from nmsim.workloads.optable import Workload

NO_MACHINE = "no architecture file"
"""How the reason begins why rows of an unknown device are left out."""

TABLES: dict[str, tuple[tuple[str, ...], Callable[[Table], Iterator[Found]]]] = {
    "measured_gemm.csv": (gemm.COLUMNS, gemm.points),
    "neusight_fp32_gemm_subset.csv": (gemm.PLAIN_COLUMNS, gemm.points),
    "measured_conv_training.csv": (conv.COLUMNS, conv.points),
    "measured_vector_ops.csv": (vectors.COLUMNS, vectors.points),
    "measured_training_and_layers.csv": (layers.COLUMNS, layers.points),
    "neusight_e2e_model_latency.csv": (models.COLUMNS, models.points),
    "srigl_condensed_gpu.csv": (condensed.COLUMNS, condensed.points),
}
"""The files that a directory of measurements may hold, the columns each must have, and what reads it."""

OVERHEAD = "overhead"
"""The cause of the time that a way of measuring adds."""


@dataclass(frozen=True)
class Predicted:
    """Points with what the model says of them: `predicted_s` and `ran_dense` [points], `causes` seconds by name
    [points], and the bounds of the roofline."""

    points: Points
    arch: AnyArch
    overhead_s: float
    predicted_s: np.ndarray
    causes: dict[str, np.ndarray]
    ran_dense: np.ndarray
    bounds: roofline.Bounds


@dataclass(frozen=True)
class DataSet:
    """A data set and its errors: those of the model and those of the roofline fitted to the same points.

    `tolerance` is the largest `errors.mape` that was stated, None where none was.
    """

    name: str
    table: str
    parts: tuple[Predicted, ...]
    errors: Errors
    roof: roofline.Fit
    roof_errors: Errors
    tolerance: float | None

    @property
    def within(self) -> bool:
        """Whether the error is within the stated tolerance; true where none is stated."""
        return self.tolerance is None or self.errors.mape <= self.tolerance

    @property
    def arches(self) -> list[str]:
        """Names of the machines."""
        return list(dict.fromkeys(part.arch.name for part in self.parts))

    @property
    def measured_s(self) -> np.ndarray:
        """Measured seconds [points]."""
        return np.concatenate([part.points.measured_s for part in self.parts])

    @property
    def predicted_s(self) -> np.ndarray:
        """Predicted seconds [points], the overhead of measuring included."""
        return np.concatenate([part.predicted_s for part in self.parts])

    def place(self, point: int) -> tuple[Predicted, int]:
        """The part that holds a point, and its number there."""
        for part in self.parts:
            if point < len(part.points):
                return part, point
            point -= len(part.points)
        raise IndexError(point)

    def cause(self, point: int) -> tuple[str, float]:
        """The largest cause of a point's predicted time, and its share."""
        part, row = self.place(point)
        name = max(part.causes, key=lambda cause: part.causes[cause][row])
        return name, float(part.causes[name][row] / part.predicted_s[row])


@dataclass(frozen=True)
class Gains:
    """Measured and predicted speed-ups over dense [points] of a sparse data set, and the errors of the latter.

    `tolerance` is the largest `errors.mape` that was stated, None where none was.
    """

    name: str
    measured: np.ndarray
    predicted: np.ndarray
    errors: Errors
    tolerance: float | None

    @property
    def within(self) -> bool:
        """Whether the error is within the stated tolerance; true where none is stated."""
        return self.tolerance is None or self.errors.mape <= self.tolerance

    @classmethod
    def of(cls, data_set: DataSet, references: Sequence[Predicted], tolerance: float | None = None) -> Gains | None:
        """Those of the points beside which the table states a dense time; None where there are none."""
        dense = {(r.points.file, line): (r, i) for r in references for i, line in enumerate(r.points.lines.tolist())}
        measured, predicted = [], []
        for part in data_set.parts:
            for row, line in enumerate(part.points.lines.tolist()):
                if (part.points.file, line) in dense:
                    r, i = dense[part.points.file, line]
                    measured.append(r.points.measured_s[i] / part.points.measured_s[row])
                    predicted.append(r.predicted_s[i] / part.predicted_s[row])
        if not measured:
            return None
        found, stated = np.array(predicted), np.array(measured)
        return cls(data_set.name, stated, found, Errors.of(found, stated), tolerance)


@dataclass(frozen=True)
class Report:
    """The data sets of a directory in order, the speed-ups of the sparse ones, and the rows that are in none."""

    sets: tuple[DataSet, ...]
    gains: tuple[Gains, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def within(self) -> bool:
        """Whether every data set and its speed-ups are within what is stated for them."""
        return all(s.within for s in self.sets) and all(g.within for g in self.gains)

    def calibrated(self) -> dict[str, list[str]]:
        """The numbers of each machine that were fitted to measurements, as paths in its architecture file."""
        found: dict[str, list[str]] = {}
        for part in (part for data_set in self.sets for part in data_set.parts):
            fitted = [".".join(map(str, path)) for path, p in part.arch.provenance.items() if p.kind == "calibrated"]
            if fitted:
                found.setdefault(part.arch.name, fitted)
        return found


def validate(
    directory: str | os.PathLike[str] | None = None, names: Sequence[str] = (), tolerance: float | None = None
) -> Report:
    """The errors of every data set of a directory of tables (default: the shipped ones) whose name is in `names`.

    A name may hold * and ?; without names all are scored. `tolerance`, a share, replaces those stated for times. Raises
    SpecError with file and line for a table that cannot be read, UnsupportedError for a name that matches nothing,
    NmsimError for a directory without tables.
    """
    folder = Path(directory) if directory is not None else DATA
    settings = Settings.beside(folder)
    points, left = _read(folder)
    points = _chosen(points, names)
    if names:
        left = [entry for entry in left if entry.file in {p.file for p in points}]
    predicted: list[Predicted] = []
    for part in _predict(points, settings):
        if isinstance(part, LeftOut):
            left.append(part)
        else:
            predicted.append(part)
    own = [p for p in predicted if not p.points.of]
    scored = {p.points.name for p in own}
    order = [name for name in dict.fromkeys(p.name for p in points if not p.of) if name in scored]
    sets = [_data_set(name, [p for p in own if p.points.name == name], settings, tolerance) for name in order]
    gains = (
        Gains.of(s, [p for p in predicted if p.points.of == s.name], settings.speedup_tolerance(s.name)) for s in sets
    )
    return Report(tuple(sets), tuple(g for g in gains if g is not None), tuple(_summed(left)))


def _read(folder: Path) -> tuple[list[Points], list[LeftOut]]:
    """The points of every table in the folder, and the rows left out."""
    if not folder.is_dir():
        raise NmsimError(f"{folder} is not a directory of tables")
    files = [name for name in TABLES if (folder / name).is_file()]
    if not files:
        raise NmsimError(f"{folder} holds none of the tables {', '.join(TABLES)}")
    points: list[Points] = []
    left: list[LeftOut] = []
    for name in files:
        columns, read = TABLES[name]
        try:
            found = list(read(read_table(folder / name, columns)))
        except ShapeError as error:
            raise ShapeError(f"{folder / name}: {error}") from None
        left += [part for part in found if isinstance(part, LeftOut)]
        points += [part for part in found if isinstance(part, Points) and len(part)]
    return points, left


def _chosen(points: list[Points], names: Sequence[str]) -> list[Points]:
    known = list(dict.fromkeys(p.name for p in points if not p.of))
    for name in names:
        if not any(fnmatchcase(k, name) for k in known):
            raise UnsupportedError(unknown("data set", name, known))
    return [p for p in points if not names or any(fnmatchcase(p.of or p.name, name) for name in names)]


def _predict(points: list[Points], settings: Settings) -> Iterator[Predicted | LeftOut]:
    """Every group of points with its prediction, simulated together for each device and data type."""
    groups: dict[tuple[str, str, str], list[Points]] = {}
    for p in points:
        own = p.library if not p.of and settings.library(p.library) else ""
        groups.setdefault((p.device, p.dtype, own), []).append(p)
    for (device, _, own), mine in groups.items():
        arch = machine(device, settings.library(own) if own else None)
        if arch is None:
            yield from _without(mine, f"{NO_MACHINE} for {device!r}")
            continue
        try:
            yield from _simulated(arch, mine, settings)
        except UnsupportedError as error:
            yield from _without(mine, f"{device!r}: {error}")


def _without(points: list[Points], reason: str) -> Iterator[LeftOut]:
    return (LeftOut(p.file, reason, len(p)) for p in points if not p.of)


def _simulated(arch: AnyArch, points: list[Points], settings: Settings) -> list[Predicted]:
    parts = []
    for kernel in dict.fromkeys(p.gathered for p in points):
        same = [p for p in points if p.gathered == kernel]
        work = joined([p.work for p in same])
        causes, dense = by_kernel(arch, work, kernel) if kernel else _by_fastest(arch, work)
        ends = np.cumsum([len(p.work) for p in same])
        for p, end in zip(same, ends.tolist(), strict=True):
            rows = slice(end - len(p.work), end)
            parts.append(_predicted(arch, p, {n: v[rows] for n, v in causes.items()}, dense[rows], settings))
    return parts


def _by_fastest(arch: AnyArch, work: Workload) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Seconds of each op by cause with the kernel that the machine takes, and whether zeros are multiplied [ops]."""
    result = simulate(arch, work)
    causes = {n.removeprefix("cause."): v / arch.clock for n, v in result.columns.items() if n.startswith("cause.")}
    return causes, np.array([bool(reason) for reason in result.skipped_because])


def _predicted(
    arch: AnyArch, p: Points, causes: dict[str, np.ndarray], dense: np.ndarray, settings: Settings
) -> Predicted:
    """The points with what their ops take, by cause, and what measuring adds."""
    size = len(p)
    seconds = {n: np.bincount(p.owner, weights=v * p.work["repeat"], minlength=size) for n, v in causes.items()}
    overhead = settings.overhead(p.name)
    seconds[OVERHEAD] = overhead.added_s(np.sum(list(seconds.values()), axis=0))
    ran_dense = np.bincount(p.owner, weights=dense, minlength=size) > 0
    total = np.sum(list(seconds.values()), axis=0)
    bounds = roofline.Bounds.of(arch, p.work, p.owner)
    return Predicted(p, arch, overhead.value, total, seconds, ran_dense, bounds)


def _data_set(name: str, parts: list[Predicted], settings: Settings, tolerance: float | None) -> DataSet:
    measured = np.concatenate([part.points.measured_s for part in parts])
    predicted = np.concatenate([part.predicted_s for part in parts])
    bounds = roofline.joined([part.bounds for part in parts], [len(part.points) for part in parts])
    fit = roofline.fit(bounds, measured)
    limit = settings.tolerance(name) if tolerance is None else tolerance
    return DataSet(
        name, parts[0].points.table, tuple(parts), Errors.of(predicted, measured), fit,
        Errors.of(fit.seconds, measured), limit,
    )  # fmt: skip


def _summed(left: Iterable[LeftOut]) -> Iterator[LeftOut]:
    """One entry for each file and reason."""
    table: dict[tuple[str, str], LeftOut] = {}
    for entry in left:
        key = entry.file, entry.reason
        table[key] = replace(entry, rows=entry.rows + table[key].rows) if key in table else entry
    yield from table.values()
