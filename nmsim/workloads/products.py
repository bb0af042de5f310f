"""Workloads of bare matrix products, built from arrays: no model behind them, no loop over rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nmsim.errors import NmsimError, ShapeError, unknown
from nmsim.sparsity.pattern import DENSE, Pattern
from nmsim.workloads.optable import AXES, COLUMNS, DTYPES, FORMATS, MAX_MACS, OF_CONVOLUTIONS, ROLES, STAGES, Workload

if TYPE_CHECKING:
    import pandas as pd

SIZES = ("m", "n", "k", "count")
DEFAULTS = {"pattern": "dense", "operand": "B", "dtype": "fp16", "name": "gemm", "stage": "FF"}
FRAME_COLUMNS = (*SIZES, *DEFAULTS)
MOST_MISTAKES = 50
"""Bad cells that are told one by one."""

# Roles of A, B, C by stage.
_ROLES = {
    "FF": ("activation", "weight", "activation"),
    "BP": ("gradient", "weight", "gradient"),
    "WU": ("activation", "gradient", "weight_gradient"),
}


class CellError(ShapeError):
    """A value of a table that cannot be used, with its row (from 0) and column.

    `first` are the first mistakes of the table, this one among them, `count` is the number of all.
    """

    def __init__(self, row: int, column: str, message: str):
        super().__init__(f"row {row}, column {column!r}: {message}")
        self.row, self.column, self.message = row, column, message
        self.first: tuple[CellError, ...] = (self,)
        self.count = 1


class _Mistakes:
    """The bad cells of a table: the first of each column, and the number of all."""

    def __init__(self) -> None:
        self.found: list[CellError] = []
        self.count = 0

    def add(self, column: str, rows: np.ndarray, message: Callable[[int], str] | str) -> None:
        """Note these rows of a column; `message` says what is wrong with all or, as a function, with one of them."""
        self.count += len(rows)
        texts = ((row, message if isinstance(message, str) else message(row)) for row in rows[:MOST_MISTAKES].tolist())
        self.found += [CellError(row, column, text) for row, text in texts]

    def refuse(self) -> None:
        """Raise the first mistake, if there are any."""
        if self.found:
            self.found.sort(key=lambda e: (e.row, FRAME_COLUMNS.index(e.column)))
            error = self.found[0]
            error.first, error.count = tuple(self.found[:MOST_MISTAKES]), self.count
            raise error


def gemm(
    m: int, n: int, k: int, pattern: str | Pattern = "dense", operand: str = "B", dtype: str = "fp16", count: int = 1
) -> Workload:
    """`count` products C[m,n] = A[m,k]·B[k,n], one operand of which has `pattern` along k; a workload of one FF op."""
    row = {"m": m, "n": n, "k": k, "count": count, "pattern": pattern, "operand": operand, "dtype": dtype}
    return gemms({name: [value] for name, value in row.items()})


def gemms(frame: pd.DataFrame | Mapping[str, Any], name: str = "gemms", dtype: str = "fp16") -> Workload:
    """A workload of one product per row of `frame`, a DataFrame or a mapping of columns to arrays.

    Columns: `m, n, k`, and optionally `count` (1), `pattern` (dense; its groups run along k), `operand` that has it
    (`A` or `B`, the default), `dtype` (the argument), `name` (`gemm`), `stage` (`FF`, or `BP`, `WU`).

    Raises CellError, a ShapeError, naming the row (from 0) and column of the first value that cannot be used;
    ShapeError for what is no table, has no rows, or columns that are missing, unknown or of different lengths.
    """
    given = _columns(frame)
    rows = len(given["m"])
    bad = _Mistakes()
    sizes = {c: _sizes(c, given[c], bad) if c in given else np.ones(rows, np.int64) for c in SIZES}
    _check_overflow(sizes, bad)
    codes: dict[str, np.ndarray] = {}
    words: dict[str, list[Any]] = {}
    for column, default in {**DEFAULTS, "dtype": dtype}.items():
        codes[column], words[column] = _words(given.get(column), rows, default)
    columns, patterns = _operand_columns(codes, words, bad)
    bad.refuse()
    columns |= _size_columns(sizes) | _fixed(rows)
    columns["layer"] = codes["name"]
    typed: dict[str, np.ndarray] = {c: columns[c].astype(t, copy=False) for c, t in COLUMNS.items()}
    return Workload(name, typed, tuple(map(str, words["name"])), ("gemm",), patterns, info={"rows": rows})


def _columns(frame: pd.DataFrame | Mapping[str, Any]) -> dict[str, np.ndarray]:
    if isinstance(frame, str | os.PathLike):
        raise ShapeError(f"gemms takes a DataFrame or a mapping of columns; for a file: load_workload({str(frame)!r})")
    if not isinstance(frame, Mapping) and not hasattr(frame, "columns"):
        raise ShapeError(f"gemms takes a DataFrame or a mapping of columns to arrays, not a {type(frame).__name__}")
    source: Any = frame
    given = {str(c): np.atleast_1d(np.asarray(source[c])) for c in source}
    for column in given:
        if column not in FRAME_COLUMNS:
            raise ShapeError(unknown("column", column, FRAME_COLUMNS))
    if missing := [c for c in ("m", "n", "k") if c not in given]:
        raise ShapeError(f"the column {missing[0]!r} is missing; a table of products needs m, n and k")
    lengths = {c: len(values) for c, values in given.items()}
    if len(set(lengths.values())) != 1 or any(values.ndim != 1 for values in given.values()):
        raise ShapeError(f"the columns of a table must be arrays of one length; got {lengths}")
    if not lengths["m"]:
        raise ShapeError("no products: the table has no rows")
    return given


def _sizes(column: str, values: np.ndarray, mistakes: _Mistakes) -> np.ndarray:
    """The column as int64, 1 where a value is no whole number from 1 to MAX_MACS and noted as a mistake."""
    kind = values.dtype.kind
    if kind in "iuf":
        good = (values >= 1) & (values <= MAX_MACS)  # false for NaN
        if kind == "f":
            good &= values == np.floor(values)
    else:
        good = np.fromiter((kind == "O" and _is_size(value) for value in values), bool, len(values))
    if good.all():
        return values.astype(np.int64)
    mistakes.add(
        column, np.flatnonzero(~good), lambda row: f"must be a whole number from 1 to 2^62, not {_shown(values[row])}"
    )
    sizes = np.ones(len(values), np.int64)
    sizes[good] = values[good].astype(np.int64)
    return sizes


def _shown(value: object) -> str:
    return f"{value.item() if isinstance(value, np.generic) else value!r:.60}"


def _is_size(value: object) -> bool:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return bool(1 <= value <= MAX_MACS and value == int(value))


def _check_overflow(sizes: Mapping[str, np.ndarray], mistakes: _Mistakes) -> None:
    macs = np.prod([values.astype(float) for values in sizes.values()], axis=0)
    limit = "overflow a 64-bit count; a product has at most 2^62"
    mistakes.add("m", np.flatnonzero(macs > MAX_MACS), lambda row: f"{macs[row]:.3g} multiply-accumulates {limit}")


def _words(values: np.ndarray | None, rows: int, default: str) -> tuple[np.ndarray, list[Any]]:
    """Codes [rows] into a list of the distinct values; a missing value (None, NaN) is the default."""
    if values is None:
        return np.zeros(rows, np.int64), [default]
    if rows <= 1000 and "pandas" not in sys.modules:
        table: dict[Any, int] = {}
        found = [default if value is None or value != value else value for value in values.tolist()]
        return np.array([table.setdefault(value, len(table)) for value in found], np.int64), list(table)
    import pandas as pd

    codes, distinct = pd.factorize(values)
    words = list(distinct)
    if (codes < 0).any():
        codes = np.where(codes < 0, len(words), codes)
        words.append(default)
    return codes, words


def _operand_columns(
    codes: Mapping[str, np.ndarray], words: Mapping[str, list[Any]], bad: _Mistakes
) -> tuple[dict[str, np.ndarray], tuple[Pattern, ...]]:
    """Patterns, their axes, roles, dtypes and stage, each looked up once per distinct value."""
    table: dict[Pattern, int] = {DENSE: 0}

    def lookup(column: str, code_of: Callable[[Any], int]) -> np.ndarray:
        return _lookup(column, codes[column], words[column], code_of, bad)

    parsed = lookup("pattern", lambda word: table.setdefault(Pattern.parse(word).along(-1), len(table)))
    on_a = lookup("operand", lambda word: _choice("operand", word, ("B", "A"))) == 1
    dtypes = lookup("dtype", lambda word: _choice("dtype", word, DTYPES))
    stage = lookup("stage", lambda word: _choice("stage", word, tuple(_ROLES)))
    roles = np.array([[ROLES.index(role) for role in triple] for triple in _ROLES.values()])[stage]
    along_k = np.where(parsed > 0, AXES.index("k"), AXES.index(""))
    columns = {
        "stage": np.array([STAGES.index(s) for s in _ROLES])[stage],
        "a_pattern": np.where(on_a, parsed, 0), "a_axis": np.where(on_a, along_k, 0),
        "b_pattern": np.where(on_a, 0, parsed), "b_axis": np.where(on_a, 0, along_k),
    }  # fmt: skip
    for i, letter in enumerate("abc"):
        columns |= {f"{letter}_role": roles[:, i], f"{letter}_dtype": dtypes}
    return columns, tuple(table)


def _lookup(
    column: str, codes: np.ndarray, words: list[Any], code_of: Callable[[Any], int], bad: _Mistakes
) -> np.ndarray:
    """The final code of every row, 0 where `code_of` refuses its word, which is noted as a mistake."""
    final = []
    for i, word in enumerate(words):
        try:
            final.append(code_of(word))
        except NmsimError as error:
            final.append(0)
            bad.add(column, np.flatnonzero(codes == i), str(error))
    return np.array(final, np.int64)[codes]


def _choice(what: str, word: object, allowed: Sequence[str]) -> int:
    if word not in allowed:
        raise ShapeError(unknown(what, word, allowed))
    return allowed.index(str(word))


def _size_columns(sizes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    m, n, k, count = (sizes[c] for c in SIZES)
    elements = {"a_elements": m * k * count, "b_elements": k * n * count, "c_elements": m * n * count}
    return {**sizes, **elements, "m_inserted": m}


def _fixed(rows: int) -> dict[str, np.ndarray]:
    """The columns that are the same in every row."""
    zero, packed = np.zeros(rows, np.int64), np.full(rows, FORMATS.index("packed"))
    columns = dict.fromkeys(("kind", "note", "phase", *OF_CONVOLUTIONS), zero)
    return {**columns, "ops_per_element": np.zeros(rows), "repeat": zero + 1, "a_format": packed, "b_format": packed}
