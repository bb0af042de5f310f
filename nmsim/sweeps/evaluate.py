"""The rows of some points: their work and machines built once each, evaluated together, failures told per point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from nmsim.arch.fleet import with_numbers
from nmsim.arch.schema import AnyArch
from nmsim.errors import NmsimError
from nmsim.sweeps.columns import Column, combine
from nmsim.sweeps.fleets import agrees, figures, model_sums, product_sums, sums_for
from nmsim.sweeps.machines import leaf, loaded, refusals, splits
from nmsim.sweeps.ops import Ops, distinct
from nmsim.sweeps.space import MACHINE, PATH, PRODUCT, WORK, SpaceFile
from nmsim.workloads.load import load_workload
from nmsim.workloads.optable import Workload
from nmsim.workloads.products import CellError, gemms


class Rows:
    """The figures of points: a metric that a point does not have is NaN, and its error says why."""

    def __init__(self, metrics: Sequence[str], size: int):
        self.metrics = {name: np.full(size, np.nan) for name in metrics}
        self.errors = [""]
        self.error = np.zeros(size, np.int64)

    def fail(self, rows: np.ndarray, error: Exception | str) -> None:
        """Note why these points have no figures."""
        text = str(error)
        if text not in self.errors:
            self.errors.append(text)
        self.error[rows] = self.errors.index(text)


def evaluate(space: SpaceFile, columns: Mapping[str, Column]) -> Rows:
    """The metrics of `space` at the points of these columns, each as simulate() gives it."""
    size = len(next(iter(columns.values())).codes)
    rows = Rows(space.metrics, size)
    paths = [name.removeprefix(PATH) for name in columns if name.startswith(PATH)]
    for machine, at in _groups([columns[MACHINE]], np.arange(size)):
        try:
            numeric = [path for path in paths if leaf(machine[0], path) is not None]
        except NmsimError as error:
            rows.fail(at, error)
            continue
        other = [path for path in paths if path not in numeric]
        for values, some in _groups([columns[PATH + path] for path in other], at):
            try:
                arch = loaded(machine[0], tuple(zip(other, values, strict=True)))
            except NmsimError as error:
                rows.fail(some, error)
                continue
            _on_machine(space, arch, columns, {path: columns[PATH + path] for path in numeric}, some, rows)
    return rows


def _groups(columns: Sequence[Column], at: np.ndarray) -> Iterator[tuple[tuple[Any, ...], np.ndarray]]:
    """Each combination of values that occurs among the points `at`, and its points."""
    codes, first = combine([column.codes[at] for column in columns], len(at))
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(first) + 1))
    for group, row in enumerate(first):
        values = tuple(column.values[column.codes[at[row]]] for column in columns)
        yield values, at[order[bounds[group] : bounds[group + 1]]]


def _on_machine(
    space: SpaceFile,
    arch: AnyArch,
    columns: Mapping[str, Column],
    numbers: dict[str, Column],
    at: np.ndarray,
    rows: Rows,
) -> None:
    """Evaluate the points `at` on machines that differ in `numbers` only."""
    if numbers:
        codes, messages = refusals(arch, {path: column.take(at) for path, column in numbers.items()})
        for code, why in enumerate(messages[1:], 1):
            rows.fail(at[codes == code], why)
        at = at[codes == 0]
    if not len(at):
        return
    build = _products if space.products else _models
    for run in build(space, columns, at, rows):
        run.store(arch, {path: column.take(run.at) for path, column in numbers.items()}, rows)


class _Run:
    """Points `at` with the code of their work, and the distinct ops of all of it."""

    def __init__(self, space: SpaceFile, at: np.ndarray, work: np.ndarray, ops: Ops, kinds: np.ndarray):
        self.space, self.at, self.work, self.ops, self.kinds = space, at, work, ops, kinds

    def store(self, arch: AnyArch, numbers: dict[str, Column], rows: Rows) -> None:
        """Evaluate; where that fails, each kind of work by itself, to tell which it is."""
        try:
            found = self._figures(arch, numbers)
        except NmsimError as error:
            kinds = np.unique(self.kinds)
            if len(kinds) == 1:
                rows.fail(self.at, error)
                return
            for kind in kinds:
                some = np.flatnonzero(self.kinds == kind)
                part = _Run(self.space, self.at[some], self.work[some], self.ops, self.kinds[some])
                part.store(arch, {path: column.take(some) for path, column in numbers.items()}, rows)
            return
        for name, values in found.items():
            rows.metrics[name][self.at] = values

    def _figures(self, arch: AnyArch, numbers: dict[str, Column]) -> dict[str, np.ndarray]:
        used = np.unique(self.work)
        work = np.searchsorted(used, self.work)
        ops = self.ops.take(used) if self.space.products else self.ops.of(used)
        sums: Callable[..., np.ndarray] = product_sums if self.space.products else model_sums
        arrays, single = splits(numbers, lambda path, values: agrees(arch, ops, path, values))
        names = sums_for(self.space.metrics)
        found = np.empty((len(names), len(work)))
        for values, some in _groups(list(single.values()), np.arange(len(work))):
            machine = with_numbers(arch, {p: _plain(v) for p, v in zip(single, values, strict=True)})
            found[:, some] = sums(machine, ops, work[some], {p: c.take(some) for p, c in arrays.items()}, names)
        return figures(self.space.metrics, dict(zip(names, found, strict=True)))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _models(space: SpaceFile, columns: Mapping[str, Column], at: np.ndarray, rows: Rows) -> Iterator[_Run]:
    """The points of models that can be built."""
    fields = [name for name in WORK if name in columns]
    works: list[Workload] = []
    code = np.full(len(rows.error), -1)
    for values, some in _groups([columns[name] for name in fields], at):
        try:
            works.append(model_work(**{n: _plain(v) for n, v in zip(fields, values, strict=True)}))
            code[some] = len(works) - 1
        except NmsimError as error:
            rows.fail(some, error)
    if works:
        at = at[code[at] >= 0]
        yield _Run(space, at, code[at], distinct(works), code[at])


@lru_cache(maxsize=1024)
def model_work(
    workload: str, recipe: str | None = None, pattern: str = "dense", batch: int = 1, seq_len: int | None = None,
    dtype: str = "fp16", optimizer: str | None = None,
) -> Workload:  # fmt: skip
    """What a model does at a point: a training step by a recipe, or without one an inference."""
    model = _model(workload, batch, seq_len, dtype)
    options = {} if optimizer is None else {"optimizer": optimizer}
    return model.training(recipe or "inference", pattern, dtype=dtype, **options)


@lru_cache(maxsize=256)
def _model(workload: str, batch: int, seq_len: int | None, dtype: str) -> Workload:
    return load_workload(workload, batch, seq_len, dtype=dtype)


def _products(space: SpaceFile, columns: Mapping[str, Column], at: np.ndarray, rows: Rows) -> Iterator[_Run]:
    """The points of products that there can be."""
    fields = [name for name in PRODUCT if name in columns]
    while len(at):
        work, first = combine([columns[name].codes[at] for name in fields], len(at))
        frame = {name: _spelled(columns[name], at[first]) for name in fields}
        try:
            table = gemms(frame)
        except CellError as error:
            bad = np.zeros(len(first), dtype=bool)
            for cell in error.first:
                bad[cell.row] = True
                rows.fail(at[work == cell.row], f"{cell.column}: {cell.message}")
            at = at[~bad[work]]
            continue
        kinds, _ = combine([columns[x].codes[at] for x in ("pattern", "operand", "dtype") if x in columns], len(at))
        ops = Ops(table, np.zeros(len(table), dtype=bool))
        yield _Run(space, at, work, ops, kinds)
        return


def _spelled(column: Column, at: np.ndarray) -> np.ndarray:
    """The values at these points as an array."""
    return np.asarray(column.values)[column.codes[at]]
