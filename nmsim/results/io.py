"""Results on disk: result.json (totals, breakdowns, provenance) and ops.csv (a row per op), written all or none."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nmsim
from nmsim.errors import Problem, SpecError
from nmsim.files import atomic_write, require_directory, write_files
from nmsim.results.metrics import METRICS
from nmsim.results.result import BREAKDOWNS, Result

FORMAT = "nmsim result"
SCHEMA = 1
RESULT_FILE = "result.json"
OPS_FILE = "ops.csv"
MAX_BYTES = 256 * 10**6

__all__ = [
    "FORMAT", "OPS_FILE", "RESULT_FILE", "SCHEMA", "Origins", "SavedResult", "amounts", "atomic_write", "dump", "files",
    "load", "require_directory", "save", "to_csv", "to_dict", "write_files",
]  # fmt: skip

Origins = Mapping[str, Mapping[str, str]]
"""Where each number of the machine comes from, by its path: `{"clock": {"kind": "source", "text": "…"}}`."""


@dataclass(frozen=True)
class SavedResult:
    """What a result file keeps: totals by metric, and breakdowns as amounts by name.

    A figure that is not known (the energy of a data type without one) is NaN here and null in the file.
    """

    arch: str
    workload: str
    engine: str
    info: Mapping[str, Any]
    metrics: Mapping[str, float]
    breakdowns: Mapping[str, Mapping[str, float]]
    assumptions: tuple[str, ...] = ()
    energy: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, result: Result) -> SavedResult:
        """What a file of `result` would keep."""
        return cls(
            result.arch.name, result.workload.name, result.engine, dict(result.workload.info),
            {name: result.metric(name) for name in METRICS},
            {by: amounts(result, by) for by in BREAKDOWNS}, result.assumptions,
            result.account.record(result.workload["repeat"]) if result.account is not None else {},
        )  # fmt: skip


def amounts(result: Result, by: str) -> dict[str, float]:
    """The amounts of `result.breakdown(by)` by name."""
    return {str(name): float(value) for name, value in result.breakdown(by).iloc[:, 0].items()}


def to_dict(
    result: Result, origins: Origins | None = None, ops: bool = False, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """The result as plain data for JSON, null where a figure is not finite; with `ops`, a row per op too.

    `notes` are what a reader must know before the figures.
    """
    saved = SavedResult.of(result)
    data = {
        "format": FORMAT, "schema": SCHEMA, "nmsim": nmsim.__version__,
        "arch": saved.arch, "workload": saved.workload, "engine": saved.engine, "info": saved.info,
        "notes": notes, "metrics": saved.metrics, "breakdowns": saved.breakdowns, "energy": saved.energy,
        "assumptions": saved.assumptions, "provenance": origins or {},
    }  # fmt: skip
    if ops:
        data["ops"] = result.to_frame().to_dict("records")
    return _plain(data)


def to_csv(result: Result) -> str:
    """The table of `Result.to_frame` as CSV."""
    return result.to_frame().to_csv(index=False, lineterminator="\n")


def dump(data: Any) -> str:
    """The JSON text of plain data."""
    return json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def files(result: Result, origins: Origins | None = None, notes: Sequence[str] = ()) -> dict[str, str]:
    """The contents of the files of a result directory, by file name."""
    return {RESULT_FILE: dump(to_dict(result, origins, notes=notes)), OPS_FILE: to_csv(result)}


def save(result: Result, directory: str | os.PathLike[str], origins: Origins | None = None) -> None:
    """Write `result` into a directory, which is made if needed; raises NmsimError if it cannot be one."""
    write_files(directory, files(result, origins))


def load(path: str | os.PathLike[str]) -> SavedResult:
    """The result in a directory or a result.json; raises SpecError if it is not one that this version can read."""
    file = Path(path) / RESULT_FILE if Path(path).is_dir() else Path(path)
    data = _parsed(file)
    if message := _foreign(data):
        raise _bad(file, message)
    figures = data["metrics"], *data["breakdowns"].values()
    if bad := next((f for table in figures for f in table.values() if not _is_figure(f)), None):
        raise _bad(file, f"damaged: expected a number of at least 0, got {bad!r:.60}")
    return SavedResult(
        data["arch"], data["workload"], data["engine"], data["info"], _figures(data["metrics"]),
        {by: _figures(table) for by, table in data["breakdowns"].items()}, tuple(data["assumptions"]),
        _energy(file, data),
    )  # fmt: skip


def _energy(file: Path, data: Any) -> Mapping[str, Any]:
    """The record of actions, empty in a file that has none."""
    record = data.get("energy", {})
    terms = record.get("terms", []) if isinstance(record, dict) else None
    needed = ("joules", "sigma")
    if not isinstance(terms, list) or not all(
        isinstance(t, dict) and isinstance(t.get("group"), str) and all(_is_figure(t.get(n, "")) for n in needed)
        for t in terms
    ):
        raise _bad(file, "damaged: 'energy' is not a record of actions")
    return record if all(t[n] is not None for t in terms for n in needed) else {}


def _parsed(file: Path) -> Any:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _bad(file, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_BYTES:
        raise _bad(file, f"the file is larger than {MAX_BYTES // 10**6} MB")
    if not raw.strip():
        raise _bad(file, "the file is empty")
    try:
        return json.loads(raw.decode("utf-8"))
    except json.JSONDecodeError as error:
        message = f"not JSON, or cut off: {error.msg}; {RESULT_FILE} is written by `nmsim run … -o DIR`"
        raise _bad(file, message, error.lineno, error.colno) from None
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise _bad(file, f"not a JSON text; {RESULT_FILE} is written by `nmsim run … -o DIR`") from None


_PARTS = {
    "arch": str, "workload": str, "engine": str, "info": dict, "metrics": dict, "breakdowns": dict, "assumptions": list
}  # fmt: skip


def _foreign(data: Any) -> str:
    """Why the data is no result that can be read; empty if it is one."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        return f'not a result of nmsim: it does not say "format": "{FORMAT}"'
    schema = data.get("schema")
    if not isinstance(schema, int) or schema < 1:
        return f"damaged: schema is {schema!r:.60}, not a version number"
    if schema > SCHEMA:
        return f"written by a newer nmsim ({data.get('nmsim')}): schema {schema}, this one reads up to {SCHEMA}"
    for part, kind in _PARTS.items():
        if not isinstance(data.get(part), kind):
            return f"damaged: {part!r} is missing or not what it should be"
    if not all(isinstance(table, dict) for table in data["breakdowns"].values()):
        return "damaged: a breakdown is not a table"
    if absent := [name for name in METRICS if name not in data["metrics"]]:
        return f"damaged: the metric {absent[0]!r} is missing"
    if absent := [by for by in BREAKDOWNS if by not in data["breakdowns"]]:
        return f"damaged: the breakdown by {absent[0]} is missing"
    return ""


def _is_figure(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value >= 0)


def _figures(table: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in table.items()}


def _bad(file: Path, message: str, line: int = 1, column: int = 1) -> SpecError:
    return SpecError([Problem(str(file), line, column, "", message)])


def _plain(data: Any) -> Any:
    """`data` with Python's own types, None for numbers that are not finite."""
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if hasattr(data, "item"):
        data = data.item()
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data if data is None or isinstance(data, bool | int | float) else str(data)
