"""From a document to a model; every mistake becomes a problem with its place, what is allowed, the nearest name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from nmsim.errors import Problem, SpecError, unknown
from nmsim.specfile.document import Document, MisfitError, Path
from nmsim.specfile.places import Place

M = TypeVar("M", bound=BaseModel)


class Spec(BaseModel):
    """Base of every model of a file: no unknown fields, no change afterwards, no text or boolean taken for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)


def validate(model: type[M], document: Document, prefix: Path = ()) -> M:
    """An instance of `model` from the data of `document` at `prefix`; raises SpecError with every mistake, or with the
    one that the file is of another `kind`."""
    # Through JSON, because there strictness takes a list for a tuple, as files have no tuples.
    text = json.dumps(document.at(prefix))
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        problems = list(_problems(model, document, prefix, error))
        raise SpecError([p for p in problems if p.path == "kind"] or problems) from None


def _problems(model: type[BaseModel], document: Document, prefix: Path, error: ValidationError) -> Iterable[Problem]:
    """One problem per mistake; what the members of a union expected at one place is one mistake."""
    mismatches: dict[Path, list[Any]] = {}
    for e in error.errors(include_url=False):
        place = Place.of(model).walk(e["loc"])
        if _expected(e):
            mismatches.setdefault(prefix + place.path, []).append(e)
        else:
            yield _problem(document, prefix, place, e)
    for path, errors in mismatches.items():
        yield document.problem(path, _mismatch(errors))


def _mismatch(errors: list[Any]) -> str:
    """The message for a value that is none of the things that may stand in its place."""
    given = errors[0]["input"]
    names = list(dict.fromkeys(name for e in errors for name in _expected(e)))
    if isinstance(given, str) and all(e["type"] in _CHOICES for e in errors):
        return unknown("value", given, names)
    choices = " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
    return f"expected {choices}, got {_show(given)}"


def _problem(document: Document, prefix: Path, place: Place, error: Any) -> Problem:
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    path = prefix + place.path
    match kind:
        case "extra_forbidden":
            return document.problem(path, unknown("field", path[-1], place.siblings()), at_key=True)
        case "missing":
            return document.problem(path, "is missing" + (f": {place.meaning()}" if place.meaning() else ""))
        case "union_tag_invalid":
            path = (*path, context["discriminator"].strip("'"))
            return document.problem(path, unknown("value", context["tag"], _quoted(context["expected_tags"])))
        case "union_tag_not_found":
            name = context["discriminator"].strip("'")
            return document.problem((*path, name), f"is missing; allowed: {', '.join(place.tags(name))}")
        case "value_error" | "assertion_error":
            why = context["error"]
            if isinstance(why, MisfitError):
                return document.problem(path + why.at, why.message)
            return document.problem(path, f"{why}{document.overridden_below(path)}")
    return document.problem(path, _bound(kind, context, given) or f"{error['msg']}, got {_show(given)}")


_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}
_LENGTHS = {"too_short": ("at least", "min_length"), "too_long": ("at most", "max_length")}


def _bound(kind: str, context: dict[str, Any], given: object) -> str | None:
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"must be {words} {context[name]:g}, got {_show(given)}"
    if kind.removeprefix("string_") in _LENGTHS:
        words, name = _LENGTHS[kind.removeprefix("string_")]
        items = "characters" if kind.startswith("string_") else "entries"
        return f"must have {words} {context[name]} {items}, got {_show(given)}"
    return None


_CHOICES = ("literal_error", "enum")
_TYPES = {
    "int": "an integer", "float": "a number", "string": "a text", "bool": "true or false", "none_required": "null",
    "list": "a list", "tuple": "a list", "set": "a list", "frozen_set": "a list", "dict": "a mapping",
    "mapping": "a mapping", "model": "a mapping", "model_attributes": "a mapping", "finite_number": "a finite number",
}  # fmt: skip


def _expected(error: Any) -> list[str]:
    """What should stand here instead, if being something else is all that is wrong."""
    if error["type"] in _CHOICES:
        return _quoted(error["ctx"]["expected"])
    if error["type"] in ("int_from_float", "int_parsing_size"):
        return ["an integer"]
    name = _TYPES.get(error["type"].removesuffix("_type"))
    return [name] if name else []


def _quoted(text: str) -> list[str]:
    """The words of pydantic's list `'a', 'b' or 3`."""
    return [quoted or bare for quoted, bare in re.findall(r"'([^']*)'|(-?[0-9]+)", text)]


def _show(value: object) -> str:
    """A value as the file writes it, cut short."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
