"""Measured latencies of whole networks, inference and forward with backward pass, as points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from nmsim import library
from nmsim.errors import NmsimError, SpecError
from nmsim.validation.eager import eager
from nmsim.validation.points import Found, LeftOut, Points, from_works, groups, scorable, source_key
from nmsim.validation.settings import DATA
from nmsim.validation.tables import Table
from nmsim.workloads.load import load_workload
from nmsim.workloads.optable import Workload

COLUMNS = ("device", "model", "mode", "seq", "batch", "e2e_ms")
MILLISECOND = 1e-3
DTYPE = "fp32"
"""The networks of these tables ran in single precision."""
MODES = {"inf": "inference", "train": "training"}
NETWORKS = DATA / "networks"
"""Networks as they were measured, where the library has none of that name or another head: `name` or `name_mode`."""


def points(table: Table) -> Iterator[Found]:
    """The points of a table of networks, a data set per source and mode; without variants and unknown networks."""
    table, left = scorable(table, "e2e_ms")
    yield from left
    models, variants, modes = (table.words(column) for column in ("model", "variant", "mode"))
    if len(bad := np.flatnonzero(~np.isin(modes.astype(str), list(MODES)))):
        row = int(bad[0])
        raise SpecError([table.problem(row, "mode", f"must be one of {', '.join(MODES)}, not {modes[row]!r:.40}")])
    files = {key: path for key in dict.fromkeys(zip(models, modes, strict=True)) if (path := _file(*key)) is not None}
    known = np.array([key in files for key in zip(models, modes, strict=True)], dtype=bool)
    for (model, variant), rows in groups(models, variants):
        if variant:
            yield LeftOut(table.file, f"variant {variant!r} of a network", len(rows))
        elif not known[rows].any():
            yield LeftOut(table.file, f"no workload {model!r}", len(rows))
    table = table.select(known & (variants == ""))
    for (source, device, mode), rows in groups(source_key(table), table.words("device"), table.words("mode")):
        yield _points(table.select(rows), f"{source}_models_{DTYPE}_{MODES[mode]}", device, mode, files)


def _points(table: Table, name: str, device: str, mode: str, files: Mapping[tuple[str, str], Path]) -> Points:
    models, batch, seq = table.words("model"), table.wholes("batch"), table.wholes("seq")
    works = []
    for row, model in enumerate(models):
        try:
            works.append(network(files[model, mode], model, mode, int(batch[row]), int(seq[row])))
        except NmsimError as error:
            raise SpecError([table.problem(row, "model", str(error))]) from None
    work, owner = from_works(works)
    labels = tuple(f"{model} {mode}, batch {b}, {s} tokens" for model, b, s in zip(models, batch, seq, strict=True))
    return Points(
        "model", name, device, DTYPE, table.file, table.lines, table.numbers("e2e_ms") * MILLISECOND,
        labels, tuple(table.words("source")), work, owner,
    )  # fmt: skip


def network(file: Path, name: str, mode: str, batch: int, seq: int) -> Workload:
    """The forward pass (`inf`) of a model file, or forward and backward without the weight update, which these times
    leave out (`train`), as the measurements ran it. Raises NmsimError."""
    work, trains = load_workload(file, batch=batch, seq_len=seq, dtype=DTYPE), mode == "train"
    return eager(work.training("dense", dtype=DTYPE) if trains else work, name, trains)


def _file(model: str, mode: str) -> Path | None:
    """The model file of a network in this mode, None where there is none."""
    for name in (f"{model}_{mode}", model):
        if (path := NETWORKS / f"{name}.yaml").is_file():
            return path
    return library.find("workloads", model) if model in library.names("workloads") else None
