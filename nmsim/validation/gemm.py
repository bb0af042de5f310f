"""Measured matrix products, dense, n:m and V:n:m, as points."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nmsim.errors import PatternError, SpecError
from nmsim.sparsity.pattern import Pattern
from nmsim.validation.points import (
    MICROSECOND,
    Found,
    Points,
    groups,
    known_types,
    label,
    scorable,
    set_name,
    slug,
    source_key,
)
from nmsim.validation.tables import Table
from nmsim.workloads.optable import DTYPE_BITS, DTYPES, Workload
from nmsim.workloads.products import CellError, gemms

COLUMNS = ("device", "dtype", "M", "N", "K", "pattern", "time_us")
PLAIN_COLUMNS = ("device", "dtype", "M", "N", "K", "time_us")
"""Columns of a table of dense products only."""


def points(table: Table) -> Iterator[Found]:
    """The points of a table of C[M,N] = A[M,K]·B[K,N], a data set per source, device, type and kind of pattern."""
    table, left = scorable(table)
    yield from left
    table, dtypes, left = known_types(table)
    yield from left
    keys = source_key(table), table.words("device"), dtypes, _families(table), _variants(table)
    for (source, device, dtype, family, variant), rows in groups(*keys):
        part, name = table.select(rows), set_name(source, device, dtype, family)
        yield replace(_points(part, name, device, dtype, "time_us", _patterns(part)), kernels=variant)
        stated = part.select(part.words("dense_ref_time_us") != "")
        if family != "dense" and len(stated):
            dense = np.full(len(stated), "dense", dtype=object)
            reference = _points(
                stated, set_name(source, device, dtype, "dense"), device, dtype, "dense_ref_time_us", dense
            )
            yield replace(reference, of=name)


def _points(table: Table, name: str, device: str, dtype: str, time: str, patterns: np.ndarray) -> Points:
    sizes = [table.wholes(column) for column in "MNK"]
    try:
        work = products(sizes, patterns, _operands(table), _batch(table), dtype)
    except CellError as error:
        raise SpecError(table.problem(bad.row, bad.column.upper(), bad.message) for bad in error.first) from None
    return Points(
        "gemm", name, device, dtype, table.file, table.lines, table.numbers(time) * MICROSECOND,
        label(lambda m, n, k, p: f"{m}x{n}x{k} {p}".removesuffix(" dense"), *sizes, patterns),
        tuple(table.words("source")), work, np.arange(len(table)),
    )  # fmt: skip


def products(
    sizes: list[np.ndarray], patterns: np.ndarray, operands: np.ndarray, count: np.ndarray, dtype: str
) -> Workload:
    """A product per row; those of 8 bits and fewer write 16, as the kernels that were measured do."""
    m, n, k = sizes
    work = gemms(
        {"m": m, "n": n, "k": k, "count": count, "pattern": patterns, "operand": operands}, "measured", dtype=dtype
    )
    if DTYPE_BITS[dtype] > 8:
        return work
    wide = np.full(len(work), DTYPES.index("fp16"), dtype=work["c_dtype"].dtype)
    return replace(work, columns={**work.columns, "c_dtype": wide})


def _patterns(table: Table) -> np.ndarray:
    """The pattern of each row as nmsim writes it [rows]; an empty cell is dense. Raises SpecError."""
    words = table.words("pattern")
    texts = {}
    for text in dict.fromkeys(words):
        try:
            texts[text] = str(Pattern.parse(text.removeprefix("V") or "dense"))
        except PatternError as error:
            raise SpecError([table.problem(int(np.argmax(words == text)), "pattern", str(error))]) from None
    return np.array([texts[text] for text in words], dtype=object)


def _families(table: Table) -> np.ndarray:
    """`dense`, or the n:m itself or the kind of pattern, with the kernel's first word where it is told [rows]."""
    patterns = _patterns(table)
    kinds = {text: Pattern.parse(text) for text in dict.fromkeys(patterns)}
    kernels = [slug(text.split(" ")[0]) for text in table.words("kernel")]
    return np.array(
        [_family(kinds[text], kernel) for text, kernel in zip(patterns, kernels, strict=True)], dtype=object
    )


def _family(pattern: Pattern, kernel: str) -> str:
    name = str(pattern) if pattern.kind == "nm" else pattern.kind
    return name if pattern.is_dense or not kernel else f"{name}_{kernel}"


def _variants(table: Table) -> np.ndarray:
    """What tells kernels of one family apart [rows]: `tn` for the layouts of A and B of a dense product where the
    kernel's name ends with TN, `tn_pow2` where k, the stride of what lies along it, is a power of two as well (`nt` has
    nothing that does), `v64` for the height of blocks where the notes of an n:m one say V=64; else empty.

    Blocks in which every m elements keep all their columns bind no mask, but the tiles of the kernel.
    """
    kinds = {text: Pattern.parse(text).kind for text in dict.fromkeys(_patterns(table))}
    said = zip(_patterns(table), table.words("kernel"), table.words("notes"), table.wholes("K").tolist(), strict=True)
    return np.array([variant(kinds[pattern], kernel, notes, k) for pattern, kernel, notes, k in said], dtype=object)


def variant(kind: str, kernel: str, notes: str, k: int) -> str:
    """What tells the kernels of a product of a `kind` of pattern from others of its family; see `_variants`."""
    if kind == "dense":
        layouts = re.search(r" ([NT][NT])$", kernel)
        name = layouts[1].lower() if layouts else ""
        return f"{name}_pow2" if name not in ("", "nt") and k.bit_count() == 1 else name
    height = re.search(r"\bV=(\d+)\b", notes) if kind == "nm" else None
    return f"v{height[1]}" if height else ""


def _operands(table: Table) -> np.ndarray:
    """The sparse operand of each row, `A` or `B` [rows]; B where nothing is said. Raises SpecError."""
    words = table.words("sparse_operand")
    letters = np.array([text[:1].upper() or "B" for text in words], dtype=object)
    if (bad := ~np.isin(letters.astype(str), ["A", "B"])).any():
        row = int(np.argmax(bad))
        raise SpecError([table.problem(row, "sparse_operand", f"must begin with A or B, not {words[row]!r:.40}")])
    return letters


def _batch(table: Table) -> np.ndarray:
    """Independent products of each row [rows]; 1 where nothing is said."""
    words = table.words("batch")
    filled = np.where(words == "", "1", words)
    return replace(table, cells={**table.cells, "batch": filled}).wholes("batch")
