"""Fleets: one machine whose numbers are arrays, so that an engine evaluates many machines in one call.

A fleet is an ordinary machine in which some numbers, reached by paths such as `memories.dram.bandwidth`, hold an
array with a value for each op. All that is no such number (names, lists, switches) is common to the whole fleet.
Whatever of an engine is arithmetic on arrays works on a fleet as it is; what branches on a number raises instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def with_numbers(arch: Model, numbers: Mapping[str, Any]) -> Model:
    """The machine with the numbers at these dotted paths replaced, not validated; arrays make it a fleet."""
    inner: dict[str, dict[str, Any]] = {}
    own: dict[str, Any] = {}
    for path, value in numbers.items():
        head, _, rest = path.partition(".")
        if rest:
            inner.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    for head, values in inner.items():
        own[head] = with_numbers(getattr(arch, head), values)
    return arch.model_copy(update=own)


def take(arch: Model, rows: np.ndarray) -> Model:
    """The fleet of these rows; a single machine is returned as it is."""
    numbers = dict(_arrays(arch, ""))
    return with_numbers(arch, {path: values[rows] for path, values in numbers.items()}) if numbers else arch


def _arrays(model: BaseModel, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in model.__dict__.items():  # not getattr: looking for arrays is no use of a number
        if isinstance(value, np.ndarray):
            yield prefix + name, value
        elif isinstance(value, BaseModel):
            yield from _arrays(value, f"{prefix}{name}.")


def watched(arch: Model, reads: set[str]) -> Model:
    """A copy of the machine that adds the dotted path of every number to `reads` when it is read.

    What a computation did not read cannot have changed its outcome.
    """
    return _watched(arch, "", reads)


def _watched(model: Model, prefix: str, reads: set[str]) -> Model:
    parts = {
        name: _watched(value, f"{prefix}{name}.", reads)
        for name, value in model.__dict__.items()
        if isinstance(value, BaseModel)
    }
    copy = model.model_copy(update=parts)
    object.__setattr__(copy, "__class__", _watching(type(model)))
    copy.__dict__[_WATCH] = (prefix, reads)
    return copy


_WATCH = "_nmsim_watch"


@cache
def _watching(model: type[BaseModel]) -> type[BaseModel]:
    """The same model, whose instances note which of their fields are read."""
    if hasattr(model, "watching"):
        return model
    fields = frozenset(model.model_fields)

    def read(self: Any, name: str) -> Any:
        if name in fields:
            prefix, reads = object.__getattribute__(self, "__dict__")[_WATCH]
            reads.add(prefix + name)
        return object.__getattribute__(self, name)

    body = {"__getattribute__": read, "__module__": model.__module__, "__annotations__": {}, "watching": _yes}
    metaclass: Any = type(model)
    return metaclass(model.__name__, (model,), body)


def _yes(self: Any) -> bool:
    """Marks the models that watch."""
    return True
