"""Executed operations in canonical form, and the proof that an operand obeys the pattern its row claims."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from nmsim.errors import NmsimError, PatternError
from nmsim.sparsity.detect import violations
from nmsim.sparsity.pattern import Pattern
from nmsim.traces.schema import OPERANDS, TraceError
from nmsim.workloads.model import with_dtype
from nmsim.workloads.optable import CODES, COLUMNS, COUNTS, DICTIONARIES, WorkloadBuilder

Row = dict[str, Any]
"""Every column of an op but `repeat` and `phase`; names and patterns spelled out."""

AXES = {"a": {"m": -2, "k": -1}, "b": {"k": -2, "n": -1}}
"""Array axis of each axis of a product, for an operand in the shape of the product: A [.., m, k], B [.., k, n]."""


def canonical(layer: str, stage: str, kind: str, values: Mapping[str, Any], dtype: str) -> Row:
    """The row with every column as the op table will have it; raises TraceError for values that make no op."""
    where = f"{layer} {stage}"
    if counted := values.keys() & {"repeat", "phase"}:
        raise TraceError(f"{where}: {sorted(counted)[0]} is counted by the recorder, not given to it")
    given = dict(values)
    try:
        for column in COUNTS:
            if column in given:
                given[column] = operator.index(given[column])
        for letter in OPERANDS:
            if f"{letter}_pattern" in given:
                given[f"{letter}_pattern"] = Pattern.parse(given[f"{letter}_pattern"]).along(-1)
        builder = WorkloadBuilder(where)
        builder.add(**with_dtype({"layer": layer, "stage": stage, "kind": kind, **given}, dtype))
        work = builder.build()
    except (NmsimError, TypeError, ValueError) as error:
        raise TraceError(f"{where}: {error}") from None
    row: Row = {}
    for column in COLUMNS.keys() - {"repeat", "phase"}:
        table = CODES.get(column) or getattr(work, DICTIONARIES.get(column, ""), None)
        row[column] = work[column][0].item() if table is None else table[work[column][0]]
    _check_claims(row)
    return {column: row[column] for column in COLUMNS if column in row}


def _check_claims(row: Row) -> None:
    """Only products claim patterns, each along an axis of its operand; a mask search names the one it looks for."""
    if row["stage"] == "PRUNE":
        return
    for letter in OPERANDS:
        pattern, axis = row[f"{letter}_pattern"], row[f"{letter}_axis"]
        if pattern.is_dense and not axis:
            continue
        if row["kind"] != "gemm":
            raise TraceError(f"{place(row, letter)}: {row['kind']} is no product, so it cannot claim {pattern}")
        if pattern.is_dense or axis not in AXES[letter]:
            allowed = " or ".join(AXES[letter])
            raise TraceError(f"{place(row, letter)}: {pattern} along {axis!r}; a pattern runs along {allowed}")


def claims(row: Row, letter: str) -> bool:
    """Whether the row says that this operand obeys a pattern."""
    return row["stage"] != "PRUNE" and not row[f"{letter}_pattern"].is_dense


def place(row: Row, letter: str) -> str:
    """Layer, stage and operand, for a message."""
    return f"{row['layer']} {row['stage']} operand {letter} ({row[f'{letter}_role']})"


def prove(row: Row, letter: str, array: Any, along: int | None, search: bool) -> None:
    """Raise TraceError unless `array` can prove the row's claim and, with `search`, does.

    `array` is the operand in the shape of the product. With `along`, the array's axis of the groups, it may lie in
    another way, and have distinct elements only: as a convolution has them, whose groups run along channels at a
    fixed kernel position.
    """
    where, pattern = place(row, letter), row[f"{letter}_pattern"]
    if array is None:
        raise TraceError(f"{where}: recorded as {pattern} without the operand that would prove it")
    array = np.asarray(array)
    if along is None:
        axis, why = AXES[letter][row[f"{letter}_axis"]], _not_the_product(row, letter, array)
    else:
        axis = along
        if pattern.kind == "fan_in" and array.ndim > 2 and axis in (-1, -2):
            array = _whole_rows(array, axis, row[row[f"{letter}_axis"]])
        why = _not_the_elements(row, letter, array, axis)
    if why:
        raise TraceError(f"{where}: an array {list(array.shape)} {why}, so it does not prove {pattern}")
    if search:
        check(array, pattern, axis, where)


def _whole_rows(array: np.ndarray, axis: int, length: int) -> np.ndarray:
    """A convolution's weight as a matrix whose rows, `length` long along `axis`, have all kernel positions.

    Arrays that are not such weights come back as they are.
    """
    if array.shape[axis] == length or array.size == 0:
        return array
    rows = np.moveaxis(array, -3 - axis, 0).reshape(array.shape[-3 - axis], -1)
    if rows.shape[1] != length:
        return array
    return rows if axis == -1 else rows.T


def check(array: Any, pattern: Pattern | str, axis: int | None, what: str) -> None:
    """Raise TraceError naming `what` if the array has more non-zeros than the pattern allows along `axis`."""
    try:
        broken = violations(array, pattern, axis)
    except PatternError as error:
        raise TraceError(f"{what}: {error}") from None
    if broken:
        raise TraceError(f"{what}: recorded as {pattern}, but {broken:,} of its groups have more non-zeros")


def _not_the_product(row: Row, letter: str, array: np.ndarray) -> str:
    """Why the array does not have the shape of the operand in the product; empty if it has."""
    shape = [row[axis] for axis in AXES[letter]]
    if list(array.shape[-2:]) == shape and prod(array.shape[:-2]) == row["count"]:
        return ""
    return f"is not {row['count']} of {shape}"


def _not_the_elements(row: Row, letter: str, array: np.ndarray, axis: int) -> str:
    """Why the array does not have the elements of the operand; empty if it may have them."""
    if not -array.ndim <= axis < array.ndim:
        return f"has no axis {axis}"
    elements, pattern = row[f"{letter}_elements"], row[f"{letter}_pattern"]
    full = row["count"] * prod(row[a] for a in AXES[letter])
    if not array.size or array.size not in (full, elements):
        return f"has {array.size:,} elements, not the {elements:,} of the operand"
    expected, length = row[row[f"{letter}_axis"]], array.shape[axis]
    if length == expected:
        return ""
    # Channels alone, at one kernel position: groups that end within them are groups of the product too.
    split = pattern.has_groups and (length % pattern.m or expected % pattern.m)
    if pattern.kind == "fan_in" or split or expected * row["count"] % length:
        return f"has {length} elements along axis {axis}, not the {expected} of {row[f'{letter}_axis']}"
    return ""
