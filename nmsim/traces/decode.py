"""Plain data and arrays back to a trace, refusing what no recorder writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nmsim.errors import NmsimError
from nmsim.sparsity.pattern import Pattern
from nmsim.traces.schema import FORMAT, OPERANDS, SCHEMA, TABLES, Trace, TraceError, content_digest
from nmsim.workloads.optable import CODES, DICTIONARIES, ROLES, STAGES, Phase, Workload

_PARTS = {
    "name": str, "check_every": int, "layers": list, "kinds": list, "notes": list, "patterns": list, "phases": list,
    "info": dict, "digest": str,
}  # fmt: skip
_NAMES = ("layers", "kinds", "notes", "patterns")
_MAX = 2**63


def check_schema(meta: Any) -> None:
    """Raise TraceError if the data is not that of a trace this version can read."""
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise TraceError(f'not a trace of nmsim: it does not say "format": "{FORMAT}"')
    schema: Any = meta.get("schema")
    if not _is_count(schema, 1):
        raise TraceError(f"damaged: schema is {schema!r:.60}, not a version number")
    if schema != SCHEMA:
        info, age = meta.get("info"), "a newer" if schema > SCHEMA else "an older"
        version = info.get("nmsim") if isinstance(info, dict) else None
        raise TraceError(f"written by {age} nmsim ({version}): schema {schema}, this one reads {SCHEMA}")
    for part, kind in _PARTS.items():
        if not isinstance(meta.get(part), kind):
            raise TraceError(f"damaged: {part!r} is missing or not what it should be")
    if odd := sorted(meta.keys() - _PARTS.keys() - {"format", "schema"}):
        raise TraceError(f"damaged: {odd[0]!r:.60} is unknown")


def decode(meta: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Trace:
    """The trace; raises TraceError if the parts do not fit together or are not those that were written."""
    check_schema(meta)
    for part in _NAMES:
        if not all(isinstance(name, str) for name in meta[part]):
            raise TraceError(f"damaged: {part!r} is not a list of names")
    if not _is_count(meta["check_every"], 1):
        raise TraceError(f"damaged: check_every is {meta['check_every']!r:.60}")
    tables: dict[str, dict[str, np.ndarray]] = {
        table: {c: arrays[f"{table}.{c}"].astype(kind) for c, kind in columns.items()}
        for table, columns in TABLES.items()
    }
    _check_lengths(tables)
    _check_codes(tables, meta)
    trace = Trace(
        _workload(meta, tables["ops"]), tables["checked"], tables["evaluations"], tables["intervals"],
        meta["check_every"], meta["info"], meta["schema"], meta["digest"],
    )  # fmt: skip
    if content_digest(trace) != trace.digest:
        raise TraceError("damaged or altered: the contents do not have the digest that was written with them")
    return trace


def _workload(meta: dict[str, Any], columns: dict[str, np.ndarray]) -> Workload:
    names: dict[str, Any] = {part: tuple(meta[part]) for part in ("layers", "kinds", "notes")}
    phases = tuple(_phase(entry) for entry in meta["phases"])
    try:
        patterns = tuple(Pattern.parse(text) for text in meta["patterns"])
        return Workload(meta["name"], columns, patterns=patterns, phases=phases, **names)
    except NmsimError as error:
        raise TraceError(f"damaged: {error}") from None


def _phase(entry: Any) -> Phase:
    match entry:
        case [str(name), first_step, steps] if _is_count(first_step, 0) and _is_count(steps, 1):
            return Phase(name, first_step, steps)
    raise TraceError(f"damaged: {entry!r:.60} is not a phase")


def _check_lengths(tables: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """The columns of a table are of one length, those of `checked` of that of the ops; there is an op."""
    for name, columns in {**tables, "ops": {**tables["ops"], **tables["checked"]}}.items():
        if len({len(values) for values in columns.values()}) != 1:
            raise TraceError(f"damaged: the columns of {name!r} are not of one length")
    if not len(tables["ops"]["m"]):
        raise TraceError("damaged: there are no ops")


def _check_codes(tables: Mapping[str, Mapping[str, np.ndarray]], meta: Mapping[str, Any]) -> None:
    """Every index into a list of names has its name."""
    sizes = {
        "ops": {column: len(names) for column, names in CODES.items()}
        | {column: len(meta[names]) for column, names in DICTIONARIES.items()}
        | {"phase": len(meta["phases"])},
        "intervals": {
            "layer": len(meta["layers"]), "stage": len(STAGES), "operand": len(OPERANDS), "role": len(ROLES)
        },
    }  # fmt: skip
    for table, columns in sizes.items():
        for column, size in columns.items():
            codes = tables[table][column]
            if len(bad := codes[(codes < 0) | (codes >= size)]):
                raise TraceError(f"damaged: {table}.{column} has {bad[0]}, an index into {size} names")


def _is_count(value: object, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and minimum <= value < _MAX
