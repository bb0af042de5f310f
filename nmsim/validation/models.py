"""Measured latencies of whole networks, inference and forward with backward pass, as points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from nmsim import library
from nmsim.errors import NmsimError, SpecError
from nmsim.validation.points import Found, LeftOut, Points, from_works, groups, scorable, source_key
from nmsim.validation.tables import Table
from nmsim.workloads.load import load_workload
from nmsim.workloads.optable import Workload

COLUMNS = ("device", "model", "mode", "seq", "batch", "e2e_ms")
MILLISECOND = 1e-3
DTYPE = "fp32"
"""The networks of these tables ran in single precision."""
EAGER = {
    "softmax": ("scale", "mask"), "softmax in training": ("dropout",), "softmax_backward": ("dropout_backward", "scale")
}  # fmt: skip
"""Operations on attention scores that a framework without fused attention starts one by one, beside each of the kind:
those of Hugging Face's BERT, from memory, not verified. Each reads and writes all scores."""
MODES = {"inf": "inference", "train": "training"}


def points(table: Table) -> Iterator[Found]:
    """The points of a table of networks, a data set per source and mode; without variants and unknown networks."""
    table, left = scorable(table, "e2e_ms")
    yield from left
    for (model, variant), rows in groups(table.words("model"), table.words("variant")):
        if variant:
            yield LeftOut(table.file, f"variant {variant!r} of a network", len(rows))
        elif model not in library.names("workloads"):
            yield LeftOut(table.file, f"no workload {model!r}", len(rows))
    known = np.isin(table.words("model").astype(str), library.names("workloads")) & (table.words("variant") == "")
    table = table.select(known)
    for (source, device, mode), rows in groups(source_key(table), table.words("device"), table.words("mode")):
        part = table.select(rows)
        if mode not in MODES:
            raise SpecError([part.problem(0, "mode", f"must be one of {', '.join(MODES)}, not {mode!r:.40}")])
        yield _points(part, f"{source}_models_{DTYPE}_{MODES[mode]}", device, mode)


def _points(table: Table, name: str, device: str, mode: str) -> Points:
    models, batch, seq = table.words("model"), table.wholes("batch"), table.wholes("seq")
    works = [_work(table, row, mode, int(batch[row]), int(seq[row])) for row in range(len(table))]
    work, owner = from_works(works)
    labels = tuple(f"{model} {mode}, batch {b}, {s} tokens" for model, b, s in zip(models, batch, seq, strict=True))
    return Points(
        "model", name, device, DTYPE, table.file, table.lines, table.numbers("e2e_ms") * MILLISECOND,
        labels, tuple(table.words("source")), work, owner,
    )  # fmt: skip


def _work(table: Table, row: int, mode: str, batch: int, seq: int) -> Workload:
    """The forward pass, or forward and backward without the weight update, which these times leave out."""
    try:
        work = load_workload(table.words("model")[row], batch=batch, seq_len=seq, dtype=DTYPE)
        if mode == "inf":
            return _eager(work, ("softmax",))
        step = work.training("dense", dtype=DTYPE)
        return _eager(step.select(~step.is_stage("UPDATE")), tuple(EAGER))
    except NmsimError as error:
        raise SpecError([table.problem(row, "model", str(error))]) from None


def _eager(work: Workload, which: Sequence[str]) -> Workload:
    """The workload with the operations of EAGER that go with these entries of it."""
    parts, kinds = [np.arange(len(work))], list(work.kinds)
    codes = [work["kind"]]
    for entry in which:
        rows = np.flatnonzero(work.is_kind(entry.split(" ")[0]))
        for kind in EAGER[entry]:
            if kind not in kinds:
                kinds.append(kind)
            parts.append(rows)
            codes.append(np.full(len(rows), kinds.index(kind), dtype=work["kind"].dtype))
    added = work.select(np.concatenate(parts))
    new = np.arange(len(added)) >= len(work)
    columns = {
        "kind": np.concatenate(codes), "b_elements": np.where(new, 0, added["b_elements"]),
        "ops_per_element": np.where(new, 1.0, added["ops_per_element"]),
    }  # fmt: skip
    return replace(added, kinds=tuple(kinds), columns={**added.columns, **columns})
