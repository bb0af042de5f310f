"""Measured element-wise and normalising operations as points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmsim.validation.points import (
    MICROSECOND,
    Found,
    LeftOut,
    Points,
    groups,
    known_types,
    label,
    scorable,
    set_name,
    source_key,
)
from nmsim.validation.tables import Table
from nmsim.workloads.model import with_dtype
from nmsim.workloads.optable import Workload, WorkloadBuilder
from nmsim.workloads.vector_ops import INFERENCE

COLUMNS = ("device", "dtype", "op", "rows", "cols", "time_us")
ALIASES = {"ln": "layernorm", "bn": "batchnorm"}


def points(table: Table) -> Iterator[Found]:
    """The points of a table of operations on rows x cols elements: a data set per source, device, type and kind."""
    table, left = scorable(table)
    yield from left
    table, dtypes, left = known_types(table)
    yield from left
    kinds = np.array([ALIASES.get(text.lower(), text.lower()) for text in table.words("op")], dtype=object)
    for (source, device, dtype, kind), rows in groups(source_key(table), table.words("device"), dtypes, kinds):
        part = table.select(rows)
        if kind not in INFERENCE:
            yield LeftOut(part.file, f"no operation {kind!r}", len(part))
            continue
        m, n = part.wholes("rows"), part.wholes("cols")
        yield Points(
            "vector", set_name(source, device, dtype, kind), device, dtype, part.file, part.lines,
            part.numbers("time_us") * MICROSECOND, label(lambda a, b: f"{a}x{b}", m, n),
            tuple(part.words("source")), _work(kind, m, n, dtype), np.arange(len(part)),
        )  # fmt: skip


def _work(kind: str, m: np.ndarray, n: np.ndarray, dtype: str) -> Workload:
    """An operation per row, which stands alone: it is not called what a machine may fuse into a product."""
    cost, builder = INFERENCE[kind], WorkloadBuilder("vectors")
    for rows, columns in zip(m.tolist(), n.tolist(), strict=True):
        sizes = {f"{x}_elements": per * rows * columns for x, per in (("a", cost.a), ("b", cost.b), ("c", cost.c))}
        row = {"layer": kind, "stage": "VECTOR", "kind": f"{kind} alone", "m": rows, "n": columns}
        builder.add(**with_dtype({**row, **sizes, "ops_per_element": cost.ops}, dtype))
    return builder.build()
