"""A document: plain data, and the place in the file where each of its values stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nmsim.errors import Problem, SpecError, nearest
from nmsim.specfile.scalars import resolve

Path = tuple[str | int, ...]
Position = tuple[int, int]

_SEGMENT = re.compile(r"\[([0-9]+)\]|(?:^|(?<!^)\.)([^.\[\]]+)")


def format_path(path: Path) -> str:
    """`path` as it is printed and typed: `layers[3].in`."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return text.removeprefix(".")


def parse_path(text: str) -> Path:
    """The path that `text` writes, as `layers[3].in`; raises SpecError if it writes none."""
    path: list[str | int] = []
    end = 0
    while match := _SEGMENT.match(text, end):
        index, name = match.groups()
        path.append(name if index is None else int(index[:9]))
        end = match.end()
    if not path or end != len(text):
        raise SpecError([OverrideProblem(f"--set {text}", 1, 1, "", "not a path; write it as memories.dram.bandwidth")])
    return tuple(path)


class OverrideProblem(Problem):
    """A mistake in an override, which has a text but no line in a file."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.path, self.message) if part)


@dataclass(frozen=True)
class Document:
    """The plain data of one file: dicts with text keys, lists, texts, numbers, booleans and None; not to be changed.

    `positions` maps the path of every value to its 1-based line and column; that of a mapping or list under a key is
    the position of its key, because the key names it. `keys` maps the path of every mapping entry to its key.
    `overrides` holds the entries that `set_path` replaced, with the text that replaced them, in order.
    """

    file: str
    data: object
    positions: Mapping[Path, Position]
    keys: Mapping[Path, Position] = field(default_factory=dict)
    overrides: tuple[tuple[Path, str], ...] = ()

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> Problem:
        """The mistake `message` at `path`: at its value, its key, or the nearest ancestor that is in the file."""
        if override := self._override_at(path):
            return OverrideProblem(override, 1, 1, format_path(path), message)
        line, column = self._position(path, at_key)
        return Problem(self.file, line, column, format_path(path), message)

    def with_data(self, data: object) -> Document:
        """The same document with other data at the same positions."""
        return replace(self, data=data)

    def at(self, path: Path) -> object:
        """The data at `path`; raises SpecError, naming the nearest entry, where there is none."""
        if obstacle := _obstacle(self.data, path, create=False):
            raise SpecError([self.problem(*obstacle)])
        data: Any = self.data
        for step in path:
            data = data[step]
        return data

    def _override_at(self, path: Path) -> str | None:
        """The override that wrote `path`, or that is the only reason why `path` exists."""
        for done, text in reversed(self.overrides):
            if path[: len(done)] == done or (path not in self.positions and done[: len(path)] == path):
                return f"--set {format_path(done)}={text}"
        return None

    def _position(self, path: Path, at_key: bool) -> Position:
        if at_key and path in self.keys:
            return self.keys[path]
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, (1, 1))


def set_path(document: Document, path: str, value: object) -> Document:
    """`document` with the entry at `path` (as `memories.dram.bandwidth`) replaced by `value`.

    A text is read as an unquoted YAML scalar, so "32" is a number and "25.6 GB/s" a text. Missing mappings on the way
    are made; the model that validates the document tells whether they may exist. Raises SpecError for a path that goes
    through a scalar or past the end of a list, and for a value that is no plain data.
    """
    steps = parse_path(path)
    shown = value if isinstance(value, str) else str(value)
    try:
        plain = _plain(value)
    except ValueError as error:
        raise SpecError([OverrideProblem(f"--set {path}={shown}", 1, 1, "", str(error))]) from None
    if obstacle := _obstacle(document.data, steps, create=True):
        where, why = obstacle
        raise SpecError([OverrideProblem(f"--set {path}={shown}", 1, 1, format_path(where), why)])
    data = _replaced(document.data, steps, plain)
    return replace(document, data=data, overrides=(*document.overrides, (steps, shown)))


def _plain(value: object) -> object:
    """`value` as plain data; NumPy scalars, which sweeps pass, become Python numbers."""
    if isinstance(value, str):
        return resolve(value)
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


def _obstacle(data: Any, path: Path, *, create: bool) -> tuple[Path, str] | None:
    """Where on the way along `path` nothing can follow, and why; with `create` missing mappings are no obstacle."""
    for depth, step in enumerate(path):
        if why := _no_entry(data, step, create=create):
            return path[:depth], why
        data = data[int(step)] if isinstance(data, list) else (data or {}).get(step)
    return None


def _no_entry(data: object, step: str | int, *, create: bool) -> str | None:
    if isinstance(data, list):
        if isinstance(step, int) and step < len(data):
            return None
        entries = f"the entries [0] to [{len(data) - 1}]" if data else "no entries"
        return f"no entry {format_path((step,))} here: this is a list with {entries}"
    if isinstance(step, int):
        return f"no entry [{step}] here: this is not a list{_nearest(data, str(step))}"
    if isinstance(data, dict):
        return None if create or step in data else f"no entry {step!r} here{_nearest(data, step)}"
    return None if create and data is None else f"no entry {step!r} here: this is {data!r}, not a mapping"


def _nearest(data: object, step: str) -> str:
    names = [str(k) for k in data] if isinstance(data, dict) else []
    close = nearest(step, names) or names[:12]
    return f"; nearest: {', '.join(close)}" if close else ""
