"""Measured linear layers with weights at any place as points, by the kernel that ran them: dense, CSR, condensed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmsim.errors import SpecError
from nmsim.validation.points import MICROSECOND, Found, LeftOut, Points, groups, label, scorable, set_name, source_key
from nmsim.validation.tables import Table
from nmsim.workloads.products import gemms

COLUMNS = ("sparsity_pct", "batch", "kernel", "time_us", "device", "dtype")
INPUTS, OUTPUTS = 3072, 768
"""The last linear layer of a block of ViT-B/16, whose times these tables hold (arXiv 2305.02299)."""
KERNELS = {
    "Dense benchmark - Compiled - backend inductor": "dense",
    "csr only compiled with backend - inductor": "csr",
    "FFI TP (self)": "condensed",
}
"""What the notebook calls the kernels that nmsim has; its others leave out neurons, whose number it does not tell, or
are slower ones of the same layer."""


def points(table: Table) -> Iterator[Found]:
    """The points of a table of condensed layers: a data set per source, device, type and kernel."""
    table, left = scorable(table)
    yield from left
    kinds = np.array([KERNELS.get(text, "") for text in table.words("kernel")], dtype=object)
    for (name,), rows in groups(table.words("kernel")[kinds == ""]):
        yield LeftOut(table.file, f"no kernel {name!r}", len(rows))
    table, kinds = table.select(kinds != ""), kinds[kinds != ""]
    columns = source_key(table), table.words("device"), table.words("dtype"), kinds
    for (source, device, dtype, kernel), rows in groups(*columns):
        part = table.select(rows)
        batch, kept = part.wholes("batch"), _fan_in(part)
        pattern = [f"fan-in:{k}" if kernel != "dense" else "dense" for k in kept.tolist()]
        size = {"m": batch, "n": np.full(len(part), OUTPUTS), "k": np.full(len(part), INPUTS)}
        work = gemms(size | {"pattern": pattern, "operand": ["B"] * len(part)}, dtype=dtype)
        yield Points(
            "condensed", set_name(source, device, dtype, kernel), device, dtype, part.file, part.lines,
            part.numbers("time_us") * MICROSECOND, label(lambda b, k: f"batch {b}, {k} of {INPUTS} kept", batch, kept),
            tuple(part.words("source")), work, np.arange(len(part)), gathered="" if kernel == "dense" else kernel,
        )  # fmt: skip


def _fan_in(table: Table) -> np.ndarray:
    """Weights kept of each neuron [rows]; raises SpecError for a sparsity of 100 % and more."""
    sparsity = table.numbers("sparsity_pct")
    kept = np.round(INPUTS * (1 - sparsity / 100)).astype(np.int64)
    if len(bad := np.flatnonzero(kept < 1)):
        row = int(bad[0])
        raise SpecError([table.problem(row, "sparsity_pct", f"must be below 100, not {sparsity[row]:g}")])
    return kept
