"""The machines of a space: the numbers of their files that may vary, and which of them an engine takes as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from nmsim.arch.fleet import watched, with_numbers
from nmsim.arch.load import load_arch
from nmsim.arch.schema import AnyArch
from nmsim.errors import UnsupportedError, unknown
from nmsim.sweeps.columns import Column, combine

_CONFIG = ConfigDict(strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Leaf:
    """A number of a machine that can vary: its own `value`, whether it is `whole`, and how it is read from a file."""

    value: Any
    whole: bool
    parse: Callable[[Any], Any]


@lru_cache(maxsize=256)
def loaded(name: str, overrides: tuple[tuple[str, Any], ...] = ()) -> AnyArch:
    """The validated machine, read once per process."""
    return load_arch(name, dict(overrides))


def leaf(machine: str, path: str) -> Leaf | None:
    """The number at a path of a machine; None for what is no number, or stands in a list or mapping of the file.

    Raises UnsupportedError naming the nearest field for a path that does not exist.
    """
    value: Any = loaded(machine)
    for name in path.split("."):
        model = value
        if not isinstance(model, BaseModel):
            return None
        _require(model, machine, path, name)
        if "[" in name:
            return None
        value = getattr(model, name)
    field = type(model).model_fields[name]
    annotated: Any = Annotated[field.annotation, *field.metadata, None]
    adapter: TypeAdapter[Any] = TypeAdapter(annotated, config=_CONFIG)
    examples = [value] if value is not None else _examples(adapter)
    if not examples or isinstance(examples[0], bool) or not isinstance(examples[0], int | float):
        return None
    return Leaf(value, isinstance(examples[0], int), lambda given: _parsed(adapter, given))


def _require(model: BaseModel, machine: str, path: str, name: str) -> None:
    if name.split("[")[0] not in type(model).model_fields:
        fields = sorted(type(model).model_fields)
        raise UnsupportedError(f"{machine}: {path}: {unknown('field', name, fields)}")


def _examples(adapter: TypeAdapter[Any]) -> list[Any]:
    found = []
    for example in (1, 1.0, "1 B/clk", "1 s", "1 B", "1 GHz", "1 W", "1 GB/s"):
        try:
            found.append(adapter.validate_python(example))
        except ValidationError:
            continue
    return [x for x in found if x is not None]


def _parsed(adapter: TypeAdapter[Any], given: Any) -> Any:
    try:
        return adapter.validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UnsupportedError(str(first.get("ctx", {}).get("error") or f"{first['msg']}, got {given!r}")) from None


def refusals(arch: AnyArch, numbers: Mapping[str, Column]) -> tuple[np.ndarray, list[str]]:
    """A code per point [points] into the messages of those machines that the checks of the schema refuse; 0 is good.

    Only combinations of the numbers that a check reads are checked, each once.
    """
    size = len(next(iter(numbers.values())).codes) if numbers else 0
    reads: set[str] = set()
    for model in _models(watched(arch, reads)):
        _refusal(model)
    concerned = [path for path in numbers if path in reads]
    codes, messages = np.zeros(size, np.int64), [""]
    if not concerned:
        return codes, messages
    groups, first = combine([numbers[path].codes for path in concerned], size)
    found = np.zeros(len(first), np.int64)
    for group, row in enumerate(first):
        machine = with_numbers(arch, {p: _plain(numbers[p].values[numbers[p].codes[row]]) for p in concerned})
        why = next((text for model in _models(machine) if (text := _refusal(model))), "")
        if why:
            messages.append(why)
            found[group] = len(messages) - 1
    return found[groups], messages


def _models(model: BaseModel) -> Iterator[BaseModel]:
    """The model and all below it."""
    yield model
    for value in list(model.__dict__.values()):
        if isinstance(value, BaseModel):
            yield from _models(value)


def _refusal(model: BaseModel) -> str:
    """Why the checks that follow validation refuse the model; empty if they do not."""
    try:
        for check in type(model).__pydantic_decorators__.model_validators.values():
            if check.info.mode == "after":
                check.func(model)
    except ValueError as error:
        return str(error)
    return ""


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def splits(
    numbers: Mapping[str, Column], same: Callable[[str, Sequence[Any]], bool]
) -> tuple[dict[str, Column], dict[str, Column]]:
    """The numbers that the engine takes as arrays, and those that it does not.

    `same` tries one with two of its values, and tells whether an array gives what single machines give.
    """
    arrays: dict[str, Column] = {}
    single: dict[str, Column] = {}
    for path, column in numbers.items():
        used = np.unique(column.codes[[0, -1]]) if len(column.codes) else np.zeros(0, int)
        values = [_plain(column.values[code]) for code in used]
        if len(values) < 2:
            values = [values[0], _other(column, values[0])]
        (arrays if same(path, values) else single)[path] = column
    return arrays, single


def _other(column: Column, value: Any) -> Any:
    """Another value of the column, or one that is near."""
    for other in column.values[:2]:
        if other != value:
            return _plain(other)
    return value + 1 if isinstance(value, int) else math.nextafter(value, math.inf)
