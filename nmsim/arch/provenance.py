"""Where the numbers of an architecture file come from: the `source:`, `assumed:` or `calibrated:` beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel

from nmsim.errors import Problem
from nmsim.specfile import Document, Path

Kind = Literal["source", "assumed", "calibrated", "override"]

MARKS: tuple[Kind, ...] = ("source", "assumed", "calibrated")
_VALUE_KEYS = {"value", "note", *MARKS}
_NEVER_NUMBERS = {("name",), ("kind",), ("description",), ("title",)}


@dataclass(frozen=True)
class Provenance:
    """What a number rests on: a source, an assumption, a fit (calibrated), or an override on the command line."""

    kind: Kind
    text: str


def split(document: Document) -> tuple[Document, dict[Path, Provenance], list[Problem]]:
    """The document without its marks, the provenance of every number, and a problem for every number without one.

    A mark in a mapping holds for all numbers in it and below that have none of their own; `{value: 32, source: "…"}`
    stands for 32. A number is a number or a text that begins with a digit ("25.6 GB/s"). A list without mappings is
    one number. The positions of the result are those of the values in the file.
    """
    splitter = _Splitter(document)
    data = splitter.strip(document.data, (), (), None)
    stripped = replace(document, data=data, positions=splitter.positions, keys=splitter.keys)
    return stripped, splitter.provenance, splitter.problems


@dataclass
class _Splitter:
    document: Document
    provenance: dict[Path, Provenance] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    positions: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def strip(self, data: Any, old: Path, new: Path, inherited: Provenance | None) -> object:
        """`data`, at `old` in the file and `new` in the result, without marks."""
        self._move(old, new)
        own = self._override(old) or inherited
        if isinstance(data, dict):
            return self._strip_mapping(data, old, new, own)
        if not _is_leaf(data):
            return [self.strip(v, (*old, i), (*new, i), own) for i, v in enumerate(data)]
        for below in _indices(data):
            self._move(old + below, new + below)
        if new not in _NEVER_NUMBERS and _has_number(data):
            self._record(old, new, own)
        return data

    def _strip_mapping(self, data: dict[str, Any], old: Path, new: Path, inherited: Provenance | None) -> object:
        own = self._mark(data, old) or inherited
        if "value" in data and set(data) <= _VALUE_KEYS:
            value = self.strip(data["value"], (*old, "value"), new, own)
            self._move(old, new, key_only=True)
            return value
        return {k: self.strip(v, (*old, k), (*new, k), own) for k, v in data.items() if k not in MARKS}

    def _mark(self, data: dict[str, Any], path: Path) -> Provenance | None:
        """The mark written in the mapping `data`, after noting what is wrong with it."""
        marks = [m for m in data if m in MARKS]
        if len(marks) > 1:
            self._note((*path, marks[1]), f"a number has one origin, but {' and '.join(marks)} stand side by side")
        for mark in marks:
            if not isinstance(data[mark], str) or not data[mark].strip():
                self._note((*path, mark), f"needs a text that says {_ASKED[mark]}")
        return next((Provenance(m, str(data[m])) for m in MARKS if m in data), None)

    def _record(self, old: Path, new: Path, own: Provenance | None) -> None:
        if own:
            self.provenance[new] = own
        else:
            form = '{value: …, source: "…"}'
            self._note(old, f"needs source:, assumed: or calibrated: beside it or above it, or the form {form}")

    def _override(self, path: Path) -> Provenance | None:
        for done, text in reversed(self.document.overrides):
            if path[: len(done)] == done:
                return Provenance("override", text)
        return None

    def _move(self, old: Path, new: Path, *, key_only: bool = False) -> None:
        if old in self.document.keys:
            self.keys[new] = self.document.keys[old]
        if old in self.document.positions and not key_only:
            self.positions[new] = self.document.positions[old]

    def _note(self, path: Path, message: str) -> None:
        self.problems.append(self.document.problem(path, message))


_ASKED = {
    "source": "where the number was published or measured",
    "assumed": "why the number was assumed",
    "calibrated": "what the number was fitted to",
}


def _is_leaf(data: object) -> bool:
    """Whether `data` is a scalar or a list of leaves."""
    return all(map(_is_leaf, data)) if isinstance(data, list) else not isinstance(data, dict)


def _has_number(data: object) -> bool:
    if isinstance(data, list):
        return any(map(_has_number, data))
    if isinstance(data, str):
        return data[:1].isdecimal()
    return isinstance(data, int | float) and not isinstance(data, bool)


def _indices(data: object) -> Iterator[Path]:
    """The paths of everything below a leaf list."""
    for i, item in enumerate(data if isinstance(data, list) else ()):
        yield (i,)
        yield from ((i, *below) for below in _indices(item))


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of the files of `model`, marks included: the schema of the stripped document, in which every
    scalar and list may also be `{value, source | assumed | calibrated, note}` and every mapping may hold a mark.
    """
    schema = model.model_json_schema()
    schema["$defs"] = {name: _marked(part, schema) for name, part in schema.get("$defs", {}).items()}
    return _marked(schema, schema)


_MARK_PROPERTIES: dict[str, Any] = {
    mark: {"type": "string", "minLength": 1, "description": _ASKED[mark]} for mark in MARKS
}


def _marked(part: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema `part` with marks allowed in its mapping and in every mapping and leaf below."""
    part = dict(part)
    for many in ("anyOf", "oneOf", "prefixItems"):
        if many in part:
            part[many] = [_marked(p, root) for p in part[many]]
    for one in ("items", "additionalProperties"):
        if isinstance(part.get(one), dict):
            part[one] = _entry(part[one], root)
    if part.get("type") == "object":
        entries = {name: _entry(p, root) for name, p in part.get("properties", {}).items()}
        part["properties"] = _MARK_PROPERTIES | entries
    return part


def _entry(part: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema of an entry: a mapping with marks, or a leaf in place or as a mapping with `value`."""
    if _is_object(part, root) or "const" in part:  # a constant tells the kinds of a union apart and is no number
        return _marked(part, root)
    outer: dict[str, Any] = {key: part[key] for key in part if key in ("title", "description", "default")}
    plain = {key: value for key, value in part.items() if key not in outer}
    entries: dict[str, Any] = {"value": plain, **_MARK_PROPERTIES, "note": {"type": "string"}}
    valued = {"type": "object", "properties": entries, "required": ["value"], "additionalProperties": False}
    return outer | {"anyOf": [_marked(plain, root), valued]}


def _is_object(part: dict[str, Any], root: dict[str, Any]) -> bool:
    if "$ref" in part:
        return _is_object(root["$defs"][part["$ref"].rsplit("/", 1)[-1]], root)
    choices = part.get("anyOf", part.get("oneOf", ()))
    return part.get("type") == "object" or any(_is_object(p, root) for p in choices)
