"""Measured linear layers and feed-forward blocks, dense and 2:4, as points."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from nmsim.validation.points import (
    Found,
    LeftOut,
    Points,
    from_works,
    groups,
    known_types,
    scorable,
    set_name,
    source_key,
)
from nmsim.validation.tables import Table
from nmsim.workloads.optable import Workload
from nmsim.workloads.products import gemms

COLUMNS = ("device", "dtype", "what", "phase", "shape", "pattern", "value", "unit")
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
LAYERS = {"linear": 3, "mlp": 4, "ffn": 4}
"""The first word of `what`, and how many sizes its `shape` has: tokens and the features between the layers."""
SPARSE = {"2:4 weights (runtime)": "weights", "2:4 activations, sparsify excluded": "activations"}
"""The patterns whose products are timed without the search of the mask."""


def points(table: Table) -> Iterator[Found]:
    """The points of a table of layers, a data set per source, device, type and kind of layer; the rest counted."""
    table, left = scorable(table, "value")
    yield from left
    table, dtypes, left = known_types(table)
    yield from left
    reasons = np.array([_left_out(table, row) for row in range(len(table))], dtype=object)
    known = reasons == ""
    for (reason,), rows in groups(reasons[~known]):
        yield LeftOut(table.file, reason, len(rows))
    table, dtypes = table.select(known), dtypes[known]
    kinds = np.array([_kind(text) for text in table.words("what")], dtype=object)
    for (source, device, dtype, kind), rows in groups(source_key(table), table.words("device"), dtypes, kinds):
        part = table.select(rows)
        seconds = part.numbers("value") * np.array([UNITS[unit] for unit in part.words("unit")])
        labels = tuple(f"{x} {p}" for x, p in zip(part.words("shape"), part.words("pattern"), strict=True))
        work, owner = from_works([_work(part, row, dtype) for row in range(len(part))])
        yield Points(
            "layer", set_name(source, device, dtype, kind), device, dtype, part.file, part.lines, seconds,
            labels, tuple(part.words("source")), work, owner,
        )  # fmt: skip


def _kind(what: str) -> str:
    return what.split(" ")[0].lower() if what else ""


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split("x")] if re.fullmatch(r"[1-9]\d{0,8}(x[1-9]\d{0,8})*", text) else []


def _sparse(pattern: str) -> str | None:
    """What is sparse of a layer: nothing, `weights` or `activations`; None where it cannot be told."""
    return "" if pattern in ("dense", "dense (compiled)") else SPARSE.get(pattern)


def _left_out(table: Table, row: int) -> str:
    """Why the row is no point, by the first of its columns that has no rule; empty where all have one."""
    what, phase, shape, pattern, unit = (
        str(table.words(c)[row]) for c in ("what", "phase", "shape", "pattern", "unit")
    )
    sizes = LAYERS.get(_kind(what))
    if sizes is None:
        return f"no rule for {what!r}"
    if phase not in ("fwd", "fwd+bwd"):
        return f"phase {phase!r} of a {_kind(what)} is neither fwd nor fwd+bwd"
    if len(_sizes(shape)) != sizes:
        return f"shape {shape!r} of a {_kind(what)} is not {sizes} sizes with x between them"
    if _sparse(pattern) is None:
        return f"no rule for the pattern {pattern!r} of a {_kind(what)}"
    return "" if unit in UNITS else f"unit {unit!r} of a {_kind(what)} is none of {', '.join(UNITS)}"


def _work(table: Table, row: int, dtype: str) -> Workload:
    """FF, and for `fwd+bwd` BP and WU, of each linear layer; sparse weights in FF and BP, activations in FF."""
    tokens, *features = _sizes(table.words("shape")[row])
    sparse = _sparse(table.words("pattern")[row])
    trains = table.words("phase")[row] == "fwd+bwd"
    rows = []
    for layer, (inputs, outputs) in enumerate(pairwise(features)):
        weights = "2:4" if sparse == "weights" else "dense"
        hidden = "2:4" if sparse == "activations" and layer else "dense"
        stored = ("B", weights) if hidden == "dense" else ("A", hidden)
        rows.append((tokens, outputs, inputs, *stored, "FF"))
        if trains:
            rows.append((tokens, inputs, outputs, "B", weights, "BP"))
            rows.append((inputs, outputs, tokens, "B", "dense", "WU"))
    m, n, k, operand, pattern, stage = zip(*rows, strict=True)
    return gemms({"m": m, "n": n, "k": k, "operand": operand, "pattern": pattern, "stage": stage}, dtype=dtype)
