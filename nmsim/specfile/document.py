"""A document: plain data, and the place in the file where each of its values stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nmsim.errors import Problem, SpecError, UnsupportedError, nearest

Path = tuple[str | int, ...]
Position = tuple[int, int]

SET = "--set"
"""The option of the command line that overrides an entry."""

_SEGMENT = re.compile(r"\[([0-9]+)\]|(?:^|(?<!^)\.)([^.\[\]]+)")


def format_path(path: Path) -> str:
    """`path` as it is printed and typed: `layers[3].in`."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return text.removeprefix(".")


def parse_path(text: str, option: str = SET) -> Path:
    """The path that `text` writes, as `layers[3].in`; raises SpecError if it writes none, `option` having given it."""
    path: list[str | int] = []
    end = 0
    while match := _SEGMENT.match(text, end):
        index, name = match.groups()
        path.append(name if index is None else int(index[:9]))
        end = match.end()
    if not path or end != len(text):
        message = "not a path; write it as memories.dram.bandwidth or array.dataflows[0]"
        raise SpecError([OverrideProblem(f"{option} {text}", 1, 1, "", message)])
    return tuple(path)


class OverrideProblem(Problem):
    """A mistake in an override, which has a text but no line in a file."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.path, self.message) if part)


class MisfitError(UnsupportedError, ValueError):
    """A value that does not go with the others: `at` is its path and `message` what is wrong there.

    A validator of a model raises it with the path below the model, so that the mistake is found at its place.
    """

    def __init__(self, message: str, at: Path = (), owner: str = ""):
        self.message, self.at, self.owner = message, at, owner
        super().__init__(": ".join(part for part in (owner, format_path(at), message) if part))


@dataclass(frozen=True)
class Document:
    """The plain data of one file: dicts with text keys, lists, texts, numbers, booleans and None; not to be changed.

    `positions` maps the path of every value to its 1-based line and column; that of a mapping or list under a key is
    the position of its key, because the key names it. `keys` maps the path of every mapping entry to its key.
    `overrides` holds the entries that `set_path` replaced, with the text that replaced them, in order; `option` is what
    messages call an override.
    """

    file: str
    data: object
    positions: Mapping[Path, Position]
    keys: Mapping[Path, Position] = field(default_factory=dict)
    overrides: tuple[tuple[Path, str], ...] = ()
    option: str = SET

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
        if found := obstacle(self.data, path, create=False):
            raise SpecError([self.problem(*found)])
        data: Any = self.data
        for step in path:
            data = data[step]
        return data

    def _override_at(self, path: Path) -> str | None:
        """The override that wrote `path`, or that is the only reason why `path` exists."""
        for done, text in reversed(self.overrides):
            if path[: len(done)] == done or (path not in self.positions and done[: len(path)] == path):
                return f"{self.option} {format_path(done)}={text}"
        return None

    def overridden_below(self, path: Path) -> str:
        """The overrides of entries below `path`, for a message on all of it: " (with --set …)"; empty without any."""
        below = [
            f"{self.option} {format_path(done)}={text}" for done, text in self.overrides if done[: len(path)] == path
        ]
        return f" (with {', '.join(below)})" if below else ""

    def _position(self, path: Path, at_key: bool) -> Position:
        if at_key and path in self.keys:
            return self.keys[path]
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, (1, 1))


def obstacle(data: Any, path: Path, *, create: bool) -> tuple[Path, str] | None:
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
        form = f"; write [{step}] for an entry of a list" if isinstance(step, str) and step.isdecimal() else ""
        return f"no entry {format_path((step,))} here: this is a list with {entries}{form}"
    if isinstance(step, int):
        return f"no entry [{step}] here: this is not a list{_nearest(data, str(step))}"
    if isinstance(data, dict):
        return None if create or step in data else f"no entry {step!r} here{_nearest(data, step)}"
    return None if create and data is None else f"no entry {step!r} here: this is {data!r}, not a mapping"


def _nearest(data: object, step: str) -> str:
    names = [str(k) for k in data] if isinstance(data, dict) else []
    close = nearest(step, names) or names[:12]
    return f"; nearest: {', '.join(close)}" if close else ""
