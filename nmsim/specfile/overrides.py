"""Overrides: an entry of a document replaced by a value that the command line or a caller gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nmsim.errors import Problem, SpecError
from nmsim.specfile.document import Document, OverrideProblem, Path, format_path, obstacle, parse_path
from nmsim.specfile.read import read_text
from nmsim.specfile.scalars import resolve


def set_path(document: Document, path: str, value: object) -> Document:
    """`document` with the entry at `path` (as `memories.dram.bandwidth`) replaced by `value`.

    A text is read as an unquoted YAML scalar, so "32" is a number and "25.6 GB/s" a text; one that begins with a
    bracket as a YAML list or mapping, so "[os, ws]" is a list. Missing mappings on the way
    are made; the model that validates the document tells whether they may exist. Raises SpecError for a path that goes
    through a scalar or past the end of a list, and for a value that is no plain data.
    """
    option = document.option
    steps = parse_path(path, option)
    shown = value if isinstance(value, str) else str(value)
    try:
        plain = _plain(value)
    except SpecError as error:
        raise SpecError([_misread(f"{option} {path}={shown}", p.message) for p in error.problems]) from None
    except ValueError as error:
        raise SpecError([_misread(f"{option} {path}={shown}", str(error))]) from None
    if found := obstacle(document.data, steps, create=True):
        where, why = found
        raise SpecError([OverrideProblem(f"{option} {path}={shown}", 1, 1, format_path(where), why)])
    data = _replaced(document.data, steps, plain)
    return replace(document, data=data, overrides=(*document.overrides, (steps, shown)))


def _misread(override: str, message: str) -> Problem:
    return OverrideProblem(override, 1, 1, "", message)


def _plain(value: object) -> object:
    """`value` as plain data; NumPy scalars, which sweeps pass, become Python numbers."""
    if isinstance(value, str):
        return read_text(value).data if value.lstrip()[:1] in ("[", "{") else resolve(value)
    if isinstance(value, Mapping):
        return {str(k): v if isinstance(v, str) else _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [v if isinstance(v, str) else _plain(v) for v in value]
    value = value.item() if hasattr(value, "item") else value
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ValueError(f"cannot be set to a {type(value).__name__}; give a text, a number, true, false or null")


def _replaced(data: object, steps: Path, value: object) -> object:
    """A copy of `data` with `value` at `steps`; the parts off the path are shared."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(data, list) and isinstance(step, int):
        return [*data[:step], _replaced(data[step], rest, value), *data[step + 1 :]]
    entries = data if isinstance(data, dict) else {}
    return {**entries, step: _replaced(entries.get(step), rest, value)}
